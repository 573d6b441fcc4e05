package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/core/sandbox"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
)

// shield keeps the shims of the tasks named from being deleted while containerd boots. It takes a shim without a process
// for a leak, and deletes it; but where the process ended while no daemon ran, the shim is the only one who knows how,
// and its FIFOs may hold output. Shims of sandboxes are spared, so for as long as containerd boots, each task is one.
type shield struct {
	db   *metadata.DB
	keys []Key
}

func (s shield) raise(ctx context.Context) error {
	store := metadata.NewSandboxStore(s.db)
	return s.each(ctx, func(ctx context.Context, key Key) error {
		_, err := store.Create(ctx, sandbox.Sandbox{ID: string(key.ID), Runtime: sandbox.RuntimeOpts{Name: runtimeName}})
		if errdefs.IsAlreadyExists(err) {
			return nil // left by a daemon that died while it booted
		}
		return err
	})
}

func (s shield) lower(ctx context.Context) error {
	store := metadata.NewSandboxStore(s.db)
	return s.each(ctx, func(ctx context.Context, key Key) error {
		err := store.Delete(ctx, string(key.ID))
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// each does something for every task, in one transaction.
func (s shield) each(ctx context.Context, do func(context.Context, Key) error) error {
	if len(s.keys) == 0 {
		return nil
	}
	return inTransaction(ctx, s.db.Update, boltutil.WithTransaction, func(ctx context.Context) error {
		var errs []error
		for _, key := range s.keys {
			if err := do(namespaces.WithNamespace(ctx, string(key.Account)), key); err != nil {
				errs = append(errs, fmt.Errorf("container %s: %w", key.ID, err))
			}
		}
		return errors.Join(errs...)
	})
}

// inTransaction has containerd's stores use one transaction for all they are asked to do. Its type is that of the
// database below them, which is no business of ours.
func inTransaction[Tx any](ctx context.Context, update func(func(Tx) error) error, with func(context.Context, Tx) context.Context, do func(context.Context) error) error {
	return update(func(tx Tx) error { return do(with(ctx, tx)) })
}
