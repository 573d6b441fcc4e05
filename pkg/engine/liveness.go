package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Rumour is what is heard of hosts: a hint.
type Rumour interface {
	// State of a host; false when nothing was ever heard of it.
	State(h nereid.Host) (nereid.HostState, bool)
	// Gone is closed once a host does not answer any more.
	Gone(h nereid.Host) <-chan struct{}
}

// Liveness tells which hosts answer: by the rumour, and of those it does not know by their lease. Nil: all do. All
// methods may be called at once.
type Liveness struct {
	self   nereid.Host
	view   *state.View
	rumour func() Rumour // nil while there is none
}

// NewLiveness makes a Liveness.
func NewLiveness(self nereid.Host, view *state.View, rumour func() Rumour) *Liveness {
	return &Liveness{self, view, rumour}
}

// State of a host.
func (l *Liveness) State(h nereid.Host) nereid.HostState {
	if l == nil || h == l.self {
		return nereid.HostAlive
	}
	if r := l.rumour(); r != nil {
		if s, ok := r.State(h); ok {
			return s
		}
	}
	if _, ok := l.view.Host(h); ok {
		return nereid.HostAlive
	}
	return nereid.HostUnreachable
}

// Gone is closed once a host does not answer any more; nil where that is never told.
func (l *Liveness) Gone(h nereid.Host) <-chan struct{} {
	if l == nil || h == l.self {
		return nil
	}
	if r := l.rumour(); r != nil {
		return r.Gone(h)
	}
	return nil
}

// Watched is a context that ends, with an error that says so, when a host does not answer any more.
func (l *Liveness) Watched(ctx context.Context, h nereid.Host) (context.Context, context.CancelFunc) {
	gone := l.Gone(h)
	if gone == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-gone:
			cancel(errHostGone(h))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func errHostGone(h nereid.Host) error {
	return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("host %s is unreachable", h))
}
