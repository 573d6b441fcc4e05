package state

import (
	"context"
	"maps"
	"sync"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// View is the state in memory, fed by the store: see Store.View. Records in it are replaced, never edited.
type View struct {
	mu sync.RWMutex
	// rev is the newest revision whose changes are all in.
	rev     Revision
	records map[string]Record // by key
	*indexes
	events ring
	// early are transactions of ours whose turn has not come: an older revision is missing yet.
	early    map[Revision][]change
	watchers map[*Watcher]struct{}
	waiters  map[owned[nereid.ContainerID]]map[*waiter]struct{}

	moved bell // rings when rev grows
}

// change is one key's new content.
type change struct {
	key   string
	kind  Kind
	rec   Record // nil: deleted
	event *Event // of an event's key; kind and rec are empty then
}

func newView(events int) *View {
	return &View{
		records:  map[string]Record{},
		indexes:  newIndexes(),
		events:   ring{limit: events, expired: map[nereid.Host]int64{}},
		early:    map[Revision][]change{},
		watchers: map[*Watcher]struct{}{},
		waiters:  map[owned[nereid.ContainerID]]map[*waiter]struct{}{},
	}
}

// Revision is the newest revision whose changes the view shows.
func (v *View) Revision() Revision {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.rev
}

// show brings in a transaction of ours, right away when nothing older is missing, and returns once it is in.
func (v *View) show(ctx context.Context, rev Revision, changes []change) error {
	v.mu.Lock()
	if rev > v.rev {
		v.early[rev] = changes
		v.catchUpLocked()
	}
	done := v.rev >= rev
	v.mu.Unlock()
	if done {
		return nil
	}
	return v.waitFor(ctx, func() bool { return v.rev >= rev })
}

// learn brings in all changes of one revision that the watch told, unless they are in already.
func (v *View) learn(rev Revision, changes []change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if rev <= v.rev {
		return
	}
	v.applyLocked(rev, changes)
	v.catchUpLocked()
}

// catchUpLocked brings in what follows rev without a gap, and forgets what came in another way.
func (v *View) catchUpLocked() {
	maps.DeleteFunc(v.early, func(r Revision, _ []change) bool { return r <= v.rev })
	for {
		next := v.rev + 1
		changes, ok := v.early[next]
		if !ok {
			return
		}
		delete(v.early, next)
		v.applyLocked(next, changes)
	}
}

// applyLocked brings in one revision: deletions first, so that a container that changes its host, and with it its key,
// is dropped under the old before it is entered under the new.
func (v *View) applyLocked(rev Revision, changes []change) {
	for _, c := range changes {
		if c.rec == nil && c.event == nil {
			v.replaceLocked(c)
		}
	}
	for _, c := range changes {
		switch {
		case c.event != nil:
			v.events.add(c.event)
		case c.rec != nil:
			v.replaceLocked(c)
		}
	}
	v.rev = rev
	v.wakeWaitersLocked(changes)
	v.moved.ring()
}

func (v *View) replaceLocked(c change) {
	old := v.records[c.key]
	if old == nil && c.rec == nil {
		return
	}
	index := v.indexersByKind[c.kind]
	if c.rec != nil {
		index.add(c.rec)
		v.records[c.key] = c.rec
	} else {
		delete(v.records, c.key)
	}
	if old != nil && old != c.rec {
		index.drop(old)
	}
	v.tellLocked(c.key, c.kind, old, c.rec)
}

// knowsLocked tells whether the view is past what an op stumbled over: the record at revision found, or 0 when the
// record is gone.
func (v *View) knowsLocked(stumbled Record, found Revision) bool {
	if found > 0 && v.rev >= found {
		return true
	}
	have := v.records[stumbled.key()]
	if have == nil {
		return found == 0
	}
	return found == 0 && have.meta().Rev != stumbled.meta().Rev
}

// waitFor blocks until cond holds. It is called with the lock held for reading.
func (v *View) waitFor(ctx context.Context, cond func() bool) error {
	for {
		moved := v.moved.listen()
		v.mu.RLock()
		ok := cond()
		v.mu.RUnlock()
		if ok {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return unseen(ctx)
		}
	}
}
