package logs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// receiver delivers messages to where a driver sends them. One goroutine uses it.
type receiver interface {
	// connect reaches the receiver; its error is what the user sees when a container cannot start for it.
	connect(ctx context.Context) error
	// send delivers one message, connecting again where that is needed, or gives up with an error. It tells of each try
	// that fails. The context's end cuts it short.
	send(ctx context.Context, m message, failed func()) error
	close() error
}

const (
	// remoteBuffer is how much waits for a receiver where nothing else is asked; Docker's.
	remoteBuffer = 1_000_000
	// closeWait is how long an ended container waits for the last of its output to be delivered.
	closeWait = 2 * time.Second
)

// remote is the Writer of drivers that send messages elsewhere. What it writes goes to a file as well, so that it can be
// read here: exactly once, as with any log. To the receiver it goes through a bounded queue, and what is in it when the
// daemon dies is lost there.
type remote struct {
	cache *jsonFile // nil: not wanted
	queue *queue
	to    receiver

	mu     sync.Mutex // orders the messages of both streams; guards what follows
	splits map[string]*splitter

	failing atomic.Pointer[error] // why the last message was not delivered; nil when it was

	cancel  context.CancelFunc // ends what is being sent
	ended   chan struct{}      // closed when nothing more will be sent
	closing sync.Once
	err     error // of close
}

// openRemote begins to send. With wait the receiver must be reached first; without, for a container that runs already,
// it is reached when it can be.
func openRemote(to receiver, cache *jsonFile, q *queue, wait bool) (*remote, error) {
	ctx, cancel := context.WithCancel(context.Background())
	if wait {
		if err := to.connect(ctx); err != nil {
			cancel()
			return nil, err
		}
	}
	r := &remote{cache: cache, queue: q, to: to, splits: map[string]*splitter{}, cancel: cancel, ended: make(chan struct{})}
	go r.run(ctx)
	return r, nil
}

func (r *remote) run(ctx context.Context) {
	defer close(r.ended)
	for {
		m, ok := r.queue.take()
		if !ok {
			return
		}
		if ctx.Err() != nil {
			r.queue.lose(m)
			continue
		}
		err := r.to.send(ctx, m, func() { r.queue.report(false) })
		r.queue.report(err == nil)
		if err != nil {
			r.queue.lose(m)
			r.failing.Store(&err)
			continue
		}
		r.failing.Store(nil)
	}
}

// Log tells of trouble with the receiver as well, after the fact.
func (r *remote) Log(b Batch, j Journal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if r.cache != nil {
		err = r.cache.Log(b, j)
	} else {
		dropPiece(j, b)
	}
	s := r.splits[b.Stream]
	if s == nil {
		s = &splitter{}
		r.splits[b.Stream] = s
	}
	s.split(b, r.queue.put)
	if failing := r.failing.Load(); failing != nil {
		err = errors.Join(err, fmt.Errorf("send container log: %w", *failing))
	}
	return err
}

func (r *remote) Rewind(at Place) error {
	if r.cache == nil {
		return nil
	}
	return r.cache.Rewind(at)
}

func (r *remote) Dropped() uint64 {
	n := r.queue.lost()
	if r.cache != nil {
		n += r.cache.Dropped()
	}
	return n
}

// Close delivers what waits, within a bound.
func (r *remote) Close() error {
	r.closing.Do(func() {
		r.queue.close()
		timer := time.NewTimer(closeWait)
		defer timer.Stop()
		select {
		case <-r.ended:
		case <-timer.C:
		}
		r.cancel()
		<-r.ended
		r.err = r.to.close()
		if r.cache != nil {
			r.err = errors.Join(r.err, r.cache.Close())
		}
	})
	return r.err
}

// unreachable stands for a receiver whose options have become bad while the container runs.
type unreachable struct{ why error }

func (u unreachable) connect(context.Context) error               { return u.why }
func (u unreachable) send(context.Context, message, func()) error { return u.why }
func (u unreachable) close() error                                { return nil }
