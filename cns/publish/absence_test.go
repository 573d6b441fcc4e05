package publish_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
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

// rumour is reachability as a test says. Nobody has been heard of at first.
type rumour struct {
	mu      sync.Mutex
	up      map[nereid.Host]bool
	heard   map[nereid.Host]bool // asked for since the last change
	changed chan struct{}
}

func newRumour() *rumour {
	return &rumour{up: map[nereid.Host]bool{}, heard: map[nereid.Host]bool{}, changed: make(chan struct{})}
}

func (r *rumour) Reachable(h nereid.Host) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard[h] = true
	return r.up[h]
}

// wait waits until somebody has taken notice of what was said last.
func (r *rumour) wait(t *testing.T, h nereid.Host) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.heard[h] {
			return poll.Success()
		}
		return poll.Continue("nobody asked for %s", h)
	}, poll.WithTimeout(30*time.Second), poll.WithDelay(time.Millisecond))
}

func (r *rumour) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *rumour) say(h nereid.Host, up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up[h] = up
	delete(r.heard, h)
	close(r.changed)
	r.changed = make(chan struct{})
}

// flaky is a state that takes nothing while it is broken.
type flaky struct {
	*state.Store
	broken atomic.Bool
}

func (f *flaky) Commit(ctx context.Context, ops ...state.Op) (state.Revision, error) {
	if f.broken.Load() {
		return 0, errors.New("no quorum")
	}
	return f.Store.Commit(ctx, ops...)
}

// TestRumourHidesAndShows: word of a host's absence goes through the state, so that all hosts hide alike; where the
// state does not take it, this host hides alone, keeps its serials and transfers nothing.
func TestRumourHidesAndShows(t *testing.T) {
	s := &flaky{Store: openState(t)}
	h1 := &state.Host{Name: "h1", Advertise: netip.MustParseAddr("192.0.2.1")}
	h2 := &state.Host{Name: "h2", Advertise: netip.MustParseAddr("192.0.2.2")}
	old := &state.Absence{Host: "h1", By: "h2"}
	commit(t, s.Store, state.Create(h1), state.Create(h2), state.Create(bridge()), state.Create(web(func(*state.Container) {})), state.Create(replica()), state.Create(old))
	r := newRumour()
	p, err := publish.New(s, publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal", Reach: r})
	assert.NilError(t, err)
	assert.Assert(t, !p.Exact())
	background(t, p.Run, nil)
	expect := func(want string, absences int, exact bool) *zone.Set {
		t.Helper()
		var set *zone.Set
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if set = p.Zones(); set == nil {
				return poll.Continue("no zones yet")
			}
			got := sorted(answer(set, "web.svc.admin."+apex, record.A))
			if n := len(s.View().Absences()); got != want || n != absences || p.Exact() != exact {
				return poll.Continue("%s, %d absences, exact %v", got, n, p.Exact())
			}
			return poll.Success()
		}, poll.WithTimeout(30*time.Second), poll.WithDelay(time.Millisecond))
		return set
	}
	both, one := "10.1.2.3, 10.1.2.4", "10.1.2.3"
	expect(both, 0, true) // h2 was not heard of yet, which says nothing; and this host is here, whatever was said
	r.say("h2", true)
	r.wait(t, "h2")
	expect(both, 0, true)
	r.say("h2", false)
	expect(one, 1, true)
	r.say("h2", true)
	before := expect(both, 0, true)

	s.broken.Store(true)
	r.say("h2", false)
	alone := expect(one, 0, false)
	assert.Equal(t, serialOf(t, alone), serialOf(t, before))
	s.broken.Store(false)
	expect(one, 1, true)
	r.say("h2", true)
	expect(both, 0, true)
}
