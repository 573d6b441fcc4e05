package state_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	clientv3 "go.etcd.io/etcd/client/v3"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestEventIsCompletedAndKept(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	before := time.Now().UnixNano()
	e := newEvent("start", 1)
	rev := commit(t, s, state.Emit(e))
	all := s.View().Events(0, 0).Ready()
	assert.Equal(t, len(all), 1)
	got := all[0]
	assert.Equal(t, got.Rev, rev)
	assert.Equal(t, e.Rev, rev)
	assert.Equal(t, got.Host, testHost)
	assert.Assert(t, got.Message.TimeNano >= before)
	assert.Equal(t, got.Message.Time, got.Message.TimeNano/1e9)
	assert.DeepEqual(t, got.Message, e.Message)

	e.Message.Actor.Attributes["name"] = "changed"
	assert.Equal(t, got.Message.Actor.Attributes["name"], "web", "the view shares a map with the caller")
}

func TestEventsKeepTheirOrderUnderConcurrency(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, stop := run(t, cfg)
	live := s.View().Events(s.View().Revision(), 0)
	const writers, each = 10, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				c := newContainer(numbered(w), "web")
				c.RestartCount = i
				_, err := s.Commit(t.Context(), state.Put(c),
					state.Emit(newEvent(fmt.Sprint("die", i), w)), state.Emit(newEvent(fmt.Sprint("start", i), w)))
				assert.Check(t, err)
			}
		})
	}
	var seen []*state.Event
	for len(seen) < 2*writers*each {
		more, err := live.Next(testContext(t))
		assert.NilError(t, err)
		seen = append(seen, more...)
	}
	wg.Wait()
	checkOrder(t, seen)

	stop()
	s, _ = run(t, cfg)
	again := s.View().Events(0, 0).Ready()
	assert.Assert(t, cmp.Equal(again, seen, cmpopts.IgnoreUnexported(state.Event{})), "order or content changed over a restart")
}

// checkOrder: revisions grow, a transaction's two events stand together, and each writer's follow its own order.
func checkOrder(t *testing.T, seen []*state.Event) {
	t.Helper()
	next := map[string]int{}
	for i := 0; i < len(seen); i += 2 {
		die, start := seen[i], seen[i+1]
		assert.Equal(t, die.Rev, start.Rev)
		assert.Assert(t, i == 0 || seen[i-1].Rev < die.Rev)
		assert.Assert(t, die.Message.TimeNano < start.Message.TimeNano)
		who := die.Message.Actor.ID
		assert.Equal(t, die.Message.Action, events.Action(fmt.Sprint("die", next[who])))
		assert.Equal(t, start.Message.Action, events.Action(fmt.Sprint("start", next[who])))
		next[who]++
	}
}

func TestEventCursor(t *testing.T) {
	v := state.NewView()
	// The third was overtaken: a later revision with an earlier time.
	for i, nano := range []int64{100, 300, 200, 400} {
		e := newEvent("start", i)
		e.Message.TimeNano = nano
		v.ShowEvent(state.Revision(10+i), e)
	}
	for _, tc := range []struct {
		name  string
		after state.Revision
		since int64
		want  []int64
	}{
		{"all", 0, 0, []int64{100, 300, 200, 400}},
		{"after a revision", 11, 0, []int64{200, 400}},
		{"after the last", 13, 0, nil},
		{"since a time, that time included", 0, 200, []int64{300, 200, 400}},
		{"since a time, overtaken left out", 0, 250, []int64{300, 400}},
		{"since the future", 0, 500, nil},
		{"both", 12, 100, []int64{400}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := v.Events(tc.after, tc.since)
			var got []int64
			for _, e := range c.Ready() {
				got = append(got, e.Message.TimeNano)
			}
			assert.DeepEqual(t, got, tc.want)
			assert.Equal(t, len(c.Ready()), 0, "read twice")
		})
	}
	t.Run("blocks for the next", func(t *testing.T) {
		c := v.Events(13, 0)
		got := make(chan []*state.Event)
		go func() {
			out, err := c.Next(testContext(t))
			assert.Check(t, err)
			got <- out
		}()
		v.Show(14, newContainer(id("a"), "x")) // no event: nothing to return
		e := newEvent("stop", 1)
		v.ShowEvent(15, e)
		assert.DeepEqual(t, <-got, []*state.Event{e}, cmpopts.IgnoreUnexported(state.Event{}))
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := v.Events(v.Revision(), 0).Next(ctx)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func TestSlowReaderLosesOnlyWhatExpired(t *testing.T) {
	v := state.NewView()
	slow := v.Events(0, 0)
	const over = 10
	for i := range state.EventLimit + over {
		e := &state.Event{Account: nereid.Admin, Host: testHost}
		e.Message.TimeNano = int64(i + 1)
		v.ShowEvent(state.Revision(i+1), e)
	}
	got := slow.Ready()
	assert.Equal(t, len(got), state.EventLimit)
	assert.Equal(t, got[0].Rev, state.Revision(over+1))
}

// Only so many events are kept, in memory and in etcd.
func TestKeptEvents(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Events = 3
	s, _ := run(t, cfg)
	for n := range 5 {
		commit(t, s, state.Emit(newEvent("start", n)))
	}
	assert.Equal(t, len(s.View().Events(0, 0).Ready()), 3)
	assert.NilError(t, s.TrimEvents(testContext(t), time.Now()))
	assert.Equal(t, countKeys(t, s, state.Root+"events/"), int64(3))
}

func TestExpiredEventsLeaveEtcd(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, stop := run(t, cfg)
	commit(t, s, state.Emit(newEvent("start", 1)), state.Emit(newEvent("die", 1)))
	split := time.Now()
	commit(t, s, state.Emit(newEvent("start", 2)))

	assert.NilError(t, s.TrimEvents(testContext(t), split.Add(state.EventAge)))
	assert.Equal(t, len(s.View().Events(0, 0).Ready()), 1)
	assert.Equal(t, countKeys(t, s, state.Root+"events/"), int64(1))
	assert.NilError(t, s.TrimEvents(testContext(t), split.Add(state.EventAge)), "not idempotent")
	assert.Equal(t, countKeys(t, s, state.Root+"events/"), int64(1))

	stop()
	s, _ = run(t, cfg)
	got := s.View().Events(0, 0).Ready()
	assert.Equal(t, len(got), 1)
	assert.Equal(t, got[0].Message.Actor.ID, string(numbered(2)))
}

func countKeys(t *testing.T, s *state.Store, prefix string) int64 {
	t.Helper()
	resp, err := s.Client().Get(testContext(t), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	assert.NilError(t, err)
	return resp.Count
}

func TestStampsGrowOverARestart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, stop := run(t, cfg)
	e := newEvent("start", 1)
	commit(t, s, state.Emit(e))
	stop()
	s, _ = run(t, cfg)
	later := newEvent("die", 1)
	commit(t, s, state.Emit(later))
	assert.Assert(t, later.Message.TimeNano > e.Message.TimeNano)
}
