package engine

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// TestPortsOfALostHost: a port of a host that is absent is free once its machine does not answer either. Who had it lets
// go when the host comes back, and keeps what nobody took.
func TestPortsOfALostHost(t *testing.T) {
	f := newTestFleet(t, 2, 1<<30)
	h1, h2 := f.hosts[0], f.hosts[1]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	there := l.Addr().String()
	_, err = h1.store.Commit(f.ctx, state.Put(&state.Member{Name: "h2", Peer: there}))
	assert.NilError(t, err)
	publish := func(on string, ports ...string) func(*spec) {
		return func(s *spec) {
			s.Env = []string{"constraint:node==" + on}
			s.host.PortBindings = nat.PortMap{}
			for _, p := range ports {
				s.host.PortBindings[nat.Port(p+"/tcp")] = []nat.PortBinding{{HostPort: p}}
			}
		}
	}
	f.mustCreate("h2", "old", publish("h2", "8080", "8081"))
	f.mustCreate("h1", "new", publish("h1", "8080"))
	assert.NilError(t, h2.Start(f.ctx, "old"))
	f.settle()
	refused := func() {
		t.Helper()
		assert.ErrorContains(t, h1.Start(f.ctx, "new"), "Bind for 0.0.0.0:8080 failed: port is already allocated")
	}
	refused()
	absence := &state.Absence{Host: "h2", Since: time.Now()}
	_, err = h1.store.Commit(f.ctx, state.Put(absence))
	assert.NilError(t, err)
	assert.Assert(t, h1.networks.knock(f.ctx), "there is an absent host")
	refused() // its machine answers: only its daemon is gone
	assert.NilError(t, l.Close())
	h1.networks.knock(f.ctx)
	refused() // it refuses connections, so it is there

	h1.networks.lost.answers = func(context.Context, string) bool { return false }
	h1.networks.knock(f.ctx)
	rec, err := h1.find(f.ctx, "new")
	assert.NilError(t, err)
	claimed, err := h1.networks.Claim(rec)
	assert.NilError(t, err)
	back, _ := h1.store.View().Absence("h2")
	_, err = h1.store.Commit(f.ctx, state.Delete(back))
	assert.NilError(t, err)
	_, err = h1.store.Commit(f.ctx, claimed.Ops...)
	_, conflict := state.AsConflict(err)
	assert.Assert(t, conflict, "a host that is back keeps its port: %v", err)
	refused()

	_, err = h1.store.Commit(f.ctx, state.Put(absence))
	assert.NilError(t, err)
	refused() // of this absence nothing is known yet
	h1.networks.knock(f.ctx)
	assert.NilError(t, h1.Start(f.ctx, "new"))
	eventually(t, "the old container lets go of the port", func() bool {
		r, err := h2.find(f.ctx, "old")
		return err == nil && len(r.Ports) > 0 && len(r.Ports) < 4 && r.State.Running() && r.Ports[0].HostPort == 8081
	})
	f.settle()
	stop := container.StopOptions{}
	assert.NilError(t, h2.Stop(f.ctx, "old", stop))
	f.settle()
	p, ok := h1.store.View().Port("tcp", 8080)
	assert.Assert(t, ok && p.Claims[0].Container == rec.ID, "what another has is not given back: %v", p)
	_, ok = h1.store.View().Port("tcp", 8081)
	assert.Assert(t, !ok)
	assert.ErrorContains(t, h2.Start(f.ctx, "old"), "port is already allocated")
	assert.NilError(t, h1.Stop(f.ctx, "new", stop))
	f.settle()
	assert.NilError(t, h2.Start(f.ctx, "old"))
	assert.Equal(t, h1.networks.lost.absence(nereid.Host("h1")), (*state.Absence)(nil))
}
