// Package publish turns the state into DNS zones and keeps them up with it.
package publish

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Store is the part of the state that the name service writes to.
type Store interface {
	View() *state.View
	Commit(ctx context.Context, ops ...state.Op) (state.Revision, error)
}

// Config of a Publisher.
type Config struct {
	Host nereid.Host
	DC   string // data center, the first label of the default zone: "dc1"
	Zone string // what follows it: "cns.internal"
	// Reach is the rumour of who can be reached; nil: nothing is hidden but what the state says.
	Reach Reachability
	// Changed is told of every new set, in order, before questions are answered from it; nil: nobody. It must not block.
	Changed func(*zone.Set, []zone.Diff)
	Log     *zap.Logger // nil: none
}

// Publisher keeps the zones of the state.
type Publisher struct {
	cfg     Config
	store   Store
	zones   atomic.Pointer[zone.Set]
	doubted atomic.Bool // some hosts are hidden by this host alone
	applied atomic.Int64
	lag     atomic.Int64 // nanoseconds that the last change took

	mu      sync.Mutex
	builder *Builder
}

// New makes a Publisher; Run makes it publish.
func New(store Store, cfg Config) (*Publisher, error) {
	b, err := NewBuilder(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Publisher{cfg: cfg, store: store, builder: b}, nil
}

// Apex is the default zone, fully qualified: "dc1.cns.internal.".
func (p *Publisher) Apex() string { return p.builder.Apex() }

// Zones are the zones as of now; nil until Run has read the state once.
func (p *Publisher) Zones() *zone.Set { return p.zones.Load() }

// Exact tells whether the zones are those of the state: what other hosts have at the same serials. They are not while
// this host alone hides what it cannot reach, nor before its own record is in the state.
func (p *Publisher) Exact() bool {
	_, here := p.store.View().Host(p.cfg.Host)
	return here && !p.doubted.Load() && p.zones.Load() != nil
}

// Revision is the state's, as of which the zones are; Took is how long the last change took to come into them.
func (p *Publisher) Revision() state.Revision { return state.Revision(p.applied.Load()) }

// Took is how long the last change took to come into the zones.
func (p *Publisher) Took() time.Duration { return time.Duration(p.lag.Load()) }

// Run publishes what the state has and every change of it, until the context ends. Call it once.
func (p *Publisher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { p.follow(ctx); return nil })
	g.Go(func() error { p.renew(ctx); return nil })
	if p.cfg.Reach != nil {
		g.Go(func() error { p.hide(ctx); return nil })
	}
	return g.Wait()
}

// follow publishes the state.
func (p *Publisher) follow(ctx context.Context) {
	w, all, rev := p.store.View().WatchFrom(Kinds()...)
	defer w.Close()
	p.apply(all, rev)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.Wake():
		}
		if changes, rev := w.Poll(); len(changes) > 0 {
			p.apply(changes, rev)
		}
	}
}

func (p *Publisher) apply(changes []state.Change, rev state.Revision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	begin := time.Now()
	set, diffs := p.builder.Apply(changes, rev)
	if p.cfg.Changed != nil {
		p.cfg.Changed(set, diffs)
	}
	p.zones.Store(set)
	p.applied.Store(int64(rev))
	p.lag.Store(int64(time.Since(begin)))
}

// doubt hides what some hosts run on this host alone.
func (p *Publisher) doubt(hosts map[nereid.Host]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set := p.builder.Doubt(hosts)
	if p.zones.Load() == nil {
		return // before the first reading of the state
	}
	p.doubted.Store(len(hosts) > 0)
	if p.cfg.Changed != nil {
		p.cfg.Changed(set, nil)
	}
	p.zones.Store(set)
}
