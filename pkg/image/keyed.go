package image

import (
	"context"
	"sync"
)

// keyed is a set of locks made as they are needed and forgotten when nobody wants them. The zero value is ready.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	held    chan struct{} // one slot: full while somebody holds the lock
	wanting int
}

// lock waits for the key's lock, or for the end of the context. The caller calls unlock exactly once.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = make(map[string]*keyedLock)
	}
	l, ok := k.locks[key]
	if !ok {
		l = &keyedLock{held: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.wanting++
	k.mu.Unlock()

	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; k.forget(key, l) }, nil
	case <-ctx.Done():
		k.forget(key, l)
		return nil, ctx.Err()
	}
}

func (k *keyed) forget(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.wanting--; l.wanting == 0 {
		delete(k.locks, key)
	}
}
