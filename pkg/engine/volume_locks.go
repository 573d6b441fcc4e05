package engine

import (
	"context"
	"sync"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// volumeLocks order what happens to the data of one volume on this host: being made, filled and removed. Different
// volumes never wait for each other. The zero value is ready.
type volumeLocks struct {
	mu   sync.Mutex
	held map[volumeKey]*volumeTurn
}

type volumeKey struct {
	account nereid.Account
	name    string
}

func keyOfVolume(v *state.Volume) volumeKey { return volumeKey{v.Account, v.Name} }

type volumeTurn struct {
	token chan struct{} // holds one token while somebody has the lock
	refs  int           // holders and waiters, guarded by volumeLocks.mu
}

// lock waits for the volume's turn and returns the function that ends it, to be called once. It fails only when the
// context ends first.
func (l *volumeLocks) lock(ctx context.Context, v *state.Volume) (unlock func(), err error) {
	key := keyOfVolume(v)
	t := l.enter(key)
	select {
	case t.token <- struct{}{}:
		return func() { <-t.token; l.leave(key, t) }, nil
	case <-ctx.Done():
		l.leave(key, t)
		return nil, context.Cause(ctx)
	}
}

func (l *volumeLocks) enter(key volumeKey) *volumeTurn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[volumeKey]*volumeTurn{}
	}
	t := l.held[key]
	if t == nil {
		t = &volumeTurn{token: make(chan struct{}, 1)}
		l.held[key] = t
	}
	t.refs++
	return t
}

func (l *volumeLocks) leave(key volumeKey, t *volumeTurn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.refs--; t.refs == 0 {
		delete(l.held, key)
	}
}
