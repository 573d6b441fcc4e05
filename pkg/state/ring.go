package state

import (
	"context"
	"sort"
	"time"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// eventAge and Config.Events bound what events are kept, whichever is less: what a client asks for after the fact
// ("since") is minutes old.
const eventAge = 24 * time.Hour

// DefaultEvents is how many events are kept: one of a container with ten labels takes 1.7 KB of memory, with its place in
// etcd's index.
const DefaultEvents = 100_000

// ring holds the events not yet expired, in fleet order: by revision, and by the op's place within one. Reading and
// changing it needs the view's lock.
type ring struct {
	limit   int // of entries
	entries []ringEntry
	gone    uint64 // entries that left at the front: the place of entries[0]
	news    bell   // rings when one is added
	// expired is the newest stamp of each host among the entries that left: what is to leave etcd.
	expired map[nereid.Host]int64
}

type ringEntry struct {
	*Event
	// latest is the newest TimeNano up to here. Hosts' clocks differ and transactions overtake each other, so
	// times are only nearly in order; this one is, and can be searched.
	latest int64
}

// add appends an event, dropping the oldest beyond the limit.
func (r *ring) add(e *Event) {
	entry := ringEntry{e, e.Message.TimeNano}
	if n := len(r.entries); n > 0 {
		entry.latest = max(entry.latest, r.entries[n-1].latest)
	}
	r.entries = append(r.entries, entry)
	if len(r.entries) > r.limit {
		r.dropFirst(1)
	}
	r.news.ring()
}

// dropFirst lets go of the n oldest. The array moves along, and is left behind when append outgrows it.
func (r *ring) dropFirst(n int) {
	for _, e := range r.entries[:n] {
		r.expired[e.Host] = max(r.expired[e.Host], e.stamp)
	}
	clear(r.entries[:n])
	r.entries = r.entries[n:]
	r.gone += uint64(n)
}

// dropBefore lets go of the oldest as long as they are stamped before a time.
func (r *ring) dropBefore(stamp int64) {
	n := 0
	for n < len(r.entries) && r.entries[n].stamp < stamp {
		n++
	}
	r.dropFirst(n)
}

// last is the newest event's revision, 0 without one.
func (r *ring) last() Revision {
	if len(r.entries) == 0 {
		return 0
	}
	return r.entries[len(r.entries)-1].Rev
}

// Events returns a cursor over the events after the given revision and not before the given time (Unix nanoseconds,
// by TimeNano), whichever the caller sets; with neither, all there still are. Pass the view's Revision for what is
// yet to come. It reads from the view's own ring, so a slow reader costs nothing and loses only what expired.
func (v *View) Events(after Revision, since int64) *EventCursor {
	v.mu.RLock()
	defer v.mu.RUnlock()
	entries := v.events.entries
	start := sort.Search(len(entries), func(i int) bool { return entries[i].Rev > after && entries[i].latest >= since })
	return &EventCursor{view: v, next: v.events.gone + uint64(start), since: since}
}

// EventCursor: see View.Events. One goroutine uses it. It needs no closing.
type EventCursor struct {
	view  *View
	next  uint64 // the place of the first event not read yet
	since int64
}

// Ready returns the events there are now without blocking, in fleet order.
func (c *EventCursor) Ready() []*Event {
	c.view.mu.RLock()
	defer c.view.mu.RUnlock()
	r := &c.view.events
	at := int(max(c.next, r.gone) - r.gone)
	var out []*Event
	for _, e := range r.entries[at:] {
		if e.Message.TimeNano >= c.since {
			out = append(out, e.Event)
		}
	}
	c.next = r.gone + uint64(len(r.entries))
	return out
}

// Next blocks until there is at least one. The error is the context's.
func (c *EventCursor) Next(ctx context.Context) ([]*Event, error) {
	for {
		news := c.view.events.news.listen()
		if out := c.Ready(); len(out) > 0 {
			return out, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lastStamp is the newest stamp a host gave to an event still kept.
func (v *View) lastStamp(h nereid.Host) int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var last int64
	for _, e := range v.events.entries {
		if e.Host == h {
			last = max(last, e.stamp)
		}
	}
	return last
}
