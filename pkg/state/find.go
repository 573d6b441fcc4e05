package state

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/opts"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// FindContainer resolves what a user wrote, as Docker does: full id, then exact name (with or without slash), then
// unambiguous id prefix. Names are those that Name records claim, and "web/db" is what web links to as db. Errors are
// errdefs.ErrNotFound "No such container: x" and, for several, ErrInvalidArgument with Docker's words.
func (v *View) FindContainer(a nereid.Account, ref string) (*Container, error) {
	if ref == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid name or ID supplied: %q", ref))
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if parent, alias, ok := strings.Cut(strings.TrimPrefix(ref, "/"), "/"); ok {
		return v.linkedLocked(a, parent, alias, ref)
	}
	return v.findContainerLocked(a, ref)
}

func (v *View) findContainerLocked(a nereid.Account, ref string) (*Container, error) {
	if c, ok := v.containers.byID[owned[nereid.ContainerID]{a, nereid.ContainerID(ref)}]; ok {
		return c, nil
	}
	if n, ok := v.names.byID[owned[string]{a, strings.TrimPrefix(ref, "/")}]; ok {
		if c, ok := v.containers.byID[owned[nereid.ContainerID]{a, n.Container}]; ok {
			return c, nil
		}
	}
	matches := v.containersByPrefixLocked(a, ref, 2)
	switch len(matches) {
	case 0:
		return nil, noSuchContainer(ref)
	case 1:
		return matches[0], nil
	}
	return nil, errdefs.ErrInvalidArgument.WithMessage("multiple IDs found with provided prefix: " + ref)
}

// linkedLocked is what a container links to under an alias.
func (v *View) linkedLocked(a nereid.Account, parent, alias, ref string) (*Container, error) {
	p, err := v.findContainerLocked(a, parent)
	if err != nil {
		return nil, noSuchContainer(ref)
	}
	for as, to := range p.Links() {
		if as == alias {
			return v.findContainerLocked(a, to)
		}
	}
	return nil, noSuchContainer(ref)
}

func noSuchContainer(ref string) error {
	return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

// Links are what a container on the default network links to (--link), each by the alias that it has for it. On other
// networks links are names of the endpoint alone.
func (r *Container) Links() iter.Seq2[string, string] {
	return func(yield func(alias, to string) bool) {
		if r.HostConfig == nil || !r.HostConfig.NetworkMode.IsBridge() {
			return
		}
		for _, l := range r.HostConfig.Links {
			to, alias, err := opts.ParseLink(l)
			if err == nil && !yield(strings.TrimPrefix(alias, "/"), strings.TrimPrefix(to, "/")) {
				return
			}
		}
	}
}

// FindNetwork resolves what a user wrote, as Docker does: full id, then exact name, then unambiguous id prefix. Names
// are those that NetworkName records claim. Errors are errdefs.ErrNotFound "network x not found" and, for several,
// ErrInvalidArgument with Docker's words.
func (v *View) FindNetwork(a nereid.Account, ref string) (*Network, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if n, ok := v.networks.byID[owned[nereid.NetworkID]{a, nereid.NetworkID(ref)}]; ok {
		return n, nil
	}
	if claim, ok := v.networkNames.byID[owned[string]{a, ref}]; ok {
		if n, ok := v.networks.byID[owned[nereid.NetworkID]{a, claim.Network}]; ok {
			return n, nil
		}
	}
	matches := v.networkIDs.upTo(len(v.networks.byID), a,
		func(n *Network) bool { return string(n.ID) >= ref },
		func(n *Network) bool { return strings.HasPrefix(string(n.ID), ref) })
	switch len(matches) {
	case 0:
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
	case 1:
		return matches[0], nil
	}
	return nil, errdefs.ErrInvalidArgument.WithMessage(
		fmt.Sprintf("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(matches)))
}

// ImagesByPrefix returns an account's images whose id starts with what a user wrote, with or without "sha256:", at
// most two: none, the one, or that it is ambiguous.
func (v *View) ImagesByPrefix(a nereid.Account, prefix string) []*Image {
	if !strings.HasPrefix(prefix, "sha256:") {
		prefix = "sha256:" + prefix
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.imageIDs.upTo(2, a,
		func(i *Image) bool { return string(i.ID) >= prefix },
		func(i *Image) bool { return strings.HasPrefix(string(i.ID), prefix) })
}

// unseen tells that the view has not caught up before the time was over.
func unseen(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("the view of the state lags behind: %w", errdefs.ErrUnavailable)
	}
	return ctx.Err()
}
