package engine

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// lane lets so many of one kind of heavy work go on at once on this host, and has the others wait in the order they came:
// a burst of it must leave the processors something for everything else, a list of containers among it, and is not
// done sooner by being done all at once.
type lane struct {
	kind    string
	places  chan struct{}
	waiting atomic.Int64
}

func newLane(kind string, places int) *lane {
	return &lane{kind: kind, places: make(chan struct{}, places)}
}

// patience is how long a turn is waited for. Work that hangs, on a volume's server or a log's, must not keep everything
// else of its kind from being done: who has waited so long goes without a place.
const patience = 10 * time.Second

// enter waits for a place; leave gives it back. It fails with the context's error, or when the daemon ends.
func (l *lane) enter(ctx context.Context, down <-chan struct{}) (leave func(), err error) {
	leave = func() { <-l.places }
	select {
	case l.places <- struct{}{}:
		return leave, nil
	default:
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	enough := time.NewTimer(patience)
	defer enough.Stop()
	select {
	case l.places <- struct{}{}:
		return leave, nil
	case <-enough.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-down:
		return nil, errdefs.ErrUnavailable.WithMessage("the daemon is stopping")
	}
}

// Lane is how busy one kind of work is.
type Lane struct {
	Kind             string
	Waiting, Running int
}

// Lanes are the kinds of work that are bounded, as they are now.
func (c *Containers) Lanes() []Lane {
	var all []Lane
	for _, l := range []*lane{c.starts, c.remains} {
		all = append(all, Lane{Kind: l.kind, Waiting: int(l.waiting.Load()), Running: len(l.places)})
	}
	return all
}
