package record_test

import (
	"net/netip"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/record"
)

const id = "0123456789ab0123456789ab0123456789ab0123456789ab0123456789abcdef"

// inst is a running container "web" with one address.
func inst(change func(*record.Instance)) record.Instance {
	in := record.Instance{
		Account: "admin", Name: "web", ID: id, Running: true,
		Labels:    map[string]string{},
		Endpoints: []record.Endpoint{{Network: "bridge", Pointer: true, Addresses: []netip.Addr{netip.MustParseAddr("10.1.2.3")}}},
	}
	change(&in)
	return in
}

var inner = record.Zone{Apex: "dc1.cns.internal.", TTL: record.TTL}

// lines are the records and problems, one a line; problems begin with "!". What every name has, the text with the id and
// the alias for metrics, is left out.
func lines(z record.Zone, in record.Instance) string {
	records, problems := record.Build(z, in)
	var all []string
	for _, r := range records {
		if r.Data != id && r.Type != record.CNAME {
			all = append(all, r.String())
		}
	}
	for _, p := range problems {
		all = append(all, "! "+p.String())
	}
	return strings.Join(all, "\n")
}

const (
	instA   = "web.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3"
	instPTR = "3.2.1.10.in-addr.arpa. 30 IN PTR web.inst.admin.dc1.cns.internal."
)

