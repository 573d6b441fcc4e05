package score

// fetchShare is by how much of its capacity a host without the image counts as worse: fetching is worth something, yet
// a host that is a tenth emptier is the better one, or an image would never leave the host it came to first.
const fetchShare = 0.1

func (c Scorer) fetch(slot int) float64 {
	if c.r.Image == "" || c.image.Has(slot) {
		return 0
	}
	return fetchShare
}
