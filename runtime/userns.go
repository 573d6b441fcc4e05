package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// A container with an IDMap has the layers of its image mounted with its ids, and writes to its own layer with those of the
// host. Its user namespace is the one that owns its network namespace, which is there before it.

// checkIDMap refuses user namespaces where the kernel cannot map the layers of images: containers would find all their files
// to be nobody's.
func checkIDMap(m nereid.IDMap) error {
	if !m.Mapped() {
		return nil
	}
	if ok, err := overlayutils.SupportsIDMappedMounts(); err != nil || !ok {
		return errors.Join(errors.New("user namespaces need a kernel that mounts overlays over mapped layers, Linux 5.19 or newer"), err)
	}
	return nil
}

// snapshotLabels tell the snapshotter of the ids.
func snapshotLabels(m nereid.IDMap) map[string]string {
	labels := map[string]string{gcRoot: "true"}
	if m.Mapped() {
		labels[snapshots.LabelSnapshotUIDMapping], labels[snapshots.LabelSnapshotGIDMapping] = m.Forth()
	}
	return labels
}

// openUserns opens the user namespace of a container; nil when it has the host's. What is joined beside the network must be
// in the same one.
func openUserns(s Spec) (_ *os.File, retErr error) {
	if !s.IDMap.Mapped() {
		return nil, nil
	}
	netns, err := os.Open(s.Netns)
	if err != nil {
		return nil, err
	}
	defer netns.Close()
	fd, err := unix.IoctlRetInt(int(netns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return nil, fmt.Errorf("user namespace of %s: %w", s.Netns, err)
	}
	f := os.NewFile(uintptr(fd), "user namespace of "+string(s.ID))
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, f.Close())
		}
	}()
	for kind, pid := range map[string]int{"PID": s.JoinPID, "IPC": s.JoinIPC} {
		if pid == 0 {
			continue
		}
		if same, err := sameNamespace(f, fmt.Sprintf("/proc/%d/ns/user", pid)); err != nil || !same {
			return nil, errors.Join(err, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
				"cannot share the %s namespace of a container in another user namespace: share its network too, or use --userns=host for both", kind)))
		}
	}
	return f, nil
}

// pathOf a file that this daemon has open, for other processes; of nil it is empty.
func pathOf(f *os.File) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

func sameNamespace(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b), err
}

// View gives the root file system, read-only, with the ids that the container itself sees, until release is called.
func (r *Runtime) View(ctx context.Context, key Key) (dir string, release func() error, err error) {
	mounts, err := r.rootfs.snapshots().Mounts(inNamespace(ctx, key), string(key.ID))
	if err != nil {
		return "", nil, fmt.Errorf("root file system of container %s: %w", key.ID, err)
	}
	plain, back := withoutMapping(mounts)
	if back == nil {
		return r.Mount(ctx, key)
	}
	return r.unmapped(key, plain, back)
}

// unmapped mounts the layers under each other, the container's own with its ids turned back.
func (r *Runtime) unmapped(key Key, mounts []mount.Mount, back *nereid.IDMap) (dir string, release func() error, err error) {
	upper := layerDirs(mounts)[0]
	own, dropOwn, err := r.place([]mount.Mount{idMapped(upper, *back)})
	if err != nil {
		return "", nil, fmt.Errorf("layer of container %s: %w", key.ID, err)
	}
	_, lower := overlayDirs(mounts)
	if lower == "" {
		return own, dropOwn, nil // no image below
	}
	dir, drop, err := r.place([]mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"ro", "lowerdir=" + own + ":" + lower}}})
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("root file system of container %s: %w", key.ID, err), dropOwn())
	}
	return dir, func() error { return errors.Join(drop(), dropOwn()) }, nil
}

// idMapped is not read-only: containerd's mounting of that ends before it maps.
func idMapped(dir string, m nereid.IDMap) mount.Mount {
	uids, gids := m.Back()
	return mount.Mount{Type: "bind", Source: dir, Options: []string{"rbind", "uidmap=" + uids, "gidmap=" + gids}}
}

// withoutMapping are the mounts of a snapshot without its ids, and those ids; nil when it has none.
func withoutMapping(mounts []mount.Mount) ([]mount.Mount, *nereid.IDMap) {
	var (
		m     nereid.IDMap
		plain []mount.Mount
	)
	for _, mnt := range mounts {
		var kept []string
		for _, o := range mnt.Options {
			uids, isUID := strings.CutPrefix(o, "uidmap=")
			gids, isGID := strings.CutPrefix(o, "gidmap=")
			switch {
			case isUID:
				_, _ = fmt.Sscanf(uids, "0:%d:%d", &m.UID, &m.UIDs) // we wrote it
			case isGID:
				_, _ = fmt.Sscanf(gids, "0:%d:%d", &m.GID, &m.GIDs)
			default:
				kept = append(kept, o)
			}
		}
		mnt.Options = kept
		plain = append(plain, mnt)
	}
	if !m.Mapped() {
		return mounts, nil
	}
	return plain, &m
}
