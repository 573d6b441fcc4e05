package publish_test

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// rumour is reachability as a test says.
type rumour struct {
	mu   sync.Mutex
	down map[nereid.Host]bool
}

func (r *rumour) Unreachable(h nereid.Host) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down[h]
}

func (r *rumour) say(h nereid.Host, down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = map[nereid.Host]bool{h: down}
}

// TestRumourThatTheStateDoesNotTell: what this host hears alone it hides alone: it keeps its serials, and its zones are
// not what other hosts have. Once the state says so, all hide alike.
func TestRumourThatTheStateDoesNotTell(t *testing.T) {
	s := openState(t)
	h1 := &state.Host{Name: "h1", Advertise: netip.MustParseAddr("192.0.2.1")}
	h2 := &state.Host{Name: "h2", Advertise: netip.MustParseAddr("192.0.2.2")}
	absent := &state.Absence{Host: "h2", By: "h1"}
	r := &rumour{}
	p, err := publish.New(s, publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal", Reach: r})
	assert.NilError(t, err)
	assert.Assert(t, !p.Exact())
	background(t, p.Run, nil)
	commit(t, s, state.Create(h1), state.Create(h2), state.Create(bridge()), state.Create(web(func(*state.Container) {})), state.Create(replica()))
	expect := func(want string, exact bool) *zone.Set {
		t.Helper()
		var set *zone.Set
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if set = p.Zones(); set == nil {
				return poll.Continue("no zones yet")
			}
			if got := sorted(answer(set, "web.svc.admin."+apex, record.A)); got != want || p.Exact() != exact {
				return poll.Continue("%s, exact %v", got, p.Exact())
			}
			return poll.Success()
		}, poll.WithTimeout(30*time.Second), poll.WithDelay(time.Millisecond))
		return set
	}
	both, one := "10.1.2.3, 10.1.2.4", "10.1.2.3"
	before := expect(both, true)
	r.say("h2", true)
	alone := expect(one, false)
	assert.Equal(t, serialOf(t, alone), serialOf(t, before))
	commit(t, s, state.Create(absent))
	together := expect(one, true)
	assert.Assert(t, serialOf(t, together) > serialOf(t, before))
	commit(t, s, state.Delete(absent))
	expect(both, true)
	r.say("h2", false)
	expect(both, true)
}
