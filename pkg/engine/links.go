package engine

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/opts"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
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

// linksOf are the containers, each with its alias, that one on the default network links to. A link to what has been
// removed since is none.
func linksOf(v *state.View, r *state.Container) iter.Seq2[string, *state.Container] {
	return func(yield func(string, *state.Container) bool) {
		for alias, name := range r.Links() {
			if to, err := v.FindContainer(r.Account, name); err == nil && !yield(alias, to) {
				return
			}
		}
	}
}

// linkNames are the names that containers have by the links of others, as /web/db.
func linkNames(v *state.View, a nereid.Account) map[nereid.ContainerID][]string {
	names := map[nereid.ContainerID][]string{}
	for _, r := range v.Linking(a) {
		for alias, to := range linksOf(v, r) {
			names[to.ID] = append(names[to.ID], "/"+r.Name+"/"+alias)
		}
	}
	return names
}

// linksUp refuses to start a container on the default network while one that it links to is not there, or does not run.
func (c *Containers) linksUp(r *state.Container) error {
	for alias, to := range linksOf(c.State.View(), r) {
		switch _, there := to.Networks[networktypes.NetworkBridge]; {
		case !there:
			return errInternal("Cannot link to /%s, as it does not belong to the default network", to.Name)
		case !to.State.Running():
			return errInternal("Cannot link to a non running container: /%s AS /%s/%s", to.Name, r.Name, alias)
		}
	}
	return nil
}

// repoint has the hosts files of this host's containers that link to one lead to where it is now. A failure is logged: the
// container runs.
func (n *Networks) repoint(to *state.Container) {
	if ep := to.Networks[networktypes.NetworkBridge]; ep == nil || !ep.Address.IsValid() {
		return
	}
	for _, r := range n.State.View().Linking(to.Account) {
		if r.Host != n.Host || !r.State.Running() || !n.linksTo(r, to) {
			continue
		}
		if err := n.pointHosts(r); err != nil {
			n.Log.Error("a container has the old address of one that it links to",
				zap.String("container", string(r.ID)), zap.String("link", to.Name), zap.Error(err))
		}
	}
}

func (n *Networks) linksTo(r, to *state.Container) bool {
	for _, target := range linksOf(n.State.View(), r) {
		if target.ID == to.ID {
			return true
		}
	}
	return false
}

// pointHosts has the links in a running container's /etc/hosts lead to where they are now.
func (n *Networks) pointHosts(r *state.Container) error {
	n.pointing.Lock()
	defer n.pointing.Unlock()
	path := n.EtcFiles(r).Hosts
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	edited := network.PointHosts(content, n.linkEntries(r), hasIPv6(r))
	if bytes.Equal(edited, content) {
		return nil
	}
	return os.WriteFile(path, edited, 0o644)
}

// unlink answers rm --link: the container goes on, and the one that links to it, which the name begins with, does so no more.
func (c *Containers) unlink(ctx context.Context, ref string) error {
	name := "/" + strings.TrimPrefix(ref, "/")
	parent, alias := path.Split(name)
	parent = strings.TrimSuffix(parent, "/")
	if parent == "" {
		return errInternal("Conflict, cannot remove the default link name of the container")
	}
	r, err := c.find(ctx, parent)
	if err != nil {
		return errInternal("Cannot get parent %s for link name %s", parent, name)
	}
	if c.elsewhere(r.Host) {
		return c.ask(ctx, r.Host, http.MethodDelete, "/containers"+name+"?link=1", nil)
	}
	return c.asked(ctx, r, func(old *state.Container) error {
		ctx, cancel := work(ctx)
		defer cancel()
		next, err := c.transit(ctx, keyOf(old), func(r *state.Container) ([]state.Op, error) {
			r.HostConfig.Links = slices.DeleteFunc(slices.Clone(r.HostConfig.Links), func(l string) bool {
				_, as, err := opts.ParseLink(l)
				return err == nil && strings.TrimPrefix(as, "/") == alias
			})
			return nil, nil
		})
		if err != nil || !next.State.Running() {
			return err
		}
		return c.networks.editHosts(old, next)
	})
}
