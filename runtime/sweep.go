package runtime

import (
	"context"
	"time"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"
)

const (
	// sweepAfter is how long after a removal the collector is made to look again: it takes half a second to begin, and
	// has its own first look when containerd boots, which are not to be met.
	sweepAfter = 3 * time.Second
	// sweepKey names a snapshot that is made to be removed. No container's id is like it.
	sweepKey = "sweep"
)

// sweepSnapshots has containerd's collector look for snapshots that nobody knows: after a start, since only its memory
// tells that one was removed, and after a removal, since it forgets those of the time it is at work. Either's data would
// lie there until another is removed. Until Close.
func (r *Runtime) sweepSnapshots() {
	r.sweepLater()
	for {
		select {
		case <-r.discarded:
		case <-r.life.Done():
			return
		}
		select {
		case <-time.After(sweepAfter):
		case <-r.life.Done():
			return
		}
		if err := r.rootfs.sweep(r.life); err != nil && r.life.Err() == nil {
			r.log.Warn("removed snapshots remain on disk for now", zap.Error(err))
		}
	}
}

// sweepLater asks for a sweep.
func (r *Runtime) sweepLater() {
	select {
	case r.discarded <- struct{}{}:
	default: // asked for already
	}
}

// sweep removes a snapshot, which is what sets the collector going.
func (s *rootfsStore) sweep(ctx context.Context) error {
	spaces, err := s.client.NamespaceService().List(ctx)
	if err != nil || len(spaces) == 0 {
		return err
	}
	ctx = namespaces.WithNamespace(ctx, spaces[0])
	if _, err := s.snapshots().Prepare(ctx, sweepKey, ""); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return s.snapshots().Remove(ctx, sweepKey)
}
