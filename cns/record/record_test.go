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
		Account: "admin", Name: "web", ID: id, Running: true, Serving: true,
		Labels:    map[string]string{},
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.2.3")},
	}
	change(&in)
	return in
}

// lines are the records and problems, one a line; problems begin with "!".
func lines(in record.Instance) string {
	records, problems := record.Build("dc1.cns.internal.", in)
	var all []string
	for _, r := range records {
		all = append(all, r.String())
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
		{"underscore is left out, the id remains", func(in *record.Instance) { in.Name = "my_web" },
			"0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n" +
				"3.2.1.10.in-addr.arpa. 30 IN PTR 0123456789ab.inst.admin.dc1.cns.internal.\n" +
				`! name: "my_web" holds '_': a DNS label has letters, digits and hyphens only`},
		{"name of several labels is left out", func(in *record.Instance) { in.Name = "a.b" },
			"0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n" +
				"3.2.1.10.in-addr.arpa. 30 IN PTR 0123456789ab.inst.admin.dc1.cns.internal.\n" +
				`! name: "a.b" holds '.': a DNS label has letters, digits and hyphens only`},
		{"name too long for a label is left out", func(in *record.Instance) { in.Name = strings.Repeat("x", 64) },
			"0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n" +
				"3.2.1.10.in-addr.arpa. 30 IN PTR 0123456789ab.inst.admin.dc1.cns.internal.\n" +
				`! name: "` + strings.Repeat("x", 64) + `" has 64 characters, a DNS label has at most 63`},
		{"not running has nothing", func(in *record.Instance) { in.Running, in.Serving = false, false }, "! instance: not running"},
		{"account that is no label has nothing", func(in *record.Instance) { in.Account = "a_b" },
			`! account: "a_b" holds '_': a DNS label has letters, digits and hyphens only`},
		{"both families", func(in *record.Instance) {
			in.Addresses = append(in.Addresses, netip.MustParseAddr("fd00::1"))
		}, `web.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3
web.inst.admin.dc1.cns.internal. 30 IN AAAA fd00::1
0123456789ab.inst.admin.dc1.cns.internal. 30 IN A 10.1.2.3
0123456789ab.inst.admin.dc1.cns.internal. 30 IN AAAA fd00::1
` + instPTR + `
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 30 IN PTR web.inst.admin.dc1.cns.internal.`},
		{"no address, no records", func(in *record.Instance) { in.Addresses = nil }, ""},
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
			in.Labels["com.docker.compose.service"], in.Labels["com.docker.compose.project"] = "db", "my_shop"
		}, instA + `
db.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3
` + instPTR + `
! com.docker.compose.project: "my_shop" holds '_': a DNS label has letters, digits and hyphens only`},
		{"compose run is no part of the service", func(in *record.Instance) {
			in.Labels["com.docker.compose.service"], in.Labels["com.docker.compose.oneoff"] = "db", "True"
		}, instA + "\n" + instPTR + "\n! com.docker.compose.service: a one-off command of compose is no part of its service"},
		{"the same service by label and by compose is one", func(in *record.Instance) {
			in.Labels["com.docker.compose.service"], in.Labels["nereid.cns.services"] = "db", "db"
		}, instA + "\ndb.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3\n" + instPTR},
		{"not serving: inst only", func(in *record.Instance) {
			in.Labels["nereid.cns.services"] = "api:80"
			in.Serving, in.NotServing = false, "health: starting"
		}, instA + "\n" + instPTR + "\n! service api: health: starting"},
		{"status down: inst only", func(in *record.Instance) {
			in.Labels["nereid.cns.services"], in.Labels["nereid.cns.status"] = "api", "down"
		}, instA + "\n" + instPTR + "\n! service api: taken out by label, status down"},
		{"status that is no status", func(in *record.Instance) { in.Labels["triton.cns.status"] = "dwon" },
			instA + "\n" + instPTR + "\n" + `! triton.cns.status: "dwon" is neither up nor down`},
		{"disabled", func(in *record.Instance) { in.Labels["nereid.cns.disable"] = "true" }, "! instance: disabled by label"},
		{"disabled without a value", func(in *record.Instance) { in.Labels["triton.cns.disable"] = "" }, "! instance: disabled by label"},
		{"disable that is no switch", func(in *record.Instance) { in.Labels["nereid.cns.disable"] = "maybe" },
			instA + "\n" + instPTR + "\n" + `! nereid.cns.disable: "maybe" is neither true nor false`},
		{"reverse_ptr", func(in *record.Instance) { in.Labels["nereid.cns.reverse_ptr"] = "Mail.Example.com" },
			instA + "\n3.2.1.10.in-addr.arpa. 30 IN PTR mail.example.com."},
		{"reverse_ptr that is no name", func(in *record.Instance) { in.Labels["triton.cns.reverse_ptr"] = "a..b" },
			instA + "\n" + instPTR + "\n! triton.cns.reverse_ptr: an empty name is no DNS label"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, lines(inst(tc.change)), tc.want)
		})
	}
}

func TestNameTooLongForDNSIsLeftOut(t *testing.T) {
	long := strings.Repeat("a", 60)
	suffix := strings.Join([]string{long, long, long, "internal."}, ".")
	records, problems := record.Build(suffix, inst(func(in *record.Instance) { in.Name = strings.Repeat("n", 60) }))
	assert.Equal(t, len(problems), 1)
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
