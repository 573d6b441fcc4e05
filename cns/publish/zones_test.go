package publish_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// twoNetworks is web on the default network and on one that its account made, with a published port.
func twoNetworks(change func(*state.Container)) *state.Container {
	return web(func(c *state.Container) {
		c.Networks["shop"] = &state.Endpoint{Network: "n2", Order: 1, Address: netip.MustParsePrefix("10.2.0.7/24"), Address6: netip.MustParsePrefix("fd00::7/64")}
		c.Ports = []state.HostPort{{Proto: "tcp", HostIP: netip.IPv4Unspecified(), HostPort: 8080, ContainerPort: 80}}
		change(c)
	})
}

// fleet is hosts, networks and a container, as changes from nothing.
func fleet(c *state.Container) []state.Change {
	return []state.Change{
		{New: &state.Host{Name: "h1", Advertise: netip.MustParseAddr("192.0.2.1")}},
		{New: &state.Host{Name: "h2", Advertise: netip.MustParseAddr("192.0.2.2"), Labels: map[string]string{"nereid.cns.public": "198.51.100.2, 2001:db8::2"}}},
		{New: bridge()},
		{New: &state.Network{Account: nereid.Admin, ID: "n2", Name: "shop", Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.2.0.0/24")}}}},
		{New: c},
	}
}

// answer is what a question comes to: its data, or the verdict.
func answer(s *zone.Set, name string, t record.Type) string {
	r := s.Lookup(name, t)
	if r.Verdict != zone.Answer {
		return r.Verdict.String()
	}
	var data []string
	for _, rec := range r.Answer {
		data = append(data, strings.Join(strings.Fields(rec.String())[4:], " "))
	}
	return strings.Join(data, ", ")
}

func TestZonesListWhatTheirSettingsSay(t *testing.T) {
	inner := func(apex string, networks ...string) state.Change {
		return state.Change{New: &state.Zone{Apex: apex, Kind: state.ZoneInner, Networks: networks}}
	}
	outer := state.Change{New: &state.Zone{Apex: "ext.example.com.", Kind: state.ZoneOuter, TTL: 60}}
	type want map[string]string // question to answer
	tests := []struct {
		name   string
		change func(*state.Container)
		zones  []state.Change
		want   want
	}{
		{"the default zone lists all", func(*state.Container) {}, nil, want{
			"web.inst.admin.dc1.cns.internal. A":        "10.1.2.3, 10.2.0.7",
			"web.svc.admin.dc1.cns.internal. AAAA":      "fd00::7",
			"shop.web.inst.admin.dc1.cns.internal. A":   "10.2.0.7",
			"bridge.web.inst.admin.dc1.cns.internal. A": "10.1.2.3",
			"7.0.2.10.in-addr.arpa. PTR":                "web.inst.admin.dc1.cns.internal.",
			"abababababab.cmon.dc1.cns.internal. CNAME": "cmon.dc1.cns.internal.",
			"cmon.dc1.cns.internal. A":                  "192.0.2.1, 192.0.2.2",
		}},
		{"a zone for a network takes it from the one for all", func(*state.Container) {}, []state.Change{inner("shop.example.com.", "shop")}, want{
			"web.inst.admin.dc1.cns.internal. A":      "10.1.2.3",
			"web.inst.admin.shop.example.com. A":      "10.2.0.7",
			"web.svc.admin.shop.example.com. AAAA":    "fd00::7",
			"shop.web.inst.admin.shop.example.com. A": "NXDomain",
			"7.0.2.10.in-addr.arpa. PTR":              "web.inst.admin.shop.example.com.",
			"3.2.1.10.in-addr.arpa. PTR":              "web.inst.admin.dc1.cns.internal.",
		}},
		{"networks by account", func(*state.Container) {}, []state.Change{inner("a.example.", "admin/shop"), inner("b.example.", "bob/shop")}, want{
			"web.inst.admin.a.example. A": "10.2.0.7",
			"web.inst.admin.b.example. A": "NXDomain",
		}},
		{"two zones for all", func(*state.Container) {}, []state.Change{inner("all.example.")}, want{
			"web.inst.admin.dc1.cns.internal. A": "10.1.2.3, 10.2.0.7",
			"web.inst.admin.all.example. A":      "10.1.2.3, 10.2.0.7",
			"3.2.1.10.in-addr.arpa. PTR":         "web.inst.admin.dc1.cns.internal.",
		}},
		{"outside: the host and its port", func(*state.Container) {}, []state.Change{outer}, want{
			"web.svc.admin.ext.example.com. A":   "192.0.2.1",
			"web.svc.admin.ext.example.com. SRV": "0 0 8080 web.inst.admin.ext.example.com.",
			"web.inst.admin.ext.example.com. A":  "192.0.2.1",
			"web.inst.admin.dc1.cns.internal. A": "10.1.2.3, 10.2.0.7",
			"ns.ext.example.com. A":              "192.0.2.1, 198.51.100.2",
			"ns.dc1.cns.internal. A":             "192.0.2.1, 192.0.2.2",
		}},
		{"outside: a host with addresses of its own for that", func(c *state.Container) {
			c.Host = "h2"
			c.Ports = append(c.Ports, state.HostPort{Proto: "tcp", HostIP: netip.IPv6Unspecified(), HostPort: 8080, ContainerPort: 80})
		}, []state.Change{outer}, want{
			"web.svc.admin.ext.example.com. A":    "198.51.100.2",
			"web.svc.admin.ext.example.com. AAAA": "2001:db8::2",
		}},
		{"outside: published on IPv4 only", func(c *state.Container) { c.Host = "h2" }, []state.Change{outer}, want{
			"web.svc.admin.ext.example.com. AAAA": "NoData",
		}},
		{"outside: published on one address", func(c *state.Container) { c.Ports[0].HostIP = netip.MustParseAddr("203.0.113.5") }, []state.Change{outer}, want{
			"web.svc.admin.ext.example.com. A": "203.0.113.5",
		}},
		{"outside: published on loopback", func(c *state.Container) { c.Ports[0].HostIP = netip.MustParseAddr("127.0.0.1") }, []state.Change{outer}, want{
			"web.svc.admin.ext.example.com. A":  "NXDomain",
			"web.inst.admin.ext.example.com. A": "NXDomain",
		}},
		{"outside: another port is published", func(c *state.Container) { c.Ports[0].ContainerPort = 443 }, []state.Change{outer}, want{
			"web.svc.admin.ext.example.com. A":  "NXDomain",
			"web.inst.admin.ext.example.com. A": "192.0.2.1",
		}},
		{"the host's network", func(c *state.Container) {
			c.HostConfig, c.Networks, c.Ports = &container.HostConfig{NetworkMode: "host"}, nil, nil
		}, []state.Change{outer}, want{
			"web.svc.admin.dc1.cns.internal. A":  "192.0.2.1",
			"web.svc.admin.ext.example.com. SRV": "0 0 80 web.inst.admin.ext.example.com.",
		}},
		{"hidden primary", func(*state.Container) {}, []state.Change{
			{New: &state.Zone{Apex: apex, Kind: state.ZoneInner, HiddenPrimary: true, Servers: []string{"ns1.example.com.", "ns2.example.com."}}}}, want{
			"dc1.cns.internal. NS":   "ns1.example.com., ns2.example.com.",
			"ns.dc1.cns.internal. A": "NXDomain",
		}},
		{"servers beside the hosts", func(*state.Container) {}, []state.Change{
			{New: &state.Zone{Apex: apex, Kind: state.ZoneInner, Servers: []string{"ns2.example.com."}}}}, want{
			"dc1.cns.internal. NS":   "ns.dc1.cns.internal., ns2.example.com.",
			"ns.dc1.cns.internal. A": "192.0.2.1, 192.0.2.2",
		}},
		{"a reverse zone for all networks", func(*state.Container) {}, []state.Change{{New: &state.Zone{Apex: "10.in-addr.arpa.", Kind: state.ZoneReverse}}}, want{
			"10.in-addr.arpa. NS":        "ns.dc1.cns.internal.",
			"2.1.10.in-addr.arpa. NS":    "NoData",
			"3.2.1.10.in-addr.arpa. PTR": "web.inst.admin.dc1.cns.internal.",
			"9.9.9.10.in-addr.arpa. PTR": "NXDomain",
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := twoNetworks(tc.change)
			atOnce := newBuilder(t).Apply(append(fleet(c), tc.zones...), 5)
			step := newBuilder(t) // the zones come after the containers, and whatever came before them goes
			step.Apply(fleet(web(func(*state.Container) {})), 3)
			step.Apply([]state.Change{{New: c}}, 4)
			later := step.Apply(tc.zones, 5)
			types := map[string]record.Type{"A": record.A, "AAAA": record.AAAA, "SRV": record.SRV, "PTR": record.PTR, "NS": record.NS, "CNAME": record.CNAME}
			for question, want := range tc.want {
				name, typ, _ := strings.Cut(question, " ")
				assert.Equal(t, sorted(answer(atOnce, name, types[typ])), sorted(want), "%s", question)
				assert.Equal(t, sorted(answer(later, name, types[typ])), sorted(want), "%s, step by step", question)
			}
		})
	}
}

func sorted(list string) string {
	all := strings.Split(list, ", ")
	for i := range all {
		for j := range i {
			if all[i] < all[j] {
				all[i], all[j] = all[j], all[i]
			}
		}
	}
	return strings.Join(all, ", ")
}

func TestNamingAtRunTime(t *testing.T) {
	b := newBuilder(t)
	b.Apply(fleet(web(func(*state.Container) {})), 1)
	id := web(func(*state.Container) {}).ID
	down := &state.Naming{Account: nereid.Admin, Container: id, Status: "down", Challenges: []string{"token"}}
	set := b.Apply([]state.Change{{New: down}}, 2)
	assert.Equal(t, verdicts(set), "Answer NXDomain")
	assert.Equal(t, answer(set, "_acme-challenge.web.inst.admin."+apex, record.TXT), `"token"`)
	set = b.Apply([]state.Change{{Old: down}}, 3)
	assert.Equal(t, verdicts(set), "Answer Answer")
	assert.Equal(t, verdicts(b.Apply([]state.Change{{New: &state.Naming{Account: nereid.Admin, Container: "other", Status: "down"}}}, 4)), "Answer Answer")
}

// replica is a second instance of the service, on another host.
func replica() *state.Container {
	return web(func(c *state.Container) {
		c.ID, c.Name, c.Host = nereid.ContainerID(strings.Repeat("cd", 32)), "web2", "h2"
		c.Networks["bridge"].Address = netip.MustParsePrefix("10.1.2.4/24")
	})
}

func TestUnreachableHosts(t *testing.T) {
	svc, inst := "web.svc.admin."+apex, "web2.inst.admin."+apex
	absent := &state.Absence{Host: "h2"}
	h2 := fleet(nil)[1]
	tests := []struct {
		name      string
		change    state.Change
		svc, inst string
	}{
		{"reachable", state.Change{New: h2.New}, "10.1.2.3, 10.1.2.4", "10.1.2.4"},
		{"said to be absent", state.Change{New: absent}, "10.1.2.3", "Unsure"},
		{"it is not in the fleet any more", state.Change{Old: h2.New}, "10.1.2.3", "Unsure"},
		{"this host, whatever is said", state.Change{New: &state.Absence{Host: "h1"}}, "10.1.2.3, 10.1.2.4", "10.1.2.4"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := newBuilder(t)
			b.Apply(append(fleet(web(func(*state.Container) {})), state.Change{New: replica()}), 1)
			set := b.Apply([]state.Change{tc.change}, 2)
			assert.Equal(t, sorted(answer(set, svc, record.A)), tc.svc)
			assert.Equal(t, answer(set, inst, record.A), tc.inst)
		})
	}
}

// TestStoppedDaemon: a host without a lease that is still in the fleet runs on, and so does what it last said of itself.
func TestStoppedDaemon(t *testing.T) {
	b := newBuilder(t)
	all := append(fleet(web(func(*state.Container) {})), state.Change{New: replica()}, state.Change{New: &state.Zone{Apex: "ext.example.com.", Kind: state.ZoneOuter}})
	h2 := all[1].New.(*state.Host)
	b.Apply(append(all, state.Change{New: &state.Member{Name: "h2", Facts: *h2}}), 1)
	set := b.Apply([]state.Change{{Old: h2}}, 2)
	assert.Equal(t, sorted(answer(set, "web.svc.admin."+apex, record.A)), "10.1.2.3, 10.1.2.4")
	assert.Equal(t, sorted(answer(set, "ns.ext.example.com.", record.A)), "192.0.2.1, 198.51.100.2")
	set = b.Apply([]state.Change{{Old: &state.Member{Name: "h2"}}}, 3)
	assert.Equal(t, answer(set, "web.svc.admin."+apex, record.A), "10.1.2.3")
}

// TestEmptiedServiceIsUnsure: a service whose members are all out of reach fails, and is not "not there"; one whose last
// member was stopped is.
func TestEmptiedServiceIsUnsure(t *testing.T) {
	b := newBuilder(t)
	up := web(func(*state.Container) {})
	b.Apply(append(fleet(up), state.Change{New: replica()}), 1)
	b.Apply([]state.Change{{New: &state.Absence{Host: "h2"}}}, 2)
	set := b.Apply([]state.Change{{Old: up}}, 3)
	assert.Equal(t, answer(set, "web.svc.admin."+apex, record.A), "Unsure")
	assert.Equal(t, answer(set, "web.svc.admin."+apex, record.AAAA), "Unsure")
	assert.Equal(t, answer(set, "nope.svc.admin."+apex, record.A), "NXDomain")
	set = b.Apply([]state.Change{{Old: replica()}}, 4)
	assert.Equal(t, answer(set, "web.svc.admin."+apex, record.A), "NXDomain")
}

func TestDoubtIsOfThisHostAlone(t *testing.T) {
	b := newBuilder(t)
	before := b.Apply(append(fleet(web(func(*state.Container) {})), state.Change{New: replica()}), 1)
	set := b.Doubt(map[nereid.Host]bool{"h2": true})
	assert.Equal(t, answer(set, "web.svc.admin."+apex, record.A), "10.1.2.3")
	assert.Equal(t, serialOf(t, set), serialOf(t, before))
	set = b.Doubt(nil)
	assert.Equal(t, sorted(answer(set, "web.svc.admin."+apex, record.A)), "10.1.2.3, 10.1.2.4")
	assert.Equal(t, serialOf(t, set), serialOf(t, before))
}

func serialOf(t *testing.T, s *zone.Set) uint32 {
	t.Helper()
	z, ok := s.Zone(apex)
	assert.Assert(t, ok)
	return z.Serial
}

func TestSignedZone(t *testing.T) {
	k, private, err := sign.Generate()
	assert.NilError(t, err)
	key := &state.ZoneKey{Apex: apex, Tag: k.Tag(), Private: private}
	settings := &state.Zone{Apex: apex, Kind: state.ZoneInner, DNSSEC: true, Epoch: sign.Epoch(time.Now())}
	b, other := newBuilder(t), newBuilder(t)
	changes := append(fleet(web(func(*state.Container) {})), state.Change{New: key}, state.Change{New: settings})
	set := b.Apply(changes, 1)
	r := set.LookupSigned("web.svc.admin."+apex, record.A)
	assert.Equal(t, len(r.Signatures), 1)
	assert.Equal(t, other.Apply(changes, 1).LookupSigned("web.svc.admin."+apex, record.A).Signatures[0], r.Signatures[0], "hosts sign alike")

	damaged := &state.ZoneKey{Apex: apex, Tag: 1, Private: []byte("x")}
	set = b.Apply([]state.Change{{New: damaged}}, 2)
	assert.Equal(t, len(set.LookupSigned("web.svc.admin."+apex, record.A).Signatures), 1)

	off := settings.Clone()
	off.DNSSEC = false
	set = b.Apply([]state.Change{{Old: settings, New: off}}, 3)
	assert.Equal(t, len(set.LookupSigned("web.svc.admin."+apex, record.A).Signatures), 0)
	assert.Equal(t, answer(set, apex, record.DNSKEY), "NoData")
}

// TestSerialsAreTheSameOnEveryHost: one that got the changes one by one and one that got them together end alike.
func TestSerialsAreTheSameOnEveryHost(t *testing.T) {
	one, other := newBuilder(t), newBuilder(t)
	all := fleet(web(func(*state.Container) {}))
	for i, c := range all {
		one.Apply([]state.Change{c}, state.Revision(i+1))
	}
	other.Apply(all, state.Revision(len(all)))
	last := []state.Change{{New: replica()}}
	assert.Equal(t, serialOf(t, one.Apply(last, 50)), serialOf(t, other.Apply(last, 50)))
}
