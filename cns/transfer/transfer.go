// Package transfer gives zones to other name servers: whole or by their changes, and tells them of changes.
package transfer

import (
	"context"
	"sync"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Config of Transfers.
type Config struct {
	Host nereid.Host
	// Dir holds the journals, below the data root; empty: they are kept in memory alone.
	Dir  string
	View *state.View // settings and keys
	// Exact tells whether the zones are what other hosts have at the same serials. Where they are not, nobody gets them.
	Exact func() bool
	// Raise is asked to make a zone's serials higher than one that was given out, after the state was lost. It must not
	// block.
	Raise func(apex string, given uint32)
	Log   *zap.Logger // nil: none
}

// maxTransfers is how many transfers go on at once: each may send a large zone to a slow client.
const maxTransfers = 16

// Transfers keeps the history of all zones and serves it. All methods may be called at once from anywhere.
type Transfers struct {
	cfg   Config
	slots chan struct{} // one token per transfer under way
	store *store
	peers *peers
	count counters

	mu    sync.Mutex
	set   *zone.Set // nil before the first
	zones map[string]*history
}

// New makes Transfers; Run writes journals and tells secondaries.
func New(cfg Config) *Transfers {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	t := &Transfers{cfg: cfg, slots: make(chan struct{}, maxTransfers), zones: map[string]*history{}}
	t.store = newStore(cfg.Dir, cfg.Log)
	t.peers = newPeers(t)
	return t
}

// Run writes the journals and tells secondaries of changes until the context ends. Call it once.
func (t *Transfers) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { t.store.run(ctx); return nil })
	g.Go(func() error { t.peers.run(ctx); return nil })
	return g.Wait()
}

// Changed takes the next set and what changed in it. Sets come in order.
func (t *Transfers) Changed(set *zone.Set, diffs []zone.Diff) {
	t.mu.Lock()
	t.set = set
	for _, d := range diffs {
		t.learn(set, d)
	}
	t.mu.Unlock()
	for _, d := range diffs {
		t.peers.kick(d.Apex)
	}
}

// learn brings one zone's change into its history.
func (t *Transfers) learn(set *zone.Set, d zone.Diff) {
	h := t.zones[d.Apex]
	if d.Gone {
		delete(t.zones, d.Apex)
		t.store.forget(d.Apex)
		return
	}
	if h == nil {
		h = &history{apex: d.Apex, before: t.store.load(d.Apex)}
		t.zones[d.Apex] = h
		if h.before == nil {
			t.store.whole(set, h)
			return
		}
	}
	if h.before != nil {
		t.resume(set, h, d)
		return
	}
	if d.Whole {
		h.forget()
		t.store.whole(set, h)
		return
	}
	h.add(d, set.Names(d.Apex))
	t.store.append(set, h, d)
}

// resume goes on with the history that a run before left: what changed meanwhile is one change. Serials that were given
// out are not given out again for something else.
func (t *Transfers) resume(set *zone.Set, h *history, d zone.Diff) {
	old := h.before
	if ahead := int32(d.To - old.serial); ahead < 0 || ahead == 0 && !old.same(set) {
		if !h.raised && t.cfg.Raise != nil {
			t.cfg.Log.Warn("a zone's serial is behind what was given out before; raising it", zap.String("zone", h.apex),
				zap.Uint32("serial", d.To), zap.Uint32("given", old.serial))
			h.raised = true
			t.cfg.Raise(h.apex, old.serial)
		}
		return
	}
	h.before = nil
	h.entries, h.size = old.entries, old.size
	if step := old.step(set, d.To); step != nil {
		h.add(*step, set.Names(h.apex))
	}
	t.store.whole(set, h)
}

// current is the set and a zone's history as of now; nil when there is no such zone or it cannot be given out.
func (t *Transfers) current(apex string) (*zone.Set, *zone.Authority, *history) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.zones[apex]
	if t.set == nil || h == nil {
		return nil, nil, nil
	}
	z, ok := t.set.Zone(apex)
	if !ok || z.Apex != apex {
		return nil, nil, nil
	}
	return t.set, z, h
}

// since are the changes from a serial on; false: they are not known.
func (t *Transfers) since(h *history, z *zone.Authority, serial uint32) ([]zone.Diff, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return h.since(z, serial)
}

// holdsBack tells whether a zone may not be given out yet.
func (t *Transfers) holdsBack(h *history) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return h.before != nil || t.cfg.Exact != nil && !t.cfg.Exact()
}

var _ dns.TsigProvider = (*Transfers)(nil)
