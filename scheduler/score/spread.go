package score

import "github.com/nereid-paas/nereid/scheduler/snapshot"

// spread goes where the fewest containers of the same service are: on the host, then in its rack, or the other way
// round when racks are what the user spreads by. Between hosts that are equal in that, to the emptiest.
func (c Scorer) spread(sc *Score, slot int) {
	onHost := c.group.OnHost(slot)
	inRack := c.group.InRack(c.s, slot)
	sc.like = [2]int{onHost, inRack}
	if c.r.Spread == snapshot.ByRack {
		sc.like = [2]int{inRack, onHost}
	}
	sc.share = c.s.Share(slot, c.r.Resources) + c.fetch(slot)
}
