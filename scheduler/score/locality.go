package score

// fetchPlaces is by how many containers more a host without the image counts as fuller: fetching is worth something, yet
// two containers on a host where another is empty are worse, or an application would run where it was built.
const fetchPlaces = 1.5

func (c Scorer) fetch(slot int) float64 {
	if c.r.Image == "" || c.image.Has(slot) {
		return 0
	}
	return fetchPlaces * c.s.Place(slot)
}
