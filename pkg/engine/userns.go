package engine

import (
	"github.com/docker/docker/api/types/container"
	"github.com/moby/sys/user"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// remap gives a new container its user namespace, if it shall have one.
func (c *Containers) remap(hc *container.HostConfig) *nereid.IDMap {
	if !c.IDMap.Mapped() || hc.UsernsMode.IsHost() {
		return nil
	}
	ids := c.IDMap
	return &ids
}

func idMapOf(r *state.Container) nereid.IDMap {
	if r.IDMap == nil {
		return nereid.IDMap{}
	}
	return *r.IDMap
}

// identities are what archives of a container's files translate by.
func identities(r *state.Container) user.IdentityMapping {
	ids := idMapOf(r)
	if !ids.Mapped() {
		return user.IdentityMapping{}
	}
	return user.IdentityMapping{
		UIDMaps: []user.IDMap{{ParentID: int64(ids.UID), Count: int64(ids.UIDs)}},
		GIDMaps: []user.IDMap{{ParentID: int64(ids.GID), Count: int64(ids.GIDs)}},
	}
}
