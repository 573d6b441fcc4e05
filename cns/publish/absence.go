package publish

import (
	"context"
	"maps"
	"time"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	// lookEvery is how often the rumour is compared with what the state says of it.
	lookEvery = 250 * time.Millisecond
	// patience is how long the state may take to say that a host is unreachable before this host hides it alone: several
	// times what it takes while the state can be written at all.
	patience = 2 * time.Second
)

// Reachability is the rumour of which hosts answer.
type Reachability interface {
	// Unreachable tells whether a host has not answered for some time, as far as this one knows. It does not block.
	Unreachable(h nereid.Host) bool
}

// hide hides on this host alone what it hears to be unreachable while the state does not say so: it cannot be written,
// or this host is cut off from it. What the state says, all hosts hide alike.
func (p *Publisher) hide(ctx context.Context) {
	doubts := doubts{since: map[nereid.Host]time.Time{}}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if hosts, changed := doubts.look(now, p.cfg.Host, p.store.View(), p.cfg.Reach); changed {
				p.doubt(hosts)
			}
		}
	}
}

// doubts are hosts that this one hears to be unreachable and the state does not.
type doubts struct {
	since map[nereid.Host]time.Time
	now   map[nereid.Host]bool // believed
}

// look returns the hosts to hide, and whether they are others than at the last look.
func (d *doubts) look(now time.Time, self nereid.Host, view *state.View, reach Reachability) (map[nereid.Host]bool, bool) {
	told := map[nereid.Host]bool{self: true}
	for _, a := range view.Absences() {
		told[a.Host] = true
	}
	for _, h := range view.Hosts() {
		switch since, known := d.since[h.Name]; {
		case told[h.Name] || !reach.Unreachable(h.Name):
			delete(d.since, h.Name)
		case !known:
			d.since[h.Name] = now
		default:
			d.since[h.Name] = since
		}
	}
	hosts := map[nereid.Host]bool{}
	for h, since := range d.since {
		if told[h] || !reach.Unreachable(h) { // of one that holds no lease any more
			delete(d.since, h)
		} else if now.Sub(since) >= patience {
			hosts[h] = true
		}
	}
	changed := !maps.Equal(hosts, d.now)
	d.now = hosts
	return hosts, changed
}
