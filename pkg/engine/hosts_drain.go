package engine

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Drain has a host get no new containers, and those that run there go on elsewhere where they can; it names the others.
// Resume ends it. A host that ends meanwhile goes on when it starts again.
func (h *Hosts) Drain(ctx context.Context, name nereid.Host) (nereid.Drained, error) {
	if err := h.setDraining(ctx, name, true); err != nil {
		return nereid.Drained{}, err
	}
	if name == h.Host {
		return h.drainHere(ctx), nil
	}
	if !h.Fleet.State(name).Gone() && h.Road != nil {
		var d nereid.Drained
		err := h.ask(ctx, name, http.MethodPost, nereid.AdminPrefix+"/hosts/"+url.PathEscape(string(name))+"/drain", &d)
		return d, err
	}
	d := nereid.Drained{Host: name, Moved: []nereid.Moved{}, Stay: []nereid.Stays{}}
	for _, r := range h.State.View().ContainersOn(name) {
		if up(r) {
			d.Stay = append(d.Stay, staysOf(r, "the host does not answer"))
		}
	}
	return d, nil
}

func staysOf(r *state.Container, why string) nereid.Stays {
	return nereid.Stays{ID: r.ID, Name: r.Name, Account: r.Account, Why: why}
}

// drainLimit is how many containers move at once: each waits for its stop most of the time.
const drainLimit = 4

// drainHere moves what runs on this host, as long as it is being drained. What has moved before in this daemon's life is
// told, too.
func (h *Hosts) drainHere(ctx context.Context) nereid.Drained {
	h.drain.run.Lock() // one after the other: the second finds what the first has left
	defer h.drain.run.Unlock()
	var mu sync.Mutex
	d := nereid.Drained{Host: h.Host, Stay: []nereid.Stays{}}
	var g errgroup.Group
	g.SetLimit(drainLimit)
	for _, r := range h.State.View().ContainersOn(h.Host) {
		if !up(r) {
			continue
		}
		g.Go(func() error {
			if !h.draining() || ctx.Err() != nil {
				return nil
			}
			to, err := h.containers.move(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				d.Stay = append(d.Stay, staysOf(r, err.Error()))
				return nil
			}
			h.drain.moved = append(h.drain.moved, nereid.Moved{ID: r.ID, Name: r.Name, Account: r.Account, To: to})
			return nil
		})
	}
	_ = g.Wait() // never fails
	d.Moved = slices.Clone(h.drain.moved)
	slices.SortFunc(d.Moved, func(a, b nereid.Moved) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Stay, func(a, b nereid.Stays) int { return strings.Compare(a.Name, b.Name) })
	return d
}

// draining tells whether operators drain this host.
func (h *Hosts) draining() bool {
	m, ok := h.State.View().Member(h.Host)
	return ok && m.Draining
}

// drainOn goes on with a drain that the end of the daemon before has cut.
func (h *Hosts) drainOn(ctx context.Context) error {
	if !h.draining() {
		return nil
	}
	for _, s := range h.drainHere(ctx).Stay {
		h.Log.Warn("this host is drained, and a container stays", zap.String("container", s.Name), zap.String("why", s.Why))
	}
	return nil
}
