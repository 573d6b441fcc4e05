package publish_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

const apex = "dc1.cns.internal."

// builder is one whose sets alone matter.
type builder struct{ *publish.Builder }

func (b builder) Apply(changes []state.Change, rev state.Revision) *zone.Set {
	set, _ := b.Builder.Apply(changes, rev)
	return set
}

func newBuilder(t *testing.T) builder {
	t.Helper()
	b, err := publish.NewBuilder(publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal"})
	assert.NilError(t, err)
	return builder{b}
}

// web is a running container of a service, on one network.
func web(change func(*state.Container)) *state.Container {
	c := &state.Container{
		Account: nereid.Admin, ID: nereid.ContainerID(strings.Repeat("ab", 32)), Name: "web", Host: "h1",
		Config:   &container.Config{Labels: map[string]string{"nereid.cns.services": "web:80"}},
		State:    state.RunState{Status: state.StatusRunning},
		Networks: map[string]*state.Endpoint{"bridge": {Network: "n1", Address: netip.MustParsePrefix("10.1.2.3/24")}},
	}
	change(c)
	return c
}

func bridge() *state.Network {
	return &state.Network{Account: nereid.Admin, ID: "n1", Name: "bridge", Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.1.2.0/24")}}}
}

// names are the verdicts for the instance and the service.
func verdicts(s *zone.Set) string {
	return s.Lookup("web.inst.admin."+apex, record.A).Verdict.String() + " " + s.Lookup("web.svc.admin."+apex, record.A).Verdict.String()
}

func TestWhatIsPublishedInWhichState(t *testing.T) {
	health := func(status string) func(*state.Container) {
		return func(c *state.Container) { c.State.Health = &container.Health{Status: status} }
	}
	status := func(s string) func(*state.Container) { return func(c *state.Container) { c.State.Status = s } }
	tests := []struct {
		name   string
		change func(*state.Container)
		want   string // verdict for inst, verdict for svc
	}{
		{"running", func(*state.Container) {}, "Answer Answer"},
		{"created", status(state.StatusCreated), "NXDomain NXDomain"},
		{"exited", status(state.StatusExited), "NXDomain NXDomain"},
		{"restarting", status(state.StatusRestarting), "NXDomain NXDomain"},
		{"paused", status(state.StatusPaused), "Answer NXDomain"},
		{"no health check", health(container.NoHealthcheck), "Answer Answer"},
		{"health not known yet", health(container.Starting), "Answer NXDomain"},
		{"healthy", health(container.Healthy), "Answer Answer"},
		{"unhealthy", health(container.Unhealthy), "Answer NXDomain"},
		{"no address", func(c *state.Container) { c.Networks["bridge"].Address = netip.Prefix{} }, "NXDomain NXDomain"},
		{"no configuration", func(c *state.Container) { c.Config = nil }, "Answer NXDomain"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			set := newBuilder(t).Apply([]state.Change{{New: bridge()}, {New: web(tc.change)}}, 5)
			assert.Equal(t, verdicts(set), tc.want)
		})
	}
}

func TestChangesFollowTheState(t *testing.T) {
	b := newBuilder(t)
	up, down := web(func(*state.Container) {}), web(func(c *state.Container) { c.State.Status = state.StatusExited })

	set := b.Apply([]state.Change{{New: bridge()}, {New: up}}, 5)
	assert.Equal(t, verdicts(set), "Answer Answer")
	assert.Equal(t, set.Lookup("3.2.1.10.in-addr.arpa.", record.PTR).Answer[0].Target, "web.inst.admin."+apex)

	assert.Equal(t, verdicts(b.Apply([]state.Change{{Old: up, New: down}}, 6)), "NXDomain NXDomain")
	assert.Equal(t, verdicts(b.Apply([]state.Change{{Old: down, New: up}}, 7)), "Answer Answer")
	renamed := web(func(c *state.Container) { c.Name = "other" })
	assert.Equal(t, verdicts(b.Apply([]state.Change{{Old: up, New: renamed}}, 8)), "NXDomain Answer")

	set = b.Apply([]state.Change{{Old: renamed}}, 9)
	assert.Equal(t, verdicts(set), "NXDomain NXDomain")
	assert.Equal(t, len(set.Records(apex)), 0, "nothing is left behind")
	assert.Equal(t, set.Lookup("3.2.1.10.in-addr.arpa.", record.PTR).Verdict, zone.NXDomain)
}

// TestContainerAndItsNetworkGoTogether: both were removed while the zones before were being made, and the daemon died of it.
func TestContainerAndItsNetworkGoTogether(t *testing.T) {
	b := newBuilder(t)
	c, n := web(func(*state.Container) {}), bridge()
	b.Apply([]state.Change{{New: n}, {New: c}}, 1)
	assert.Equal(t, verdicts(b.Apply([]state.Change{{Old: c}, {Old: n}}, 2)), "NXDomain NXDomain")
}

func TestReverseZoneIsOursWhileANetworkIsInIt(t *testing.T) {
	b := newBuilder(t)
	second := bridge()
	second.ID, second.Subnets = "n2", []state.Subnet{{Prefix: netip.MustParsePrefix("10.1.2.128/25")}}
	verdict := func(s *zone.Set) zone.Verdict { return s.Lookup("9.2.1.10.in-addr.arpa.", record.PTR).Verdict }

	assert.Equal(t, verdict(b.Apply([]state.Change{{New: bridge()}, {New: second}}, 1)), zone.NXDomain)
	assert.Equal(t, verdict(b.Apply([]state.Change{{Old: bridge()}}, 2)), zone.NXDomain)
	assert.Equal(t, verdict(b.Apply([]state.Change{{Old: second}}, 3)), zone.Refused)
}

func TestHostsAreTheNameServers(t *testing.T) {
	b := newBuilder(t)
	h1 := &state.Host{Name: "h1", Advertise: netip.MustParseAddr("192.0.2.1")}
	h2 := &state.Host{Name: "h2", Advertise: netip.MustParseAddr("2001:db8::2")}
	unknown := &state.Host{Name: "h3"}

	r := b.Apply([]state.Change{{New: h1}, {New: h2}, {New: unknown}}, 1).Lookup(apex, record.NS)
	assert.Equal(t, len(r.Answer), 1)
	assert.Equal(t, len(r.Additional), 2)
	r = b.Apply([]state.Change{{Old: h1}}, 2).Lookup(apex, record.NS)
	assert.Equal(t, len(r.Additional), 1)
	assert.Equal(t, r.Additional[0].Addr, h2.Advertise)
}

func TestZoneThatIsNoNameIsRefused(t *testing.T) {
	_, err := publish.NewBuilder(publish.Config{DC: "d_1", Zone: "cns.internal"})
	assert.ErrorContains(t, err, "d_1")
}
