package engine

import (
	"context"
	"sync"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/runtime"
)

func TestKeylockOrdersOneKey(t *testing.T) {
	var l keylock
	key := runtime.Key{Account: "a", ID: "1"}
	inside := 0
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			unlock, err := l.lock(context.Background(), key)
			assert.Check(t, err)
			inside++ // the race detector watches
			unlock()
		})
	}
	wg.Wait()
	assert.Equal(t, inside, 50)
	assert.Equal(t, len(l.held), 0)
}

func TestKeylockGivesUpWithItsContext(t *testing.T) {
	var l keylock
	key := runtime.Key{Account: "a", ID: "1"}
	unlock, err := l.lock(context.Background(), key)
	assert.NilError(t, err)
	other, err := l.lock(context.Background(), runtime.Key{Account: "b", ID: "1"})
	assert.NilError(t, err)
	other()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = l.lock(ctx, key)
	assert.ErrorIs(t, err, context.Canceled)
	unlock()
	assert.Equal(t, len(l.held), 0)
}
