package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Images are the use cases of images: the catalogue.
//
// The catalogue's truth is in the state; this host's content is a copy. What is put into the catalogue is made to
// last on the host first, and what is taken out is let go on the host last, so that a daemon that dies in between
// leaves content too much and never too little; Reconcile lets go of it.
type Images struct {
	Deps
	store ImageStore
	// changing holds one token while this host changes its catalogue: short, for content is moved outside of it.
	changing chan struct{}
	bringing keylock // of images on their way here
	pruning  atomic.Bool
}

// NewImages makes the use cases over this host's content.
func NewImages(d Deps, store ImageStore) *Images {
	return &Images{Deps: d, store: store, changing: make(chan struct{}, 1)}
}

// ImageStore is what the use cases need of this host's content.
type ImageStore interface {
	imageRegistries
	imageTransfers
	imageContent
	imagePeers
}

type imageRegistries interface {
	Connect(ctx context.Context, name reference.Named, auth *registry.AuthConfig, actions string) (*image.Repository, error)
	Search(ctx context.Context, term string, limit int, auth *registry.AuthConfig) ([]registry.SearchResult, error)
	Login(ctx context.Context, auth *registry.AuthConfig) (token string, err error)
}

type imageTransfers interface {
	Pull(ctx context.Context, a nereid.Account, r *image.Repository, ref reference.Named, platform *ocispec.Platform, p *image.Progress) (*image.Held, error)
	Load(ctx context.Context, a nereid.Account, in io.Reader, platforms []ocispec.Platform, p *image.Progress, enter func([]*image.Loaded) error) error
	Import(ctx context.Context, a nereid.Account, in io.Reader, opts image.ImportOptions) (*image.Held, error)
	Commit(ctx context.Context, a nereid.Account, opts image.CommitOptions) (*image.Held, error)
	Save(ctx context.Context, a nereid.Account, list []image.Saved, w io.Writer) error
	Push(ctx context.Context, a nereid.Account, r *image.Repository, tag string, id nereid.ImageID, p *image.Progress) (digest.Digest, error)
	PushIndex(ctx context.Context, a nereid.Account, r *image.Repository, tag string, target ocispec.Descriptor, p *image.Progress) error
}

type imageContent interface {
	// Open is NotFound for an image this host does not hold whole.
	Open(ctx context.Context, a nereid.Account, id nereid.ImageID) (*image.Image, error)
	// Listed is nil for an image without an index and NotFound when the index is not here.
	Listed(ctx context.Context, a nereid.Account, target ocispec.Descriptor) ([]ocispec.Descriptor, error)
	Drop(ctx context.Context, a nereid.Account, id nereid.ImageID) error
	// Collect frees what was dropped.
	Collect(ctx context.Context, a nereid.Account) error
	Kept(ctx context.Context, a nereid.Account) ([]nereid.ImageID, error)
	Accounts(ctx context.Context) ([]nereid.Account, error)
	// EndTransfers turns what a dead daemon had under way into failed transfers; ForgetRetries drops what those left.
	EndTransfers(ctx context.Context, a nereid.Account) error
	ForgetRetries(ctx context.Context, a nereid.Account) error
	Snapshotter() string
}

