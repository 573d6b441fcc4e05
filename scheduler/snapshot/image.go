package snapshot

import (
	"slices"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Image is an image of an account and the hosts that have its content.
type Image struct {
	Account nereid.Account
	ID      nereid.ImageID
	Names   []string // by which affinities may name it, beside its id
	Hosts   []nereid.Host
}

type image struct {
	names []string
	hosts []nereid.Host
	slots Set // of the hosts, as they were at an epoch
	epoch int
}

// slotsOf are an image's hosts in the fleet.
func (s *Snapshot) slotsOf(img *image) Set {
	if img.slots != nil && img.epoch == s.epoch {
		return img.slots
	}
	img.slots, img.epoch = NewSet(len(s.slots)), s.epoch
	for _, h := range img.hosts {
		if slot, ok := s.slot[h]; ok {
			img.slots.Add(int(slot))
		}
	}
	return img.slots
}

// PutImage enters an image or replaces it; its names and hosts are not to be changed any more.
func (s *Snapshot) PutImage(i Image) {
	of := s.images[i.Account]
	if of == nil {
		of = map[nereid.ImageID]*image{}
		s.images[i.Account] = of
	}
	of[i.ID] = &image{names: i.Names, hosts: i.Hosts}
}

// RemoveImage takes an image out. Not there is fine.
func (s *Snapshot) RemoveImage(a nereid.Account, id nereid.ImageID) {
	delete(s.images[a], id)
	if len(s.images[a]) == 0 {
		delete(s.images, a)
	}
}

// HostsWithImage are the hosts that have an image's content. It is the snapshot's: do not change it.
func (s *Snapshot) HostsWithImage(a nereid.Account, id nereid.ImageID) Set {
	img := s.images[a][id]
	if img == nil {
		return nil
	}
	return s.slotsOf(img)
}

// imagesWhere puts in the hosts with an image of a name or id that is wanted.
func (s *Snapshot) imagesWhere(a nereid.Account, p Matcher, out Set) {
	for id, img := range s.images[a] {
		if p.Match(string(id)) || slices.ContainsFunc(img.names, p.Match) {
			out.Join(s.slotsOf(img))
		}
	}
}
