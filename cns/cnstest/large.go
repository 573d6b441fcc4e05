package cnstest

import (
	"fmt"
	"net/netip"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// PerContainer is how many records a container of a large fleet has.
const PerContainer = 9

// Member is the i-th container of a large fleet; services have twenty members each.
func Member(i int, status string) *state.Container {
	return &state.Container{
		Account: nereid.Admin, ID: nereid.ContainerID(fmt.Sprintf("%08x%056x", i, i)), Name: fmt.Sprintf("app-%d", i), Host: "h1",
		Config: &container.Config{Labels: map[string]string{"nereid.cns.services": fmt.Sprintf("web%d:80", i/20)}},
		State:  state.RunState{Status: status},
		Networks: map[string]*state.Endpoint{"bridge": {Network: "n1",
			Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 8)}},
	}
}

// Large is the state of a fleet of so many records, as changes from nothing.
func Large(records int, settings ...state.Record) []state.Change {
	changes := []state.Change{
		{New: &state.Host{Name: "h1", Advertise: netip.MustParseAddr("192.0.2.1")}},
		{New: &state.Network{Account: nereid.Admin, ID: "n1", Name: "bridge", Predefined: true, Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}}},
	}
	for _, r := range settings {
		changes = append(changes, state.Change{New: r})
	}
	for i := range records / PerContainer {
		changes = append(changes, state.Change{New: Member(i, state.StatusRunning)})
	}
	return changes
}
