package engine

import (
	"context"
	"sync"

	"github.com/nereid-paas/nereid/runtime"
)

// keylock orders what happens to one container: its verbs, its exit and its adoption. Different containers never wait
// for each other. The zero value is ready.
type keylock struct {
	mu   sync.Mutex
	held map[runtime.Key]*keyholder
}

type keyholder struct {
	turn chan struct{} // holds one token while somebody has the lock
	refs int           // holders and waiters, guarded by keylock.mu
}

// lock waits for the key's turn and returns the function that ends it, to be called exactly once. It fails only when
// the context ends first.
func (l *keylock) lock(ctx context.Context, key runtime.Key) (unlock func(), err error) {
	h := l.enter(key)
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn; l.leave(key, h) }, nil
	case <-ctx.Done():
		l.leave(key, h)
		return nil, context.Cause(ctx)
	}
}

// busy tells whether somebody holds the lock or waits for it.
func (l *keylock) busy(key runtime.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[key] != nil
}

func (l *keylock) enter(key runtime.Key) *keyholder {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[runtime.Key]*keyholder{}
	}
	h := l.held[key]
	if h == nil {
		h = &keyholder{turn: make(chan struct{}, 1)}
		l.held[key] = h
	}
	h.refs++
	return h
}

func (l *keylock) leave(key runtime.Key, h *keyholder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.refs--; h.refs == 0 {
		delete(l.held, key)
	}
}
