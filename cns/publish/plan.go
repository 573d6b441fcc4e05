package publish

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// plan says how one forward zone names containers. It never changes.
type plan struct {
	record.Zone
	cfg      *state.Zone // nil: the defaults
	networks []string    // an inner zone's; none: it lists what no other inner zone lists
}

// plans are the forward zones: the default one first, then those of the operators by apex.
type plans []plan

// makePlans makes them of the default zone's apex and of what operators said, by apex.
func makePlans(apex string, zones map[string]*state.Zone) plans {
	all := plans{newPlan(apex, zones[apex])}
	for a, z := range zones {
		if a != apex && z.Kind != state.ZoneReverse {
			all = append(all, newPlan(a, z))
		}
	}
	slices.SortFunc(all[1:], func(a, b plan) int { return cmp.Compare(a.Apex, b.Apex) })
	return all
}

func newPlan(apex string, z *state.Zone) plan {
	p := plan{Zone: record.Zone{Apex: apex, TTL: record.TTL}, cfg: z}
	if z == nil {
		p.PerNetwork = true
		return p
	}
	p.TTL, p.Outer, p.networks = cmp.Or(z.TTL, record.TTL), z.Kind == state.ZoneOuter, z.Networks
	p.PerNetwork = !p.Outer && len(p.networks) == 0
	return p
}

// same tells whether two plans name every container alike.
func (p plan) same(o plan) bool { return p.Zone == o.Zone && slices.Equal(p.networks, o.networks) }

// lists tells whether an inner zone lists a network of an account by its name.
func (p plan) lists(a nereid.Account, network string) bool {
	return slices.ContainsFunc(p.networks, func(n string) bool {
		account, name, qualified := strings.Cut(n, "/")
		return n == network || qualified && account == string(a) && name == network
	})
}

// zonesOf are the inner zones that list a network: those that name it, or else all that name none.
func (ps plans) zonesOf(a nereid.Account, network string) []int {
	var named, rest []int
	for i, p := range ps {
		switch {
		case p.Outer:
		case len(p.networks) == 0:
			rest = append(rest, i)
		case p.lists(a, network):
			named = append(named, i)
		}
	}
	if len(named) > 0 {
		return named
	}
	return rest
}

// Label of a host whose value are the addresses, separated by commas, at which machines outside reach its published
// ports; without it, the one the host advertises.
const publicLabel = "nereid.cns.public"

// public are those addresses. What is no address is left out.
func public(h *state.Host) []netip.Addr {
	if h == nil {
		return nil
	}
	var found []netip.Addr
	for word := range strings.SplitSeq(h.Labels[publicLabel], ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(word)); err == nil {
			found = append(found, a.Unmap())
		}
	}
	if len(found) == 0 {
		return advertised(h)
	}
	return found
}

// advertised is the address at which other hosts reach one.
func advertised(h *state.Host) []netip.Addr {
	if h == nil || !h.Advertise.IsValid() {
		return nil
	}
	return []netip.Addr{h.Advertise.Unmap()}
}
