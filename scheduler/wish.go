package scheduler

import (
	"github.com/nereid-paas/nereid/scheduler/filter"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// wishes parts hosts by how many of the request's soft expressions they meet, most first.
func (p *placement) wishes(fit snapshot.Set) []snapshot.Set {
	soft := p.soft()
	if len(soft) == 0 {
		return []snapshot.Set{fit}
	}
	atLeast := []snapshot.Set{fit} // by number met
	for _, f := range soft {
		meets := fit.Clone()
		f.Cut(p.s, meets)
		atLeast = append(atLeast, snapshot.NewSet(p.s.Slots()))
		for n := len(atLeast) - 1; n > 0; n-- {
			more := atLeast[n-1].Clone()
			more.Keep(meets)
			atLeast[n].Join(more)
		}
	}
	most := make([]snapshot.Set, 0, len(atLeast))
	for n := len(atLeast) - 1; n >= 0; n-- {
		exactly := atLeast[n].Clone()
		if n+1 < len(atLeast) {
			exactly.Drop(atLeast[n+1])
		}
		most = append(most, exactly)
	}
	return most
}

// soft are the request's wishes as filters.
func (p *placement) soft() []filter.Cutter {
	var list []filter.Cutter
	for _, e := range p.r.Constraints {
		if e.Soft {
			list = append(list, filter.Constraint{Expr: e})
		}
	}
	for _, e := range p.r.Affinities {
		if e.Soft {
			list = append(list, filter.Affinity{Account: p.r.Account, Expr: e})
		}
	}
	return list
}