func TestBuild(t *testing.T) {
	tests := []struct {
		name   string
		change func(*record.Instance)
		want   string
	}{
		{"by name and short id", func(in *record.Instance) {}, instA + "\n" + instPTR},
		{"upper case is lowered", func(in *record.Instance) { in.Name = "WEB" }, instA + "\n" + instPTR},
		{"underscore becomes a hyphen", func(in *record.Instance) { in.Name = "We_b.1_" },
			strings.ReplaceAll(instA+"\n"+instPTR, "web.", "we-b-1.")},
		{"name too long for a label is left out", func(in *record.Instance) { in.Name = strings.Repeat("x", 64) },
			"0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n" +
				"3.2.1.10.in-addr.arpa. 30 IN PTR 0123456789ab.inst.admin.dc1.cns.internal.\n" +
				`! name: "` + strings.Repeat("x", 64) + `" has 64 characters, a DNS label has at most 63`},
		{"not running has nothing", func(in *record.Instance) { in.Running = false }, "! instance: not running"},
		{"account that is no label has nothing", func(in *record.Instance) { in.Account = "a_b" },
			`! account: "a_b" holds '_': a DNS label has letters, digits and hyphens only`},
		{"both families", func(in *record.Instance) {
			in.Endpoints[0].Addresses = append(in.Endpoints[0].Addresses, netip.MustParseAddr("fd00::1"))
		}, `web.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3
web.inst.admin.dc1.cns.internal. 30 IN AAAA fd00::1
0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3
0123456789ab.inst.admin.dc1.cns.internal. 30 IN AAAA fd00::1
` + instPTR + `
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 30 IN PTR web.inst.admin.dc1.cns.internal.`},
		{"no address, no records", func(in *record.Instance) { in.Endpoints = nil }, ""},
		{"service with port", func(in *record.Instance) { in.Labels["nereid.cns.services"] = "api:80" },
			instA + `
api.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
api.svc.admin.dc1.cns.internal. 30 IN SRV 0 0 80 web.inst.admin.dc1.cns.internal.
` + instPTR},
		{"several services, keys, spaces; the last of a key counts", func(in *record.Instance) {
			in.Labels["triton.cns.services"] = " api:80:priority=5:weight=7:port=81 ,, Admin "
		}, instA + `
api.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
api.svc.admin.dc1.cns.internal. 30 IN SRV 5 7 81 web.inst.admin.dc1.cns.internal.
admin.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
` + instPTR},
		{"one service at two ports", func(in *record.Instance) { in.Labels["nereid.cns.services"] = "api:80,api:443" },
			instA + `
api.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
api.svc.admin.dc1.cns.internal. 30 IN SRV 0 0 80 web.inst.admin.dc1.cns.internal.
api.svc.admin.dc1.cns.internal. 30 IN SRV 0 0 443 web.inst.admin.dc1.cns.internal.
` + instPTR},
		{"our label goes before triton's", func(in *record.Instance) {
			in.Labels["nereid.cns.services"], in.Labels["triton.cns.services"] = "ours", "theirs"
		}, instA + "\nours.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n" + instPTR},
		{"bad entries are left out, good ones stay", func(in *record.Instance) {
			in.Labels["nereid.cns.services"] = "a_b:1,ok,x:70000,y:color=1,z:port=,w:0"
		}, instA + `
ok.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
` + instPTR + `
! nereid.cns.services: service "a_b:1": "a_b" holds '_': a DNS label has letters, digits and hyphens only
! nereid.cns.services: service "x:70000": port "70000" is no number from 0 to 65535
! nereid.cns.services: service "y:color=1": key "color" is not one of port, priority, weight
! nereid.cns.services: service "z:port=": port "" is no number from 0 to 65535
! nereid.cns.services: service "w:0": port 0 cannot be reached`},
		{"compose service", func(in *record.Instance) {
			in.Labels["com.docker.compose.service"], in.Labels["com.docker.compose.project"] = "db", "Shop"
		}, instA + `
db.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
db.shop.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
` + instPTR},
		{"compose service whose project is no label", func(in *record.Instance) {
			in.Labels["com.docker.compose.service"], in.Labels["com.docker.compose.project"] = "db", "_"
		}, instA + `
db.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
` + instPTR + `
! com.docker.compose.project: an empty name is no DNS label`},
		{"compose service with underscores", func(in *record.Instance) {
			in.Labels["com.docker.compose.service"], in.Labels["com.docker.compose.project"] = "my_db", "my_shop"
		}, instA + `
my-db.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
my-db.my-shop.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
` + instPTR},
		{"service without a port has those that are published", func(in *record.Instance) {
			in.Labels["nereid.cns.services"] = "api"
			in.Ports = []record.Port{{Container: 443, Host: 8443}, {Container: 80, Host: 8080}, {Container: 80, Host: 8081}}
		}, instA + `
api.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
api.svc.admin.dc1.cns.internal. 30 IN SRV 0 0 80 web.inst.admin.dc1.cns.internal.
api.svc.admin.dc1.cns.internal. 30 IN SRV 0 0 443 web.inst.admin.dc1.cns.internal.
` + instPTR},
		{"challenges of ACME below every name", func(in *record.Instance) {
			in.Labels["nereid.cns.services"], in.Labels["triton.cns.acme-challenge"] = "api", "tok-1, tok_2"
			in.Challenges = []string{"later"}
		}, instA[:strings.Index(instA, "\n")] + challenges("web.inst") + instA[strings.Index(instA, "\n"):] + challenges("0123456789ab.inst") + `
api.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3` + challenges("api.svc") + "\n" + instPTR},
		{"challenge that is none", func(in *record.Instance) { in.Labels["nereid.cns.acme-challenge"] = "a b" },
			instA + "\n" + instPTR + "\n" + `! nereid.cns.acme-challenge: "a b" is no URL-safe base64`},
		{"compose run is no part of the service", func(in *record.Instance) {
			in.Labels["com.docker.compose.service"], in.Labels["com.docker.compose.oneoff"] = "db", "True"
		}, instA + "\n" + instPTR + "\n! com.docker.compose.service: a one-off command of compose is no part of its service"},
		{"the same service by label and by compose is one", func(in *record.Instance) {
			in.Labels["com.docker.compose.service"], in.Labels["nereid.cns.services"] = "db", "db"
		}, instA + "\ndb.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n" + instPTR},
		{"not serving: inst only", func(in *record.Instance) {
			in.Labels["nereid.cns.services"] = "api:80"
			in.NotServing = "health: starting"
		}, instA + "\n" + instPTR + "\n! service api: health: starting"},
		{"status down: inst only", func(in *record.Instance) {
			in.Labels["nereid.cns.services"], in.Labels["nereid.cns.status"] = "api", "down"
		}, instA + "\n" + instPTR + "\n! service api: taken out by label, status down"},
		{"status that is no status", func(in *record.Instance) { in.Labels["triton.cns.status"] = "dwon" },
			instA + "\n" + instPTR + "\n" + `! triton.cns.status: "dwon" is neither up nor down`},
		{"disabled", func(in *record.Instance) { in.Labels["nereid.cns.disable"] = "true" }, "! instance: disabled by label"},
		{"disabled without a value", func(in *record.Instance) { in.Labels["triton.cns.disable"] = "" }, "! instance: disabled by label"},
		{"down at run time", func(in *record.Instance) { in.Labels["nereid.cns.services"], in.Down = "api", true },
			instA + "\n" + instPTR + "\n! service api: taken out at run time, status down"},
		{"up at run time, down by label", func(in *record.Instance) {
			in.Labels["nereid.cns.services"], in.Labels["nereid.cns.status"], in.Up = "api", "down", true
		}, instA + "\napi.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n" + instPTR},
		{"disabled: false", func(in *record.Instance) { in.Labels["nereid.cns.disable"] = "false" }, instA + "\n" + instPTR},
		{"disable that is no switch disables, as Triton does", func(in *record.Instance) { in.Labels["nereid.cns.disable"] = "maybe" },
			`! nereid.cns.disable: "maybe" is neither true nor false; taken for true` + "\n! instance: disabled by label"},
		{"what stands behind the port has a key", func(in *record.Instance) { in.Labels["nereid.cns.services"] = "a:80:81,b:weight=1:80,c:9=9" },
			instA + "\n" + instPTR + `
! nereid.cns.services: service "a:80:81": "81" is not key=value
! nereid.cns.services: service "b:weight=1:80": "80" is not key=value
! nereid.cns.services: service "c:9=9": key "9" is not one of port, priority, weight`},
		{"reverse_ptr", func(in *record.Instance) { in.Labels["nereid.cns.reverse_ptr"] = "Mail.Example.com" },
			instA + "\n3.2.1.10.in-addr.arpa. 30 IN PTR mail.example.com."},
		{"reverse_ptr that is no name", func(in *record.Instance) { in.Labels["triton.cns.reverse_ptr"] = "a..b" },
			instA + "\n" + instPTR + "\n! triton.cns.reverse_ptr: an empty name is no DNS label"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, lines(inner, inst(tc.change)), tc.want)
		})
	}
}

