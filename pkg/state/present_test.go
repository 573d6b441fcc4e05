package state_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// What was committed by one host is in the view of another one as soon as that has looked at the present.
func TestThePresentIsShown(t *testing.T) {
	t.Parallel()
	shows := func(t *testing.T, by *state.Store, at ...*state.Store) {
		t.Helper()
		for n := range 50 {
			c := newContainer(numbered(n), "")
			succeeds(t, "it is written", func() error { _, err := by.Commit(testContext(t), state.Put(c)); return err })
			for _, s := range at {
				s.Present(testContext(t))
				_, ok := s.View().Container(nereid.Admin, c.ID)
				assert.Assert(t, ok, "container %d", n)
			}
		}
	}
	t.Run("servers, and a host that is none", func(t *testing.T) {
		t.Parallel()
		first := newSeat(t, "127.0.0.1:0")
		s1, _ := run(t, first.config(t, "h1", nil))
		s2, at2, _, _ := join(t, s1, "h2")
		client, _ := run(t, state.Config{Host: "h4", Endpoints: []string{first.url, at2.url}})
		shows(t, s1, s2, client)
		shows(t, client, s1, s2)
	})
	t.Run("an etcd that others use too", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t)
		a, _ := run(t, c.direct("h1"))
		b, _ := run(t, c.direct("h2"))
		shows(t, a, b)
		others, err := clientv3.New(clientv3.Config{Endpoints: c.direct("").Endpoints})
		assert.NilError(t, err)
		defer func() { _ = others.Close() }()
		put, err := others.Put(testContext(t), "/others", "x")
		assert.NilError(t, err)
		b.Present(testContext(t))
		assert.Equal(t, b.View().Revision(), state.Revision(put.Header.Revision))
	})
}

// A request is not tried again that has changed something.
func TestAnAttemptKnowsWhatItChanged(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	ctx, attempt := state.WithAttempt(testContext(t))
	assert.Assert(t, !attempt.Changed())
	_, err := s.Commit(ctx, state.Put(newContainer(id("a"), "a")))
	assert.NilError(t, err)
	assert.Assert(t, attempt.Changed())
}
