package logs

import (
	"slices"
	"sync"
	"time"
)

// stallLimit is how long output waits for a receiver that takes nothing, in mode blocking, before it is dropped: no
// receiver stops a container for good.
const stallLimit = 5 * time.Second

// queue holds messages for a receiver, as many bytes as its limit. Any number may put, one takes.
type queue struct {
	limit    int64
	blocking bool          // who puts waits for room, as long as the receiver takes something
	stall    time.Duration // stallLimit, but in tests

	mu      sync.Mutex
	all     []message
	size    int64
	stuck   bool // nobody waits: the receiver is down or does not take anything
	closed  bool
	dropped uint64        // bytes
	news    chan struct{} // holds a token when there is something to take, or the queue is closed
	room    chan struct{} // closed when something was taken, and replaced
}

func newQueue(limit int64, blocking bool) *queue {
	return &queue{limit: limit, blocking: blocking, stall: stallLimit, news: make(chan struct{}, 1), room: make(chan struct{})}
}

// put appends a copy of a message. One that does not fit is dropped, but for the first: a message is never larger than
// nothing at all.
func (q *queue) put(m message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.blocking {
		q.awaitRoomLocked(len(m.line))
	}
	if q.closed || !q.fitsLocked(len(m.line)) {
		q.dropped += uint64(len(m.line))
		return
	}
	m.line = slices.Clone(m.line)
	q.all = append(q.all, m)
	q.size += int64(len(m.line))
	q.ringLocked()
}

func (q *queue) fitsLocked(n int) bool { return len(q.all) == 0 || q.size+int64(n) <= q.limit }

// awaitRoomLocked waits, with the lock released, while the receiver goes on taking.
func (q *queue) awaitRoomLocked(n int) {
	for !q.closed && !q.stuck && !q.fitsLocked(n) {
		room := q.room
		q.mu.Unlock()
		timer := time.NewTimer(q.stall)
		var late bool
		select {
		case <-room:
		case <-timer.C:
			late = true
		}
		timer.Stop()
		q.mu.Lock()
		q.stuck = q.stuck || late
	}
}

// take waits for the next message; not ok: the queue is closed and empty.
func (q *queue) take() (m message, ok bool) {
	for {
		q.mu.Lock()
		if len(q.all) > 0 {
			m = q.all[0]
			q.all = q.all[1:]
			q.size -= int64(len(m.line))
			q.freeLocked()
			q.mu.Unlock()
			return m, true
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return m, false
		}
		<-q.news
	}
}

// report tells how a message that was taken fared: whether it is worth waiting for the receiver.
func (q *queue) report(delivered bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stuck = !delivered
	q.freeLocked()
}

// lose counts a message that was taken and could not be delivered.
func (q *queue) lose(m message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped += uint64(len(m.line))
}

// close ends the puts; what is there can still be taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ringLocked()
	q.freeLocked()
}

func (q *queue) lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func (q *queue) ringLocked() {
	select {
	case q.news <- struct{}{}:
	default:
	}
}

func (q *queue) freeLocked() {
	close(q.room)
	q.room = make(chan struct{})
}