func challenges(name string) (lines string) {
	for _, c := range []string{"tok-1", "tok_2", "later"} {
		lines += "\n_acme-challenge." + name + ".admin.dc1.cns.internal. 30 IN TXT \"" + c + `"`
	}
	return lines
}

func TestOuterZone(t *testing.T) {
	ext := record.Zone{Apex: "ext.example.com.", TTL: 60, Outer: true}
	host := []record.Endpoint{{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	tests := []struct {
		name   string
		change func(*record.Instance)
		want   string
	}{
		{"SRV has the host's port", func(in *record.Instance) {
			in.Endpoints, in.Labels["nereid.cns.services"] = host, "web:80"
			in.Ports = []record.Port{{Container: 80, Host: 32768}, {Container: 443, Host: 32769}}
		}, `web.inst.admin.ext.example.com. 60 IN A 192.0.2.1
0123456789ab.inst.admin.ext.example.com. 60 IN A 192.0.2.1
web.svc.admin.ext.example.com. 60 IN A 192.0.2.1
web.svc.admin.ext.example.com. 60 IN SRV 0 0 32768 web.inst.admin.ext.example.com.`},
		{"service whose port is not published is not there", func(in *record.Instance) {
			in.Endpoints, in.Labels["nereid.cns.services"] = host, "web:80"
			in.Ports = []record.Port{{Container: 443, Host: 32769}}
		}, `web.inst.admin.ext.example.com. 60 IN A 192.0.2.1
0123456789ab.inst.admin.ext.example.com. 60 IN A 192.0.2.1
! service web: its port 80 is not published`},
		{"nothing published", func(in *record.Instance) { in.Endpoints, in.Unlisted = nil, "publishes no port" }, "! instance: publishes no port"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { assert.Equal(t, lines(ext, inst(tc.change)), tc.want) })
	}
}

func TestNamesOnNetworks(t *testing.T) {
	z := inner
	z.PerNetwork = true
	in := inst(func(in *record.Instance) {
		in.Endpoints[0].Pointer = false
		in.Endpoints = append(in.Endpoints, record.Endpoint{Network: "shop_default", Own: true, Addresses: []netip.Addr{netip.MustParseAddr("10.9.9.9")}})
	})
	assert.Equal(t, lines(z, in), `web.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3
web.inst.admin.dc1.cns.internal. 30 IN A 10.9.9.9
shop-default.web.inst.admin.dc1.cns.internal. 30 IN A 10.9.9.9
0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3
0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.9.9.9
shop-default.0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.9.9.9`)
}

// TestTextAndAlias: what every name has beside addresses, as Triton had it.
func TestTextAndAlias(t *testing.T) {
	records, _ := record.Build(inner, inst(func(in *record.Instance) { in.Labels["nereid.cns.services"] = "api" }))
	var found []string
	for _, r := range records {
		if r.Type == record.TXT || r.Type == record.CNAME {
			found = append(found, r.String())
		}
	}
	assert.DeepEqual(t, found, []string{
		`web.inst.admin.dc1.cns.internal. 30 IN TXT "` + id + `"`,
		`0123456789ab.inst.admin.dc1.cns.internal. 30 IN TXT "` + id + `"`,
		`api.svc.admin.dc1.cns.internal. 30 IN TXT "` + id + `"`,
		`0123456789ab.cmon.dc1.cns.internal. 30 IN CNAME cmon.dc1.cns.internal.`,
	})
}

func TestCheckLabels(t *testing.T) {
	problems := record.CheckLabels(map[string]string{
		"nereid.cns.services": "a_b", "triton.cns.reverse_ptr": "..", "nereid.cns.status": "on", "nereid.cns.service": "web",
		"nereid.cns.acme-challenge": "ü", "nereid.host": "h1",
	})
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	assert.DeepEqual(t, got, []string{
		`nereid.cns.acme-challenge: "ü" is no URL-safe base64`,
		`nereid.cns.service: there is no such label of the name service`,
		`nereid.cns.services: service "a_b": "a_b" holds '_': a DNS label has letters, digits and hyphens only`,
		`nereid.cns.status: "on" is neither up nor down`,
		`triton.cns.reverse_ptr: an empty name is no DNS label`,
	})
	assert.Equal(t, len(record.CheckLabels(map[string]string{"nereid.cns.services": "web:80,api"})), 0)
}

func TestTextOfTXT(t *testing.T) {
	r := record.Record{Name: "a.", Type: record.TXT, TTL: 1, Data: "q\"\\é" + strings.Repeat("x", 260)}
	assert.Equal(t, r.String(), `a. 1 IN TXT "q\"\\\195\169`+strings.Repeat("x", 250)+`" "`+strings.Repeat("x", 10)+`"`)
}

func TestWireForm(t *testing.T) {
	r := record.Record{Name: "a.b.", Type: record.SRV, TTL: 1, Port: 80, Priority: 2, Weight: 3, Target: "c."}
	assert.DeepEqual(t, record.Append(nil, r), []byte("\x01a\x01b\x00\x00\x21\x00\x01\x00\x00\x00\x01\x00\x09\x00\x02\x00\x03\x00\x50\x01c\x00"))
}

// FuzzNames: what is made of people's words are labels and names, and nothing panics.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"quirky_turing", "a..b", "-", "é", strings.Repeat("x", 300), "a.b.c.", "A--b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if l, err := record.Fold(word); err == nil {
			if again, err := record.Label(l); err != nil || again != l {
				t.Errorf("Fold(%q) is %q, which is no label: %v", word, l, err)
			}
		}
		if n, err := record.FQDN(word); err == nil {
			if again, err := record.FQDN(n); err != nil || again != n || len(n) > 254 {
				t.Errorf("FQDN(%q) is %q, which is no name: %v", word, n, err)
			}
		}
		if all, err := record.Challenges(word); err == nil {
			for _, c := range all {
				if c == "" || len(c) > 255 {
					t.Errorf("Challenges(%q) has %q", word, c)
				}
			}
		}
	})
}

