// Package publish turns the state into DNS zones and keeps them up with it.
package publish

import (
	"context"
	"sync/atomic"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Config of a Publisher.
type Config struct {
	DC   string // data center, the first label of the zone: "dc1"
	Zone string // what follows it: "cns.internal"
}

// Publisher keeps the zones of the state.
type Publisher struct {
	view    *state.View
	builder *Builder // of Run
	apex    string
	zones   atomic.Pointer[zone.Set]
}

// New makes a Publisher; Run makes it publish.
func New(view *state.View, cfg Config) (*Publisher, error) {
	b, err := NewBuilder(cfg)
	if err != nil {
		return nil, err
	}
	return &Publisher{view: view, builder: b, apex: b.Apex()}, nil
}

// Apex is the zone of the names, fully qualified: "dc1.cns.internal.".
func (p *Publisher) Apex() string { return p.apex }

// Zones are the zones as of now; nil until Run has read the state once.
func (p *Publisher) Zones() *zone.Set { return p.zones.Load() }

// Run publishes what the state has and every change of it, until the context ends. Call it once.
func (p *Publisher) Run(ctx context.Context) error {
	w := p.view.Watch(state.KindContainer, state.KindNetwork, state.KindHost)
	defer w.Close()
	rev := p.view.Revision()
	p.zones.Store(p.builder.Apply(snapshot(p.view), rev))
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		p.zones.Store(p.builder.Apply(changes, p.view.Revision()))
	}
}

// snapshot is all there is, as changes from nothing. Containers are found by their networks: without one, they have no
// address to publish.
func snapshot(v *state.View) []state.Change {
	var all []state.Change
	for _, h := range v.Hosts() {
		all = append(all, state.Change{New: h})
	}
	seen := map[containerKey]bool{}
	for _, n := range v.AllNetworks() {
		all = append(all, state.Change{New: n})
		for _, c := range v.ContainersOnNetwork(n.ID) {
			if key := (containerKey{c.Account, c.ID}); !seen[key] {
				seen[key] = true
				all = append(all, state.Change{New: c})
			}
		}
	}
	return all
}

// Problems says why a container lacks names that somebody may expect: labels that cannot be read, a name that is no DNS
// label, not running, not healthy, turned off.
func (p *Publisher) Problems(c *state.Container) []record.Problem {
	return record.Problems(p.apex, instance(c))
}
