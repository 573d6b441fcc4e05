package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
)

func TestLaneLetsSoManyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane("start", 2)
		first, err := l.enter(t.Context(), nil)
		assert.NilError(t, err)
		_, err = l.enter(t.Context(), nil)
		assert.NilError(t, err)
		var order []int
		for i := range 3 {
			go func() {
				leave, err := l.enter(context.Background(), nil)
				assert.Check(t, err)
				order = append(order, i) // one place: one at a time
				leave()
			}()
			synctest.Wait() // they come one after another
		}
		assert.Equal(t, l.waiting.Load(), int64(3))
		assert.Equal(t, len(order), 0)
		first()
		synctest.Wait()
		assert.DeepEqual(t, order, []int{0, 1, 2})
		assert.Equal(t, l.waiting.Load(), int64(0))
		assert.Equal(t, len(l.places), 1)
	})
}

func TestWaitingForAPlaceEnds(t *testing.T) {
	l := newLane("start", 1)
	leave, err := l.enter(t.Context(), nil)
	assert.NilError(t, err)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	_, err = l.enter(ctx, nil)
	assert.ErrorIs(t, err, gone)
	down := make(chan struct{})
	close(down)
	_, err = l.enter(t.Context(), down)
	assert.Check(t, errdefs.IsUnavailable(err), "%v", err)
	assert.Equal(t, l.waiting.Load(), int64(0))
	leave()
	_, err = l.enter(t.Context(), nil)
	assert.NilError(t, err)
}

// Work that hangs does not keep the rest from being done.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane("start", 1)
		_, err := l.enter(t.Context(), nil)
		assert.NilError(t, err)
		begin := time.Now()
		leave, err := l.enter(t.Context(), nil)
		assert.NilError(t, err)
		assert.Equal(t, time.Since(begin), patience)
		leave()
		assert.Equal(t, len(l.places), 1, "the place is the other's")
		assert.Equal(t, l.waiting.Load(), int64(0))
	})
}
