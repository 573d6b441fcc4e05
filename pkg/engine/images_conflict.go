package engine

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// conflicts are what may keep an image. Hard ones do so even against force.
type conflicts int

const (
	conflictChildren conflicts = 1 << iota
	conflictRunning
	conflictReferenced
	conflictStopped

	conflictHard = conflictChildren | conflictRunning
)

// imageConflict is why an image stays.
type imageConflict struct {
	id   nereid.ImageID
	hard bool
	used bool // by a container
	why  string
}

// err is Docker's refusal.
func (c *imageConflict) err() error {
	force := "must be forced"
	if c.hard {
		force = "cannot be forced"
	}
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("conflict: unable to delete %s (%s) - %s", shortImage(c.id), force, c.why))
}

// conflict finds the first of the conflicts asked about that keeps an image; nil: none.
func (i *Images) conflict(r *removal, check conflicts) *imageConflict {
	id := r.img.ID
	if check&conflictChildren != 0 && i.hasChildren(r.img) {
		return &imageConflict{id: id, hard: true, why: "image has dependent child images"}
	}
	if check&conflictRunning != 0 {
		if c := i.user(r.all(), active); c != nil {
			return &imageConflict{id: id, hard: true, used: true, why: "image is being used by running container " + c.ID.Short()}
		}
	}
	if check&conflictReferenced != 0 && len(r.refs) > 0 {
		return &imageConflict{id: id, why: "image is referenced in multiple repositories"}
	}
	if check&conflictStopped != 0 {
		if c := i.user(r.all(), func(c *state.Container) bool { return !active(c) }); c != nil {
			return &imageConflict{id: id, used: true, why: "image is being used by stopped container " + c.ID.Short()}
		}
	}
	return nil
}

// active holds for a container with a process, or one that will have one again by itself.
func active(c *state.Container) bool {
	return c.State.Running() || c.State.Status == state.StatusRestarting
}

func (i *Images) user(images []*state.Image, which func(*state.Container) bool) *state.Container {
	for _, img := range images {
		for _, c := range i.Users(img) {
			if which(c) {
				return c
			}
		}
	}
	return nil
}

// anyUser is a container made from one of some images of an account, or one that mounts it.
func (i *Images) anyUser(images ...*state.Image) *state.Container {
	for _, c := range i.State.View().Containers(images[0].Account) {
		for _, img := range images {
			mounts := func(m state.Mount) bool { return m.Type == "image" && m.Source == string(img.ID) }
			if c.ImageID == img.ID || slices.ContainsFunc(c.Mounts, mounts) {
				return c
			}
		}
	}
	return nil
}

func (i *Images) hasChildren(img *state.Image) bool {
	for _, other := range i.State.View().Images(img.Account) {
		if other.Parent == img.ID {
			return true
		}
	}
	return false
}

// dangling holds for an image that is left with neither a name nor images made from it.
func (i *Images) dangling(r *removal) bool { return len(r.refs) == 0 && !i.hasChildren(r.img) }
