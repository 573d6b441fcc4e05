package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

const (
	// transferTime bounds how long a transfer's content outlives a daemon that died in its midst.
	transferTime = 24 * time.Hour
	// resumeTime is how long what a failed transfer fetched is kept for the next try.
	resumeTime = time.Hour
	// cleanupTime bounds clean-up, which goes on when the client has gone.
	cleanupTime = 30 * time.Second
	// labelTransfer marks the lease of a transfer under way with what it fetches; empty when a new try starts afresh.
	labelTransfer = "nereid.io/transfer"
	// labelResume marks the lease of a failed transfer with what it was to fetch.
	labelResume = "nereid.io/resume"
)

// hold is a lease on content in flight. Its context is the one to use with containerd.
type hold struct {
	store *Store
	ctx   context.Context
	lease leases.Lease
}

// hold takes a lease for a transfer of something; the caller ends it with release or keepForRetry. ctx carries the
// namespace.
func (s *Store) hold(ctx context.Context, what string) (*hold, error) {
	l, err := s.leases().Create(ctx, leases.WithRandomID(), leases.WithExpiration(transferTime), leases.WithLabel(labelTransfer, what))
	if err != nil {
		return nil, fmt.Errorf("take a lease for the transfer: %w", err)
	}
	return &hold{store: s, ctx: leases.WithLease(ctx, l.ID), lease: l}, nil
}

// content holds a blob that may be there already. It may be called before the blob is.
func (h *hold) content(d digest.Digest) error {
	return h.add(leases.Resource{ID: d.String(), Type: "content"})
}

// snapshot holds a snapshot that may be there already.
func (h *hold) snapshot(name string) error {
	return h.add(leases.Resource{ID: name, Type: "snapshots/" + h.store.cfg.Snapshotter})
}

// image holds all of an image.
func (h *hold) image(img *Image) error {
	blobs := []digest.Digest{img.Target.Digest, img.Manifest.Digest, digest.Digest(img.ID)}
	for _, l := range img.Layers {
		blobs = append(blobs, l.Digest)
	}
	for _, b := range blobs {
		if err := h.content(b); err != nil {
			return err
		}
	}
	cfg, err := decodeConfig(img.Config)
	if err != nil {
		return err
	}
	if top := chainID(cfg.RootFS.DiffIDs); top != "" {
		return h.snapshot(top)
	}
	return nil
}

func (h *hold) add(r leases.Resource) error {
	err := h.store.leases().AddResource(h.ctx, h.lease, r)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("hold %s %s: %w", r.Type, r.ID, err)
	}
	return nil
}

// release gives the lease up: what nothing else holds is garbage. It may be called twice.
func (h *hold) release() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), cleanupTime)
	defer cancel()
	_ = h.store.leases().Delete(ctx, h.lease) // it expires by itself
}

// keepForRetry leaves what was fetched so far for another try at the same thing, for a while: a lease's expiry is
// fixed when it is made, so a shorter one takes the long one's place.
func (h *hold) keepForRetry() {
	defer h.release()
	what := h.lease.Labels[labelTransfer]
	if what == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), cleanupTime)
	defer cancel()
	held, err := h.store.leases().ListResources(ctx, h.lease)
	if err != nil || len(held) == 0 {
		return
	}
	short, err := h.store.leases().Create(ctx, leases.WithRandomID(), leases.WithExpiration(resumeTime),
		leases.WithLabel(labelResume, what))
	if err != nil {
		return
	}
	for _, r := range held {
		_ = h.store.leases().AddResource(ctx, short, r)
	}
}

// forgetRetries drops what earlier failed tries at a thing left, now that it is whole.
func (s *Store) forgetRetries(ctx context.Context, what string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	old, err := s.leases().List(ctx, fmt.Sprintf("labels.%q==%q", labelResume, what))
	if err != nil {
		return
	}
	for _, l := range old {
		_ = s.leases().Delete(ctx, l)
	}
}

// ForgetRetries drops what failed transfers of an account left for another try.
func (s *Store) ForgetRetries(ctx context.Context, a nereid.Account) error {
	ctx = inNamespace(ctx, a)
	old, err := s.leases().List(ctx, fmt.Sprintf("labels.%q", labelResume))
	if err != nil {
		return fmt.Errorf("list failed transfers: %w", err)
	}
	var errs []error
	for _, l := range old {
		errs = append(errs, s.leases().Delete(ctx, l))
	}
	return errors.Join(errs...)
}

// EndTransfers ends the transfers of an account that a daemon left when it died: what they fetched waits for another
// try like that of any failed one. Call it before any transfer begins.
func (s *Store) EndTransfers(ctx context.Context, a nereid.Account) error {
	ctx = inNamespace(ctx, a)
	dead, err := s.leases().List(ctx, fmt.Sprintf("labels.%q", labelTransfer))
	if err != nil {
		return fmt.Errorf("list transfers: %w", err)
	}
	for _, l := range dead {
		(&hold{store: s, ctx: ctx, lease: l}).keepForRetry()
	}
	return nil
}
