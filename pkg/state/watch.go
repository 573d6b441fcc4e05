package state

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
)

// Change is one record's newest form and the one the watcher last saw.
type Change struct {
	Old, New Record // nil: was not there; is gone
}

// Watch returns a coalescing watcher of the kinds named (all when none; events are no kind): its memory is bounded by
// the number of records, whatever the pace of its reader. It starts at the view's present: take the snapshot after
// Watch.
func (v *View) Watch(kinds ...Kind) *Watcher {
	w := newWatcher(v, kinds)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watchers[w] = struct{}{}
	return w
}

// WatchFrom is Watch that begins with all there is: the records of the kinds named as changes from nothing, and the
// revision as of which they are these.
func (v *View) WatchFrom(kinds ...Kind) (*Watcher, []Change, Revision) {
	w := newWatcher(v, kinds)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watchers[w] = struct{}{}
	var all []Change
	for _, r := range v.records {
		if w.wants(r.kind()) {
			all = append(all, Change{New: r})
		}
	}
	return w, all, v.rev
}

func newWatcher(v *View, kinds []Kind) *Watcher {
	return &Watcher{view: v, kinds: kinds, byKey: map[string]*list.Element{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Watcher: see View.Watch. One goroutine uses it.
type Watcher struct {
	view  *View
	kinds []Kind
	wake  chan struct{} // never closed
	done  chan struct{} // closed by Close
	once  sync.Once

	mu      sync.Mutex
	pending list.List                // of *pendingChange, oldest first
	byKey   map[string]*list.Element // into pending
}

type pendingChange struct {
	key string
	Change
}

// Next blocks until something changed and returns each changed record once, in its newest form, oldest change first.
// A record that came and went since is left out. Errors are the context's, or of class context.Canceled after Close.
func (w *Watcher) Next(ctx context.Context) ([]Change, error) {
	for {
		if changes := w.take(); len(changes) > 0 {
			return changes, nil
		}
		select {
		case <-w.wake:
		case <-w.done:
			return nil, fmt.Errorf("the watcher of the state is closed: %w", context.Canceled)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Wake tells that something may have changed since the last Next or Poll: for those who wait for other things too.
func (w *Watcher) Wake() <-chan struct{} { return w.wake }

// Poll is Next that does not wait: there may be no change. The revision is the one as of which the changes, with those
// told before, are all there are.
func (w *Watcher) Poll() ([]Change, Revision) {
	w.view.mu.RLock() // changes are told under the lock
	defer w.view.mu.RUnlock()
	return w.take(), w.view.rev
}

func (w *Watcher) take() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]Change, 0, w.pending.Len())
	for e := w.pending.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(*pendingChange).Change)
	}
	w.pending.Init()
	clear(w.byKey)
	return out
}

// Close ends the watcher. It may be called twice.
func (w *Watcher) Close() {
	w.once.Do(func() {
		w.view.mu.Lock()
		delete(w.view.watchers, w)
		w.view.mu.Unlock()
		close(w.done)
	})
}

func (w *Watcher) wants(k Kind) bool { return len(w.kinds) == 0 || slices.Contains(w.kinds, k) }

// tell notes a change, merging it with one of the same record that was not fetched yet.
func (w *Watcher) tell(key string, old, now Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.byKey[key]
	switch {
	case !ok:
		w.byKey[key] = w.pending.PushBack(&pendingChange{key, Change{Old: old, New: now}})
	case now == nil && e.Value.(*pendingChange).Old == nil:
		w.pending.Remove(e)
		delete(w.byKey, key)
		return
	default:
		e.Value.(*pendingChange).New = now
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// tellLocked hands a change to all watchers that asked for it.
func (v *View) tellLocked(key string, kind Kind, old, now Record) {
	for w := range v.watchers {
		if w.wants(kind) {
			w.tell(key, old, now)
		}
	}
}
