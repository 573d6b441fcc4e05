package state

import (
	"context"
	"sync"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// waiterDepth is how many forms of one container a waiter may lag behind before it misses the oldest: many times
// what a container goes through between two turns of a goroutine.
const waiterDepth = 64

// waiter collects each form a container takes while somebody waits on it.
type waiter struct {
	mu    sync.Mutex
	forms []*Container // nil: gone
	wake  chan struct{}
}

func (w *waiter) tell(c *Container) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.forms) == waiterDepth {
		w.forms = w.forms[1:]
	}
	w.forms = append(w.forms, c)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *waiter) take() []*Container {
	w.mu.Lock()
	defer w.mu.Unlock()
	forms := w.forms
	w.forms = nil
	return forms
}

// WaitContainer blocks until cond holds for the container (nil when it is gone), checked on each of its changes in
// their order, and returns what it saw. It wakes for that container only. The error is the context's.
func (v *View) WaitContainer(ctx context.Context, a nereid.Account, id nereid.ContainerID, cond func(*Container) bool) (*Container, error) {
	key := owned[nereid.ContainerID]{a, id}
	w := &waiter{wake: make(chan struct{}, 1)}
	v.addWaiter(key, w)
	defer v.removeWaiter(key, w)
	for {
		for _, c := range w.take() {
			if cond(c) {
				return c, nil
			}
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// addWaiter has the waiter see the container as it is and all that follows.
func (v *View) addWaiter(key owned[nereid.ContainerID], w *waiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiters[key] == nil {
		v.waiters[key] = map[*waiter]struct{}{}
	}
	v.waiters[key][w] = struct{}{}
	w.tell(v.containers.byID[key])
}

func (v *View) removeWaiter(key owned[nereid.ContainerID], w *waiter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if delete(v.waiters[key], w); len(v.waiters[key]) == 0 {
		delete(v.waiters, key)
	}
}

// wakeWaitersLocked tells the waiters of the containers that a revision changed what became of them.
func (v *View) wakeWaitersLocked(changes []change) {
	if len(v.waiters) == 0 {
		return
	}
	for _, c := range changes {
		if c.kind != KindContainer {
			continue
		}
		id, ok := containerOf(c.key)
		if !ok {
			continue
		}
		for w := range v.waiters[id] {
			w.tell(v.containers.byID[id])
		}
	}
}
