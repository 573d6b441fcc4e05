package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// Bring makes sure that an image of the catalogue is on this host, and returns its record as it then is: from a host
// that has it, else from the registry it came from. Whoever asks meanwhile waits for the one transfer.
func (i *Images) Bring(ctx context.Context, img *state.Image) (*state.Image, error) {
	if slices.Contains(img.Hosts, i.Host) || i.Road == nil {
		return img, nil
	}
	unlock, err := i.bringing.lock(ctx, runtime.Key{Account: img.Account, ID: nereid.ContainerID(img.ID)})
	if err != nil {
		return nil, err
	}
	defer unlock()
	now, ok := i.State.View().Image(img.Account, img.ID)
	if !ok {
		return nil, noSuchImage(string(img.ID))
	}
	if slices.Contains(now.Hosts, i.Host) {
		return now, nil
	}
	var errs []error
	for _, src := range i.sources(now) {
		got, err := i.bringFrom(ctx, now, src)
		if err == nil {
			return got, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		errs = append(errs, fmt.Errorf("%s: %w", src.name, err))
	}
	if len(errs) == 0 {
		errs = append(errs, errdefs.ErrUnavailable.WithMessage("no host that has it answers"))
	}
	return nil, fmt.Errorf("image %s cannot be had on host %s: %w", img.ID, i.Host, errors.Join(errs...))
}

// source is where an image may be had.
type source struct {
	name string
	open func(context.Context) (*image.Repository, reference.Named, error)
}

// sources are the hosts that have an image and answer, in any order, so that many that want it ask each other; then
// its registries.
func (i *Images) sources(img *state.Image) []source {
	var all []source
	for _, h := range img.Hosts {
		if h == i.Host || i.Fleet.State(h).Gone() {
			continue
		}
		all = append(all, source{"host " + string(h), func(context.Context) (*image.Repository, reference.Named, error) {
			return i.store.Peer(img.ID, url.URL{Scheme: "http", Host: string(h), Path: nereid.ContentPrefix}, &http.Client{Transport: i.Road})
		}})
	}
	rand.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	for _, d := range img.Digests {
		named, err := reference.ParseNormalizedNamed(d)
		if err != nil {
			continue // written by us: a registry less to ask
		}
		all = append(all, source{"registry " + reference.Domain(named), func(ctx context.Context) (*image.Repository, reference.Named, error) {
			r, err := i.store.Connect(ctx, named, nil, "pull")
			return r, named, err
		}})
	}
	return all
}

// bringFrom pulls an image by its digest and enters that this host has it.
func (i *Images) bringFrom(ctx context.Context, img *state.Image, src source) (*state.Image, error) {
	repo, named, err := src.open(ctx)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	ref, err := reference.WithDigest(reference.TrimNamed(named), img.Target.Digest)
	if err != nil {
		return nil, err
	}
	platform, err := i.Platform(img)
	if err != nil {
		return nil, err
	}
	held, err := i.store.Pull(ctx, img.Account, repo, ref, &platform, image.NewProgress(io.Discard, func() {}))
	if err != nil {
		return nil, err
	}
	defer held.Release()
	if held.ID != img.ID {
		return nil, fmt.Errorf("%s gives image %s", src.name, held.ID)
	}
	got, _, err := i.record(ctx, entry{account: img.Account, held: held, events: func(*state.Image) []*state.Event { return nil }})
	return got, err
}

// Blob opens content of the account that asks, for another host.
func (i *Images) Blob(ctx context.Context, d string, manifest bool) (io.ReadSeeker, io.Closer, string, error) {
	b, err := i.store.Blob(ctx, nereid.AccountFrom(ctx), d, manifest)
	if err != nil {
		return nil, nil, "", err
	}
	return b, b, b.MediaType, nil
}

// Run lets go of content of images that are removed from the catalogue, by whatever host, until the context ends.
func (i *Images) Run(ctx context.Context) error {
	w := i.State.View().Watch(state.KindImage)
	defer w.Close()
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			return nil //nolint:nilerr // the context's end is no error
		}
		for _, c := range changes {
			old, ok := c.Old.(*state.Image)
			if ok && c.New == nil && slices.Contains(old.Hosts, i.Host) {
				i.letGoOf(nereid.WithAccount(ctx, old.Account), old.ID)
			}
		}
	}
}

// letGoOf drops one image's content, unless it is in the catalogue again.
func (i *Images) letGoOf(ctx context.Context, id nereid.ImageID) {
	unlock, err := i.lock(ctx)
	if err != nil {
		return
	}
	defer unlock()
	i.dropUnrecorded(ctx, nereid.AccountFrom(ctx), id)
	i.collect(ctx)
}

// imagePeers is what the use cases need of content that moves between hosts.
type imagePeers interface {
	// Peer is another host's content of an image as a repository, and what to call the image there.
	Peer(id nereid.ImageID, base url.URL, client *http.Client) (*image.Repository, reference.Named, error)
	Blob(ctx context.Context, a nereid.Account, d string, manifest bool) (*image.Blob, error)
}
