package state_test

import (
	"context"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestWatcher(t *testing.T) {
	a1, a2, a3 := newContainer(id("a"), "a"), newContainer(id("a"), "a"), newContainer(id("a"), "a")
	b := newContainer(id("b"), "b")
	net := &state.Network{Account: nereid.Admin, ID: "n"}
	for _, tc := range []struct {
		name  string
		kinds []state.Kind
		start func(*state.View) // before Watch
		then  func(*state.View) // after Watch
		want  []state.Change
	}{
		{"starts at the present", nil,
			func(v *state.View) { v.Show(1, a1) },
			func(v *state.View) { v.Show(2, b) },
			[]state.Change{{New: b}}},
		{"newest form only, with the one last seen", nil,
			func(v *state.View) { v.Show(1, a1) },
			func(v *state.View) { v.Show(2, a2); v.Show(3, a3) },
			[]state.Change{{Old: a1, New: a3}}},
		{"oldest change first", nil,
			func(v *state.View) { v.Show(1, a1) },
			func(v *state.View) { v.Show(2, a2); v.Show(3, b); v.Show(4, a3) },
			[]state.Change{{Old: a1, New: a3}, {New: b}}},
		{"gone", nil,
			func(v *state.View) { v.Show(1, a1) },
			func(v *state.View) { v.Show(2, a2); v.Drop(3, a2) },
			[]state.Change{{Old: a1}}},
		{"gone and back", nil,
			func(v *state.View) { v.Show(1, a1) },
			func(v *state.View) { v.Drop(2, a1); v.Show(3, a3) },
			[]state.Change{{Old: a1, New: a3}}},
		{"came and went is nothing", nil,
			func(*state.View) {},
			func(v *state.View) { v.Show(1, a1); v.Drop(2, a1); v.Show(3, b) },
			[]state.Change{{New: b}}},
		{"only the kinds asked for", []state.Kind{state.KindNetwork},
			func(*state.View) {},
			func(v *state.View) { v.Show(1, a1, net) },
			[]state.Change{{New: net}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := state.NewView()
			tc.start(v)
			w := v.Watch(tc.kinds...)
			defer w.Close()
			tc.then(v)
			got, err := w.Next(testContext(t))
			assert.NilError(t, err)
			assert.DeepEqual(t, got, tc.want)
		})
	}
}

func TestWatcherWakesAndEnds(t *testing.T) {
	v := state.NewView()
	w := v.Watch()
	c := newContainer(id("a"), "a")
	got := make(chan []state.Change)
	go func() {
		changes, err := w.Next(testContext(t))
		assert.Check(t, err)
		got <- changes
	}()
	v.Show(1, c)
	assert.DeepEqual(t, <-got, []state.Change{{New: c}})

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Next(ended)
	assert.ErrorIs(t, err, context.Canceled)

	go w.Close()
	_, err = w.Next(testContext(t))
	assert.Error(t, err, "the watcher of the state is closed: context canceled")
	w.Close()
	v.Show(2, newContainer(id("b"), "b"))
	_, err = w.Next(testContext(t))
	assert.ErrorIs(t, err, context.Canceled)
}

func TestWaitContainer(t *testing.T) {
	exited := func(c *state.Container) bool { return c == nil || c.Exits > 0 }
	t.Run("holds already", func(t *testing.T) {
		v := state.NewView()
		c := newContainer(id("a"), "a")
		c.Exits = 1
		v.Show(1, c)
		got, err := v.WaitContainer(testContext(t), nereid.Admin, c.ID, exited)
		assert.NilError(t, err)
		assert.Equal(t, got, c)
	})
	t.Run("of no container", func(t *testing.T) {
		got, err := state.NewView().WaitContainer(testContext(t), nereid.Admin, "x", exited)
		assert.NilError(t, err)
		assert.Assert(t, got == nil)
	})
	t.Run("sees each change, and those of its container only", func(t *testing.T) {
		v := state.NewView()
		c := newContainer(id("a"), "a")
		v.Show(1, c)
		var saw []string
		waiting, done := make(chan struct{}), make(chan error)
		go func() {
			_, err := v.WaitContainer(testContext(t), nereid.Admin, c.ID, func(c *state.Container) bool {
				if len(saw) == 0 {
					close(waiting)
				}
				if c == nil {
					return true
				}
				saw = append(saw, c.State.Status)
				return false
			})
			done <- err
		}()
		<-waiting
		for i, status := range []string{state.StatusRunning, state.StatusExited, state.StatusRemoving} {
			next := c.Clone()
			next.State.Status = status
			v.Show(state.Revision(2+2*i), next)
			v.Show(state.Revision(3+2*i), newContainer(id("b"), "other"))
		}
		v.Drop(20, c)
		assert.NilError(t, <-done)
		assert.DeepEqual(t, saw, []string{state.StatusCreated, state.StatusRunning, state.StatusExited, state.StatusRemoving})
	})
	t.Run("ends with its context", func(t *testing.T) {
		v := state.NewView()
		v.Show(1, newContainer(id("a"), "a"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := v.WaitContainer(ctx, nereid.Admin, id("a"), exited)
		assert.ErrorIs(t, err, context.Canceled)
	})
}
