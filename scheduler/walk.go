package scheduler

import (
	"iter"
	"slices"

	"github.com/nereid-paas/nereid/scheduler/score"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// walk yields the hosts of a set. When they are more than are compared, it goes through them in great strides from a
// place that the seed gives, so that those compared come from all over the fleet; only to pack hosts it begins at the
// beginning, where the hosts are that were packed before.
func (p *placement) walk(among snapshot.Set) iter.Seq[int] {
	if p.r.Strategy == snapshot.Binpack || among.Len() <= enough {
		return among.All()
	}
	if among.Len() > p.s.Slots()/sparse {
		return strided(p.seed, p.s.Slots(), func(slot int, yield func(int) bool) bool { return !among.Has(slot) || yield(slot) })
	}
	list := slices.Collect(among.All())
	return strided(p.seed, len(list), func(i int, yield func(int) bool) bool { return yield(list[i]) })
}

// sparse is the part of all slots below which listing those of a set costs less than meeting the others on the way.
const sparse = 8

// strided goes through the numbers below n, each once, until do returns false.
func strided(seed uint64, n int, do func(i int, yield func(int) bool) bool) iter.Seq[int] {
	at := score.Mix(seed, 1) % uint64(n)
	stride := coprime(score.Mix(seed, 2), uint64(n))
	return func(yield func(int) bool) {
		for range n {
			if !do(int(at), yield) {
				return
			}
			if at += stride; at >= uint64(n) {
				at -= uint64(n)
			}
		}
	}
}

// coprime is a number below n that has no divisor in common with it, so that steps of it reach every number below n.
func coprime(from, n uint64) uint64 {
	for c := from%n | 1; ; c = (c + 2) % n {
		if gcd(c, n) == 1 {
			return c
		}
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
