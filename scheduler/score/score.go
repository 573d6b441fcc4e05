// Package score compares the hosts that can run a container. One file per strategy.
package score

import (
	"cmp"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// Score is how well a host would do, best first by what stands first. Lower is better in all of it.
type Score struct {
	like  [2]int  // containers of the same service: on the host and in its rack, in the order the user wants
	share float64 // of the host's capacity
	tie   uint64
}

// Compare is negative where a is better.
func Compare(a, b Score) int {
	return cmp.Or(cmp.Compare(a.like[0], b.like[0]), cmp.Compare(a.like[1], b.like[1]), cmp.Compare(a.share, b.share), cmp.Compare(a.tie, b.tie))
}

// Scorer scores hosts for one request.
type Scorer struct {
	s     *snapshot.Snapshot
	r     *snapshot.Request
	group *snapshot.Group
	image snapshot.Set // the hosts that have it
	seed  uint64
}

// For a request. The seed decides between hosts that are equally good, and is all there is of chance.
func For(s *snapshot.Snapshot, r *snapshot.Request, seed uint64) Scorer {
	return Scorer{s: s, r: r, group: s.Group(r.Account, r.Service), image: s.HostsWithImage(r.Account, r.Image), seed: seed}
}

// Score of the host in a slot.
func (c Scorer) Score(slot int) Score {
	var sc Score
	switch c.r.Strategy {
	case snapshot.Spread:
		c.spread(&sc, slot)
	case snapshot.Binpack:
		c.binpack(&sc, slot)
	case snapshot.Random:
	}
	// By the host's name, so that it does not depend on the order in which hosts became known.
	sc.tie = Mix(c.seed, c.s.Hash(slot))
	return sc
}

// Mix makes a number of a seed and another.
func Mix(seed, n uint64) uint64 {
	x := n ^ seed*0x9e3779b97f4a7c15
	// The finish of splitmix64: every bit of the input touches every bit of the result.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
