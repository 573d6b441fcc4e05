package engine

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestNetworksFollowOtherHosts(t *testing.T) {
	f := newNetFixture(t)
	for host, peer := range map[nereid.Host]string{"h1": "192.0.2.1:2377", "h2": "192.0.2.2:2377"} {
		f.commit(state.Put(&state.Member{Name: host, Peer: peer}))
	}
	f.network("blue")
	f.started(f.container("here", on("blue")))
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	defer func() { cancel(); assert.NilError(t, <-done) }()

	there := f.started(f.container("there", on("blue"), func(r *state.Container) { r.Host = "h2" }))
	ep := there.Networks["blue"]
	f.wantRemotes("blue", ep.MAC+" "+ep.Address.Addr().String()+" 192.0.2.2")
	f.stop(there)
	f.wantRemotes("blue")
	f.network("elsewhere") // which no container here is on
	far := f.started(f.container("far", on("elsewhere"), func(r *state.Container) { r.Host = "h2" })).Networks["elsewhere"]
	f.wantRemotes("elsewhere", far.MAC+" "+far.Address.Addr().String()+" 192.0.2.2")
	f.host.mu.Lock()
	assert.DeepEqual(t, f.host.hosts, []netip.Addr{netip.MustParseAddr("192.0.2.2")}, cmpopts.EquateComparable(netip.Addr{}))
	f.host.mu.Unlock()
	there = f.started(f.read(there))
	ep = there.Networks["blue"]
	f.wantRemotes("blue", ep.MAC+" "+ep.Address.Addr().String()+" 192.0.2.2")

	port := &state.Port{Proto: "tcp", Port: 8080, Claims: []state.PortClaim{
		{HostIP: netip.IPv4Unspecified(), Host: "h2"}, {HostIP: netip.MustParseAddr("127.0.0.1"), Host: "h2"},
	}}
	f.commit(state.Put(port), state.Put(&state.Port{Proto: "tcp", Port: 8081, Claims: []state.PortClaim{{HostIP: netip.IPv4Unspecified(), Host: "h1"}}}))
	f.wantMesh(1)
	f.commit(state.Delete(port))
	f.wantMesh(0)

	gone := f.network("gone")
	f.commit(state.Delete(gone), state.Delete(&state.NetworkName{Account: nereid.Admin, Name: "gone"}))
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		f.host.mu.Lock()
		defer f.host.mu.Unlock()
		if len(f.host.removed) == 1 && f.host.removed[0] == "gone" {
			return poll.Success()
		}
		return poll.Continue("removed on this host: %v", f.host.removed)
	}, poll.WithTimeout(soon))
	assert.Equal(t, f.addressOf("h2"), netip.MustParseAddr("192.0.2.2"))
	assert.Check(t, !f.addressOf("h3").IsValid())
}

func (f *netFixture) wantRemotes(network string, want ...string) {
	f.t.Helper()
	poll.WaitOn(f.t, func(poll.LogT) poll.Result {
		f.host.mu.Lock()
		defer f.host.mu.Unlock()
		var got []string
		for _, r := range f.host.remotes[network] {
			got = append(got, r.MAC+" "+r.Address.String()+" "+r.Host.String())
		}
		if len(got) == len(want) && (len(want) == 0 || got[0] == want[0]) {
			return poll.Success()
		}
		return poll.Continue("endpoints elsewhere are %v, want %v", got, want)
	}, poll.WithTimeout(soon))
}

func (f *netFixture) wantMesh(ports int) {
	f.t.Helper()
	poll.WaitOn(f.t, func(poll.LogT) poll.Result {
		f.host.mu.Lock()
		defer f.host.mu.Unlock()
		if len(f.host.mesh) == ports {
			return poll.Success()
		}
		return poll.Continue("answers for others on %v", f.host.mesh)
	}, poll.WithTimeout(soon))
}
