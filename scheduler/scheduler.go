// Package scheduler places containers: a pure function from what is known of a fleet, what is asked and a seed to the
// host that is best. It knows no clock, does no I/O and keeps nothing.
package scheduler

import (
	"strings"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/scheduler/filter"
	"github.com/nereid-paas/nereid/scheduler/score"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// Decision is the host chosen, or the reasons why there is none.
type Decision struct {
	Host  nereid.Host // empty: no host fits
	Hosts int         // in the fleet
	// Refusals are the filters that ruled hosts out, when no host fits. Every host is counted once.
	Refusals []Refusal
}

// Refusal counts the hosts that one filter ruled out.
type Refusal struct {
	Filter string
	Hosts  int
	Why    string // for people: how many hosts, and what would make them fit
}

// Reason says why no host fits.
func (d Decision) Reason() string {
	if d.Hosts == 0 {
		return "no host fits: there is no host in the fleet"
	}
	words := make([]string, len(d.Refusals))
	for i, r := range d.Refusals {
		words[i] = r.Why
	}
	return "no host fits: " + strings.Join(words, "; ")
}

// enough is how many hosts that fit are compared. The best of so many, taken from all over the fleet, is among the best
// two percent of any fleet nearly always; and endpoints that place at once, each not knowing of the other, do not all
// choose the very same host. In a fleet up to this size the best of all is chosen.
const enough = 128

// Place chooses the best host for a request. The same arguments give the same decision.
//
// It uses the snapshot's caches: whoever owns the snapshot must see to it that nothing else does at the same time.
func Place(s *snapshot.Snapshot, r *snapshot.Request, seed uint64) Decision {
	p := placement{s: s, r: r, seed: seed, checks: filter.Checkers(s, r)}
	fit := s.Known()
	for _, f := range filter.Cutters(r) {
		f.Cut(s, fit)
	}
	for _, wish := range p.wishes(fit) {
		for _, among := range p.away(wish) {
			if slot, ok := p.best(among); ok {
				return Decision{Host: s.Host(slot).Name, Hosts: s.Hosts()}
			}
		}
	}
	return p.explain()
}

// Check tells why a host does not take a container, without looking at others; empty: it does. Wishes do not count. It
// is how a host that is asked answers, from what it has itself.
func Check(s *snapshot.Snapshot, r *snapshot.Request, host nereid.Host) string {
	slot, ok := s.Find(host)
	if !ok {
		return "it is not in the fleet"
	}
	only := snapshot.NewSet(s.Slots())
	only.Add(slot)
	for _, f := range filter.Cutters(r) {
		fit := only.Clone()
		if f.Cut(s, fit); !fit.Has(slot) {
			return f.Why(s, only, filter.OneAsked)
		}
	}
	for _, c := range filter.Checkers(s, r) {
		if !c.Fits(s, slot) {
			return c.Why(s, only, filter.OneAsked)
		}
	}
	return ""
}

// placement is one Place under way.
type placement struct {
	s      *snapshot.Snapshot
	r      *snapshot.Request
	seed   uint64
	checks []filter.Checker
}

// away splits hosts in two: first those without a container of the same service, when that is what counts most.
func (p *placement) away(fit snapshot.Set) []snapshot.Set {
	if p.r.Strategy != snapshot.Spread || p.r.Spread != snapshot.ByHost {
		return []snapshot.Set{fit}
	}
	group := p.s.Group(p.r.Account, p.r.Service)
	if group == nil {
		return []snapshot.Set{fit}
	}
	without := fit.Clone()
	group.Hosts.RemoveFrom(without)
	with := fit.Clone()
	with.Drop(without)
	return []snapshot.Set{without, with}
}

// best compares the hosts that pass the last checks, up to enough of them.
func (p *placement) best(among snapshot.Set) (int, bool) {
	scorer := score.For(p.s, p.r, p.seed)
	best, found := -1, 0
	var least score.Score
	for slot := range p.walk(among) {
		if !p.fits(slot) {
			continue
		}
		if sc := scorer.Score(slot); best < 0 || score.Compare(sc, least) < 0 {
			best, least = slot, sc
		}
		if found++; found == enough {
			break
		}
	}
	return best, best >= 0
}

func (p *placement) fits(slot int) bool {
	for _, c := range p.checks {
		if !c.Fits(p.s, slot) {
			return false
		}
	}
	return true
}

// explain applies all filters to all hosts and counts whom each rules out.
func (p *placement) explain() Decision {
	all := p.s.Hosts()
	d := Decision{Hosts: all}
	fit := p.s.Known()
	note := func(f filter.Filter, before snapshot.Set) {
		before.Drop(fit)
		if n := before.Len(); n > 0 {
			d.Refusals = append(d.Refusals, Refusal{Filter: f.Name(), Hosts: n, Why: f.Why(p.s, before, all)})
		}
	}
	for _, f := range filter.Cutters(p.r) {
		before := fit.Clone()
		f.Cut(p.s, fit)
		note(f, before)
	}
	for _, c := range p.checks {
		before := fit.Clone()
		for slot := range before.All() {
			if !c.Fits(p.s, slot) {
				fit.Remove(slot)
			}
		}
		note(c, before)
	}
	return d
}
