package engine

import (
	"context"
	"errors"
	"maps"
	"net"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// lostHosts are the hosts that the state calls absent and whose machines do not answer either: what runs there, if it
// does, is not reached from here. A daemon that was killed or hangs is absent, too, but its machine still refuses or takes
// connections, and its containers go on: it is not lost.
type lostHosts struct {
	view    *state.View
	answers func(ctx context.Context, addr string) bool // a machine, at ADDR:PORT

	mu sync.Mutex
	// silent are the machines that did not answer, by the absence for which that was found out.
	silent map[nereid.Host]state.Revision
}

// absence of a host that is lost; nil for all others.
func (l *lostHosts) absence(h nereid.Host) *state.Absence {
	a, ok := l.view.Absence(h)
	if !ok {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if rev, silent := l.silent[h]; !silent || rev != a.Rev {
		return nil
	}
	return a
}

// set replaces what was found out, and tells whether anything has changed.
func (l *lostHosts) set(silent map[nereid.Host]state.Revision) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := !maps.Equal(l.silent, silent)
	l.silent = silent
	return changed
}

const (
	// lostLook is how often the machines of absent hosts are knocked at.
	lostLook = time.Second
	// knockTime is ample for a machine to answer, with one packet lost.
	knockTime = 1500 * time.Millisecond
	// knockLimit is how many are knocked at together.
	knockLimit = 32
)

// watchLost finds out which hosts are lost, and has the mesh follow, until the context ends.
func (n *Networks) watchLost(ctx context.Context) error {
	w := n.State.View().Watch(state.KindAbsence)
	defer w.Close()
	for ctx.Err() == nil {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if n.knock(ctx) {
			wait, cancel = context.WithTimeout(ctx, lostLook)
		}
		_, _ = w.Next(wait)
		cancel()
	}
	return nil
}

// knock looks which absent hosts have machines that answer. It tells whether there are absent hosts.
func (n *Networks) knock(ctx context.Context) bool {
	absent := n.State.View().Absences()
	silent := map[nereid.Host]state.Revision{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(knockLimit)
	for _, a := range absent {
		m, ok := n.State.View().Member(a.Host)
		if !ok || a.Host == n.Host {
			continue
		}
		g.Go(func() error {
			if !n.lost.answers(ctx, m.Peer) {
				mu.Lock()
				defer mu.Unlock()
				silent[a.Host] = a.Rev
			}
			return nil
		})
	}
	_ = g.Wait() // never fails
	if ctx.Err() == nil && n.lost.set(silent) {
		for h := range silent {
			n.Log.Warn("a host and its machine do not answer: its published ports are withdrawn", zap.String("host", string(h)))
		}
		n.meshAll(ctx)
	}
	return len(absent) > 0
}

// machineAnswers tells whether somebody is at an address: who refuses a connection is there.
func machineAnswers(ctx context.Context, addr string) bool {
	d := net.Dialer{Timeout: knockTime}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}
