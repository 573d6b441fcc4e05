package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/quota"
	"github.com/nereid-paas/nereid/runtime/spec"
)

// canLimit tells whether the file system of the snapshots can limit writable layers.
func (c Config) canLimit() bool {
	if c.Address != "" {
		return false // an existing containerd keeps them where it likes
	}
	dir := c.Root
	for {
		if _, err := os.Stat(dir); err == nil || dir == "/" {
			return quota.Supported(dir)
		}
		dir = filepath.Dir(dir)
	}
}

// limit keeps a new writable layer below the size its container asks for.
func (s *rootfsStore) limit(c Spec, mounts []mount.Mount) error {
	if c.HostConfig == nil {
		return nil
	}
	size, err := spec.StorageSize(c.HostConfig)
	if err != nil || size == 0 {
		return err
	}
	s.mu.Lock() // projects are chosen one after the other
	defer s.mu.Unlock()
	if err := quota.Limit(size, layerDirs(mounts)...); err != nil {
		return fmt.Errorf("limit the storage of container %s: %w", c.ID, err)
	}
	return nil
}

// unlimit drops the limit of a layer that goes.
func (r *Runtime) unlimit(ctx context.Context, key Key) {
	if r.host.Quota == nil || !r.host.Quota() {
		return
	}
	mounts, err := r.rootfs.snapshots().Mounts(inNamespace(ctx, key), string(key.ID))
	if err != nil {
		return // gone
	}
	if dirs := layerDirs(mounts); len(dirs) > 0 {
		if err := quota.Forget(dirs[0]); err != nil {
			r.log.Warn("storage limit not removed", zap.String("container", string(key.ID)), zap.Error(err))
		}
	}
}

// layerDirs are the directories of a writable snapshot: first that of its files, then the overlay's work directory.
func layerDirs(mounts []mount.Mount) (dirs []string) {
	for _, m := range mounts {
		if m.Type == "bind" {
			return []string{m.Source}
		}
		for _, key := range []string{"upperdir=", "workdir="} {
			for _, o := range m.Options {
				if dir, ok := strings.CutPrefix(o, key); ok {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	return dirs
}
