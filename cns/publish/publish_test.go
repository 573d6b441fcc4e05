package publish_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/state"
)

// openState runs a real state of one host until the test ends.
func openState(t *testing.T) *state.Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "cns") // short: a unix socket's path holds 107 bytes
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	s, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "s"), Host: "h1"})
	assert.NilError(t, err)
	background(t, s.Run, s.Close)
	return s
}

// background runs something until the test ends, then finishes with after.
func background(t *testing.T, run func(context.Context) error, after func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.Check(t, <-done)
		if after != nil {
			assert.Check(t, after())
		}
	})
}

func commit(t *testing.T, s *state.Store, ops ...state.Op) {
	t.Helper()
	_, err := s.Commit(t.Context(), ops...)
	assert.NilError(t, err)
}

func waitFor(t *testing.T, p *publish.Publisher, want string) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if set := p.Zones(); set != nil && verdicts(set) == want {
			return poll.Success()
		}
		return poll.Continue("not %s yet", want)
	}, poll.WithTimeout(time.Minute), poll.WithDelay(time.Millisecond))
}

func TestPublisherFollowsTheState(t *testing.T) {
	s := openState(t)
	c := web(func(*state.Container) {})
	commit(t, s, state.Create(bridge()), state.Create(c))
	p, err := publish.New(s, publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal"})
	assert.NilError(t, err)
	assert.Assert(t, p.Zones() == nil, "zones before the state was read")
	background(t, p.Run, nil)

	waitFor(t, p, "Answer Answer") // what was there before
	serial := func(set *zone.Set) uint32 { z, _ := set.Zone(apex); return z.Serial }
	first := serial(p.Zones())

	c.State.Status = state.StatusExited
	commit(t, s, state.Update(c))
	waitFor(t, p, "NXDomain NXDomain")
	assert.Assert(t, serial(p.Zones()) > first)

	c.State.Status = state.StatusRunning
	commit(t, s, state.Update(c))
	waitFor(t, p, "Answer Answer")
	commit(t, s, state.Delete(c))
	waitFor(t, p, "NXDomain NXDomain")
}
