package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Reconcile makes this host's content and the catalogue agree after a start: content that the catalogue does not know
// is let go, images whose content is not here any more no longer name this host, and transfers that died with the last
// daemon are over. Call it before requests are served.
func (i *Images) Reconcile(ctx context.Context) error {
	unlock, err := i.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	accounts, err := i.store.Accounts(ctx)
	if err != nil {
		return err
	}
	for _, a := range i.State.View().Accounts() {
		if !slices.Contains(accounts, a.Name) {
			accounts = append(accounts, a.Name)
		}
	}
	var errs []error
	for _, a := range accounts {
		errs = append(errs, i.store.EndTransfers(ctx, a), i.letGo(ctx, a), i.markMissing(ctx, a))
	}
	return errors.Join(errs...)
}

// letGo drops content without a record, and frees its room.
func (i *Images) letGo(ctx context.Context, a nereid.Account) error {
	kept, err := i.store.Kept(ctx, a)
	if err != nil {
		return err
	}
	dropped := false
	var errs []error
	for _, id := range kept {
		if _, ok := i.State.View().Image(a, id); !ok {
			errs = append(errs, i.store.Drop(ctx, a, id))
			dropped = true
		}
	}
	if dropped {
		errs = append(errs, i.store.Collect(ctx, a))
	}
	return errors.Join(errs...)
}

// markMissing takes this host from the records of images that it does not hold whole.
func (i *Images) markMissing(ctx context.Context, a nereid.Account) error {
	var errs []error
	for _, img := range i.State.View().Images(a) {
		if !slices.Contains(img.Hosts, i.Host) {
			continue
		}
		_, err := i.store.Open(ctx, a, img.ID)
		if err == nil {
			continue
		}
		if !errdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("check image %q: %w", img.ID, err))
			continue
		}
		i.Log.Sugar().Warnw("an image's content is not on this host any more", "account", a, "image", img.ID, "error", err)
		next := *img
		next.Hosts = slices.DeleteFunc(slices.Clone(img.Hosts), func(h nereid.Host) bool { return h == i.Host })
		_, err = i.State.Commit(ctx, state.Update(&next))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
