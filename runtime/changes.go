package runtime

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/docker/docker/api/types/container"
)

// Size of the writable layer, and of all of it, in bytes. As with Docker, the writable layer's is that of its files,
// however much room they and their directories take on the disk.
func (r *Runtime) Size(ctx context.Context, key Key) (rw, total int64, err error) {
	ctx = inNamespace(ctx, key)
	store := r.rootfs.snapshots()
	mounts, err := store.Mounts(ctx, string(key.ID))
	if err != nil {
		return 0, 0, fmt.Errorf("size of container %s: %w", key.ID, err)
	}
	upper, _ := overlayDirs(mounts)
	for name := string(key.ID); name != ""; {
		size := int64(0)
		if name == string(key.ID) && upper != "" {
			size = filesIn(upper) // not the snapshotter's, which fails when a file goes while it counts
		} else {
			usage, err := store.Usage(ctx, name)
			if err != nil {
				return 0, 0, fmt.Errorf("size of container %s: %w", key.ID, err)
			}
			size = usage.Size
		}
		if name == string(key.ID) {
			rw = size
		}
		total += size
		info, err := store.Stat(ctx, name)
		if err != nil {
			return 0, 0, fmt.Errorf("size of container %s: %w", key.ID, err)
		}
		name = info.Parent
	}
	return rw, total, nil
}

// filesIn is the size of what is below a directory, files with several names once. What vanishes meanwhile is no loss.
func filesIn(dir string) (size int64) {
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(path string, d iofs.DirEntry, err error) error {
		if err != nil || d.IsDir() || places[strings.TrimPrefix(path, dir)] && d.Type() != 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		size += info.Size()
		return nil
	})
	return size
}

// Changes against the image, in the order of their paths.
func (r *Runtime) Changes(ctx context.Context, key Key) (changes []container.FilesystemChange, retErr error) {
	mounts, err := r.rootfs.snapshots().Mounts(inNamespace(ctx, key), string(key.ID))
	if err != nil {
		return nil, fmt.Errorf("changes of container %s: %w", key.ID, err)
	}
	plain, back := withoutMapping(mounts)
	upper, lower := overlayDirs(plain)
	if upper == "" {
		return nil, nil // no image below: there is nothing to differ from
	}
	if back != nil {
		own, drop, err := r.place([]mount.Mount{idMapped(upper, *back)})
		if err != nil {
			return nil, fmt.Errorf("layer of container %s: %w", key.ID, err)
		}
		defer func() { retErr = errors.Join(retErr, drop()) }()
		upper = own
	}
	err = withLower(ctx, lower, func(base string) (err error) {
		changes, err = difference(base, upper)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("changes of container %s: %w", key.ID, err)
	}
	if changes = withoutPlaces(changes); len(changes) == 0 {
		changes = nil // clients see null rather than an empty list, as Docker's
	}
	return changes, nil
}

// places are what every container needs to mount on. Where an image lacks one, runc makes it in the writable layer;
// Docker makes it in a layer of its own, so there it is no change.
var places = map[string]bool{
	"/dev": true, "/proc": true, "/sys": true, "/etc/hostname": true, "/etc/hosts": true, "/etc/resolv.conf": true,
	"/" + dockerMark: true, "/" + mountTable: true,
}

// withoutPlaces are the changes that somebody made, rather than runc for what it mounts.
func withoutPlaces(all []container.FilesystemChange) []container.FilesystemChange {
	inEtc := false
	kept := slices.DeleteFunc(all, func(c container.FilesystemChange) bool {
		place := c.Kind == container.ChangeAdd && places[c.Path]
		inEtc = inEtc || place && strings.HasPrefix(c.Path, "/etc/")
		return place
	})
	etc := slices.IndexFunc(kept, func(c container.FilesystemChange) bool { return c.Path == "/etc" })
	if !inEtc || etc < 0 {
		return kept
	}
	if slices.ContainsFunc(kept, func(c container.FilesystemChange) bool { return strings.HasPrefix(c.Path, "/etc/") }) {
		kept[etc].Kind = container.ChangeModify
		return kept
	}
	return slices.Delete(kept, etc, etc+1)
}

func overlayDirs(mounts []mount.Mount) (upper, lower string) {
	for _, m := range mounts {
		if m.Type != "overlay" {
			continue
		}
		for _, o := range m.Options {
			if v, ok := strings.CutPrefix(o, "upperdir="); ok {
				upper = v
			}
			if v, ok := strings.CutPrefix(o, "lowerdir="); ok {
				lower = v
			}
		}
	}
	return upper, lower
}

// withLower shows the image's layers as one directory.
func withLower(ctx context.Context, lower string, do func(dir string) error) error {
	if !strings.Contains(lower, ":") {
		return do(lower)
	}
	m := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{"ro", "lowerdir=" + lower}}
	return mount.WithTempMount(ctx, []mount.Mount{m}, do)
}