// FuzzParse: what can be read is written the same way, and nothing panics.
func FuzzParse(f *testing.F) {
	for _, r := range []record.Record{
		record.Address("a.b.", 1, netip.MustParseAddr("10.0.0.1")), record.Address("a.", 1, netip.MustParseAddr("fd00::1")),
		{Name: "a.b.", Type: record.SRV, TTL: 1, Port: 80, Priority: 2, Weight: 3, Target: "c."},
		{Name: "a.", Type: record.TXT, Data: strings.Repeat("x", 300)}, {Name: ".", Type: record.NS, Target: "a.b."},
		{Name: "a.", Type: record.RRSIG, Data: "\x00\x01"},
	} {
		f.Add(record.Append(nil, r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := record.Parse(b)
		if err != nil {
			return
		}
		again, rest, err := record.Parse(record.Append(nil, r))
		if err != nil || len(rest) > 0 || again != r {
			t.Errorf("%+v is %+v after a turn: %v", r, again, err)
		}
	})
}

func TestNameTooLongForDNSIsLeftOut(t *testing.T) {
	long := strings.Repeat("a", 60)
	suffix := strings.Join([]string{long, long, long, "internal."}, ".")
	records, problems := record.Build(record.Zone{Apex: suffix, TTL: record.TTL}, inst(func(in *record.Instance) { in.Name = strings.Repeat("n", 60) }))
	assert.Equal(t, len(problems), 1, problems)
	for _, r := range records {
		assert.Assert(t, len(r.Name) <= 254, r.Name)
	}
}

func TestReverseZones(t *testing.T) {
	tests := []struct {
		subnet string
		want   string
	}{
		{"10.0.0.0/8", "10.in-addr.arpa."},
		{"172.18.0.0/16", "18.172.in-addr.arpa."},
		{"10.1.2.0/24", "2.1.10.in-addr.arpa."},
		{"10.1.2.64/26", "2.1.10.in-addr.arpa."},
		{"10.1.2.3/32", "2.1.10.in-addr.arpa."},
		{"10.1.252.0/22", "252.1.10.in-addr.arpa. 253.1.10.in-addr.arpa. 254.1.10.in-addr.arpa. 255.1.10.in-addr.arpa."},
		{"172.16.0.0/15", "16.172.in-addr.arpa. 17.172.in-addr.arpa."},
		{"255.255.254.0/23", "254.255.255.in-addr.arpa. 255.255.255.in-addr.arpa."},
		{"fd00:1::/32", "1.0.0.0.0.0.d.f.ip6.arpa."},
		{"fd00::/63", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 1.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa."},
	}
	for _, tc := range tests {
		t.Run(tc.subnet, func(t *testing.T) {
			got := record.ReverseZones(netip.MustParsePrefix(tc.subnet))
			assert.DeepEqual(t, got, strings.Fields(tc.want))
		})
	}
	assert.Equal(t, len(record.ReverseZones(netip.Prefix{})), 0)
}

// FuzzServices: whatever the label, what is accepted is a DNS label and nothing panics.
func FuzzServices(f *testing.F) {
	for _, s := range []string{"web:80", "a:b:c", ",,:", "x:port=1:priority=2", "é", "web:80:=,="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		services, _ := record.ParseServices(value)
		for _, s := range services {
			if l, err := record.Label(s.Name); err != nil || l != s.Name {
				t.Errorf("ParseServices(%q) accepted the name %q: %v", value, s.Name, err)
			}
		}
	})
}