// lock waits for the turn to change this host's catalogue.
func (i *Images) lock(ctx context.Context) (unlock func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case i.changing <- struct{}{}:
		return func() { <-i.changing }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// entry is what is to be in the catalogue: an image with what names it from now on.
type entry struct {
	account nereid.Account
	held    *image.Held
	tags    []reference.NamedTagged
	digest  reference.Canonical // repo digest; nil: none
	tagged  bool                // the user named it, rather than a registry: LastTagTime tells
	comment string
	parent  nereid.ImageID
	brought bool // a copy of what is in the catalogue: one that was taken out meanwhile must not come back
	// events are emitted in the transaction that makes the entry.
	events func(*state.Image) []*state.Event
}

// commitTries bounds the tries at a transaction that another host's changes get in the way of.
const commitTries = 10

// record puts an entry into the catalogue and tells whether that changed anything but the events. When it fails the
// host keeps nothing of an image that is not in the catalogue.
func (i *Images) record(ctx context.Context, e entry) (img *state.Image, changed bool, err error) {
	unlock, err := i.lock(ctx)
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	for range commitTries {
		img, changed, err = i.recordOnce(ctx, e)
		if !errdefs.IsAborted(err) && !errdefs.IsAlreadyExists(err) {
			break
		}
	}
	if errdefs.IsUnavailable(err) {
		return nil, false, err // it may be in the catalogue; if not, Reconcile lets go of the content
	}
	if err != nil {
		i.dropUnrecorded(ctx, e.account, e.held.ID)
		return nil, false, err
	}
	return img, changed, nil
}

func (i *Images) recordOnce(ctx context.Context, e entry) (*state.Image, bool, error) {
	old, known := i.State.View().Image(e.account, e.held.ID)
	if e.brought && !known {
		return nil, false, noSuchImage(string(e.held.ID))
	}
	img := i.imageRecord(e)
	var ops []state.Op
	changed := true
	if known {
		here, err := i.keepKnown(ctx, e, old)
		if err != nil {
			return nil, false, err
		}
		img = renamed(old, img, here, e.tagged)
		if changed = !here || len(img.Digests) != len(old.Digests) || e.tagged; changed {
			ops = append(ops, state.Update(img))
		}
	} else {
		if err := e.held.Keep(); err != nil {
			return nil, false, err
		}
		ops = append(ops, state.Create(img))
	}
	for _, t := range e.tags {
		if was, ok := i.State.View().Tag(e.account, t.String()); ok && (was.Image == img.ID || !e.tagged && i.keepsName(was, img)) {
			continue
		}
		changed = true
		ops = append(ops, state.Put(&state.Tag{Account: e.account, Ref: t.String(), Image: img.ID}))
	}
	for _, ev := range e.events(img) {
		ops = append(ops, state.Emit(ev))
	}
	_, err := i.State.Commit(ctx, ops...)
	return img, changed, err
}

// keepKnown tells whether this host has a known image's content; when it has not, that of the entry is made to last.
func (i *Images) keepKnown(ctx context.Context, e entry, old *state.Image) (bool, error) {
	if slices.Contains(old.Hosts, i.Host) {
		if _, err := i.store.Open(ctx, e.account, old.ID); err == nil {
			return true, nil
		} else if !errdefs.IsNotFound(err) {
			return false, err
		}
	}
	return false, e.held.Keep()
}

// imageRecord is the record of an image that is new to the catalogue.
func (i *Images) imageRecord(e entry) *state.Image {
	h := e.held
	img := &state.Image{
		Account:  e.account,
		ID:       h.ID,
		Target:   h.Target,
		Manifest: h.Manifest,
		Created:  h.Created,
		Size:     h.Size(),
		Config:   h.Config,
		Layers:   h.Layers,
		Sizes:    h.Sizes,
		Hosts:    []nereid.Host{i.Host},
		Parent:   e.parent,
		Comment:  e.comment,
	}
	if e.digest != nil {
		img.Digests = []string{e.digest.String()}
	}
	if e.tagged && len(e.tags) > 0 {
		img.LastTagged = time.Now().UTC()
	}
	return img
}

// renamed is a known image's record with what an entry adds to it. The manifest stays the first one while its content
// is here: containers were made from it.
func renamed(old, fresh *state.Image, here, tagged bool) *state.Image {
	next := *old
	if !here {
		next.Target, next.Manifest, next.Layers, next.Sizes = fresh.Target, fresh.Manifest, fresh.Layers, fresh.Sizes
		next.Hosts = withHost(old.Hosts, fresh.Hosts[0])
	}
	next.Digests = slices.Clone(old.Digests)
	for _, d := range fresh.Digests {
		if !slices.Contains(next.Digests, d) {
			next.Digests = append(next.Digests, d)
		}
	}
	slices.Sort(next.Digests)
	if tagged {
		next.LastTagged = time.Now().UTC()
	}
	return &next
}

func withHost(hosts []nereid.Host, h nereid.Host) []nereid.Host {
	if slices.Contains(hosts, h) {
		return hosts
	}
	return append(slices.Clone(hosts), h)
}

// dropUnrecorded lets go of content that did not make it into the catalogue.
func (i *Images) dropUnrecorded(ctx context.Context, a nereid.Account, id nereid.ImageID) {
	if _, ok := i.State.View().Image(a, id); ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostTimeout)
	defer cancel()
	if err := i.store.Drop(ctx, a, id); err != nil {
		i.Log.Sugar().Warnw("image content left behind until the next start", "image", id, "error", err)
	}
}

// collect frees what removed images held alone, also when the client has gone meanwhile.
func (i *Images) collect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostTimeout)
	defer cancel()
	if err := i.store.Collect(ctx, nereid.AccountFrom(ctx)); err != nil {
		i.Log.Sugar().Warnw("the room of removed images is not free yet", "error", err)
	}
}

// stream runs a transfer that reports to a client. Errors before its first line are returned, later ones are the
// last line. The transfer ends when the client cannot be written to any more.
func stream(ctx context.Context, out io.Writer, transfer func(context.Context, *image.Progress) error) error {
	ctx, gone := context.WithCancelCause(ctx)
	defer gone(nil)
	p := image.NewProgress(out, func() { gone(errClientGone) })
	err := transfer(ctx, p)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	if !p.Started() {
		return err
	}
	p.Error(err)
	return nil
}

var errClientGone = fmt.Errorf("the client has gone: %w", context.Canceled)
