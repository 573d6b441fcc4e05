package score

// binpack goes to the fullest host. One that has the image counts as fuller.
func (c Scorer) binpack(sc *Score, slot int) {
	sc.share = c.fetch(slot) - c.s.Share(slot, c.r.Resources)
}
