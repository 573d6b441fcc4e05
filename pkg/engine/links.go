package engine

import (
	"context"
	"fmt"
	"iter"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/opts"

	"github.com/nereid-paas/nereid/pkg/state"
)

// checkLinks refuses a new container that links to one that is not there, or that cannot be linked to. On networks of
// the user's links are names, for the resolver to look up when they are asked for.
func (c *Containers) checkLinks(ctx context.Context, r *state.Container) error {
	if r.HostConfig.NetworkMode.IsUserDefined() {
		return nil
	}
	for _, l := range r.HostConfig.Links {
		name, _, err := opts.ParseLink(l)
		if err != nil {
			return asInvalid(err)
		}
		to, err := c.find(ctx, name)
		if errdefs.IsNotFound(err) {
			return errInvalid("could not get container for %s: %s", name, err)
		}
		if err != nil {
			return fmt.Errorf("could not get container for %s: %w", name, err)
		}
		if to.HostConfig.NetworkMode.IsHost() {
			return errInvalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
	}
	return nil
}

// linked are the containers, each with its alias, that one on the default network links to. On networks of the user's
// links are names alone.
func (c *Containers) linked(r *state.Container) iter.Seq2[string, *state.Container] {
	return func(yield func(string, *state.Container) bool) {
		if !r.HostConfig.NetworkMode.IsBridge() {
			return
		}
		for _, l := range r.HostConfig.Links {
			name, alias, err := opts.ParseLink(l)
			if err != nil {
				continue // it was read when the container was created
			}
			to, err := c.State.View().FindContainer(r.Account, name)
			if err != nil {
				continue // removed since: a link to nothing is none
			}
			if !yield(alias, to) {
				return
			}
		}
	}
}

// linksUp refuses to start a container on the default network while one that it links to there does not run.
func (c *Containers) linksUp(r *state.Container) error {
	for alias, to := range c.linked(r) {
		if !to.State.Running() {
			return errInternal("Cannot link to a non running container: /%s AS /%s/%s", to.Name, r.Name, alias)
		}
	}
	return nil
}
