package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// Bring makes sure that an image of the catalogue is on this host, and returns its record as it then is: from a host
// that has it, else from the registry it came from. Whoever asks meanwhile waits for the one transfer; one that is given
// up is gone on with by the next.
func (i *Images) Bring(ctx context.Context, img *state.Image) (*state.Image, error) {
	if slices.Contains(img.Hosts, i.Host) || i.Road == nil {
		return img, nil
	}
	unlock, err := i.bringing.lock(ctx, runtime.Key{Account: img.Account, ID: nereid.ContainerID(img.ID)})
	if err != nil {
		return nil, err
	}
	defer unlock()
	from := newSources(i, img)
	for {
		now, ok := i.State.View().Image(img.Account, img.ID)
		if !ok {
			return nil, noSuchImage(string(img.ID))
		}
		if slices.Contains(now.Hosts, i.Host) {
			return now, nil
		}
		held, err := i.fromAnywhere(ctx, now, from)
		if err == nil {
			return i.enterHere(ctx, img.Account, held)
		}
		if !image.Busy(err) {
			return nil, err
		}
	}
}

// fromAnywhere takes an image from hosts that have it, or have some of it, else from its registry. An error for which
// image.Busy holds says that some host has it and gives it to others.
func (i *Images) fromAnywhere(ctx context.Context, img *state.Image, from *sources) (*image.Held, error) {
	held, err := i.fromHosts(ctx, img, from)
	if err == nil || image.Busy(err) {
		return held, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if _, ok := i.State.View().Image(img.Account, img.ID); !ok {
		return nil, noSuchImage(string(img.ID)) // it was removed meanwhile
	}
	held, rerr := i.takeFromRegistry(ctx, img)
	if rerr == nil {
		return held, nil
	}
	return nil, errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("image %s cannot be brought to host %s: %v", shortImage(img.ID), i.Host, errors.Join(err, rerr)))
}

// fromHosts takes an image from other hosts. One that fails on the way is gone on without, from where it stopped.
func (i *Images) fromHosts(ctx context.Context, img *state.Image, from *sources) (*image.Held, error) {
	repo, _, err := i.store.Peer(img.ID, url.URL{Scheme: "http", Host: "hosts", Path: nereid.ContentPrefix}, &http.Client{Transport: from})
	if err != nil {
		return nil, err
	}
	var errs []error
	for len(errs) < 2 { // of this host's own: the second is sure
		failed := from.setbacks()
		held, err := i.store.Take(ctx, img.Account, repo, img.Target, img.Manifest)
		if err == nil || image.Busy(err) || ctx.Err() != nil {
			return held, err
		}
		if errors.Is(err, errNoSource) {
			break
		}
		if from.setbacks() == failed {
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(append(errs, from.err())...)
}

// takeFromRegistry takes an image by its repo digests, without credentials: those of whoever pulled it are not kept.
func (i *Images) takeFromRegistry(ctx context.Context, img *state.Image) (*image.Held, error) {
	err := errors.New("it did not come from a registry")
	for _, d := range img.Digests {
		named, perr := reference.ParseNormalizedNamed(d)
		if perr != nil {
			continue // written by us: a registry less to ask
		}
		var held *image.Held
		if held, err = i.takeFrom(ctx, img, named); err == nil {
			return held, nil
		}
		err = fmt.Errorf("from registry %s: %w", reference.Domain(named), err)
	}
	return nil, err
}

func (i *Images) takeFrom(ctx context.Context, img *state.Image, named reference.Named) (held *image.Held, err error) {
	err = i.fromRegistry(ctx, named, nil, func(repo *image.Repository) error {
		held, err = i.store.Take(ctx, img.Account, repo, img.Target, img.Manifest)
		return err
	})
	return held, err
}

// maxEnterTries bounds the tries to say that an image is here: every host that gets it at the same time is in the way
// of all others once.
const maxEnterTries = 100

// enterHere makes an image that was brought last, and notes in the catalogue that this host has it.
func (i *Images) enterHere(ctx context.Context, a nereid.Account, held *image.Held) (*state.Image, error) {
	defer held.Release()
	e := entry{account: a, held: held, brought: true, events: func(*state.Image) []*state.Event { return nil }}
	for try := 1; ; try++ {
		img, _, err := i.record(ctx, e)
		if !errdefs.IsAborted(err) || try == maxEnterTries {
			return img, err
		}
	}
}

// Blob opens content of the account that asks, for another host.
func (i *Images) Blob(ctx context.Context, to nereid.Host, d string, manifest bool) (io.ReadSeeker, io.Closer, string, error) {
	b, err := i.store.Blob(ctx, nereid.AccountFrom(ctx), to, d, manifest)
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
	a := nereid.AccountFrom(ctx)
	if kept, err := i.store.Kept(ctx, a); err == nil && !slices.Contains(kept, id) {
		return // it was removed here
	}
	i.dropUnrecorded(ctx, a, id)
	i.collect(ctx)
}

// imagePeers is what the use cases need of content that moves between hosts.
type imagePeers interface {
	// Take brings an image here from a repository; image.Busy tells errors that are over soon.
	Take(ctx context.Context, a nereid.Account, r *image.Repository, target, manifest ocispec.Descriptor) (*image.Held, error)
	// Peer is another host's content of an image as a repository, and what to call the image there.
	Peer(id nereid.ImageID, base url.URL, client *http.Client) (*image.Repository, reference.Named, error)
	Blob(ctx context.Context, a nereid.Account, to nereid.Host, d string, manifest bool) (*image.Blob, error)
}
