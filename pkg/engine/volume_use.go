package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/mount"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
	"github.com/nereid-paas/nereid/runtime"
)

// RootfsMounter gives a container's root file system as a directory until release is called.
type RootfsMounter func(ctx context.Context) (dir string, release func() error, err error)

// volumeOf returns the record of the volume a mount is of.
func (v *Volumes) volumeOf(c *state.Container, m state.Mount) (*state.Volume, error) {
	r, ok := v.State.View().Volume(c.Account, m.Name)
	if !ok {
		return nil, errNoSuchVolume(m.Name)
	}
	return r, nil
}

// Prepare makes the directories of a created container's volumes and fills the empty ones with what the image has at
// their places. Call it once the record is stored, before the first start; the root file system is mounted only when
// something is to be copied. It may be called again.
func (v *Volumes) Prepare(ctx context.Context, c *state.Container, rootfs RootfsMounter) (retErr error) {
	var dir string
	for _, m := range c.Mounts {
		if m.Type != string(mount.TypeVolume) {
			continue
		}
		wanted, err := v.wantsCopy(ctx, c, m)
		if err != nil {
			return err
		}
		if !wanted {
			continue
		}
		if dir == "" {
			mounted, release, err := rootfs(ctx)
			if err != nil {
				return err
			}
			defer func() { retErr = errors.Join(retErr, release()) }()
			dir = mounted
		}
		if err := v.copyUp(ctx, c, m, dir); err != nil {
			return err
		}
	}
	return nil
}

// wantsCopy makes a volume's directory and tells whether image content may belong into it. A device is not mounted for
// the question: that may take long, and its place in the image is looked at first.
func (v *Volumes) wantsCopy(ctx context.Context, c *state.Container, m state.Mount) (bool, error) {
	r, err := v.volumeOf(c, m)
	if err != nil {
		return false, err
	}
	if mounts(r) {
		return !m.NoCopy, nil
	}
	dir, err := v.use(ctx, r, "")
	if err != nil || m.NoCopy {
		return false, err
	}
	if m.Anonymous {
		return true, nil // its place in the image must be checked in any case
	}
	empty, err := volume.Empty(dir)
	if m.Subpath != "" {
		return !empty, err // an empty volume has no parts, and what a part holds is seen when it is copied to
	}
	return empty, err
}

func (v *Volumes) copyUp(ctx context.Context, c *state.Container, m state.Mount, rootfs string) error {
	r, err := v.volumeOf(c, m)
	if err != nil {
		return err
	}
	unlock, err := v.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	err = v.Volumes.CopyUp(ctx, r, rootfs, m.Destination, m.Subpath)
	if mounts(r) && !v.holds.held(keyOfVolume(r)) {
		err = errors.Join(err, v.Volumes.Unmount(ctx, r))
	}
	return err
}

// RuntimeMounts makes ready what a container is about to mount and says it in the runtime's terms, outer mounts before
// those within them. Missing sources of -v are made, as directories. Call release once the task is made or has failed:
// until then the sources cannot be exchanged for others. What is mounted for it stays so until the holder lets go, which
// it must also when this fails.
func (v *Volumes) RuntimeMounts(ctx context.Context, c *state.Container, who volumeHolder) (mounts []runtime.Mount, release func(), err error) {
	var held []func()
	releaseAll := func() {
		for _, release := range held {
			release()
		}
	}
	defer func() {
		if err != nil {
			releaseAll()
		}
	}()
	for _, m := range c.Mounts {
		if c.HostConfig != nil {
			if _, ok := c.HostConfig.Tmpfs[m.Destination]; ok {
				continue // --tmpfs wins
			}
		}
		rm, release, err := v.runtimeMount(ctx, c, m, who)
		if err != nil {
			return nil, nil, err
		}
		if release != nil {
			held = append(held, release)
		}
		mounts = append(mounts, rm)
	}
	tmpfs, err := tmpfsMounts(c)
	if err != nil {
		return nil, nil, err
	}
	mounts = append(mounts, tmpfs...)
	slices.SortStableFunc(mounts, func(a, b runtime.Mount) int {
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	return mounts, releaseAll, nil
}

// tmpfsMounts are those of --tmpfs.
func tmpfsMounts(c *state.Container) ([]runtime.Mount, error) {
	if c.HostConfig == nil {
		return nil, nil
	}
	var mounts []runtime.Mount
	for _, target := range slices.Sorted(maps.Keys(c.HostConfig.Tmpfs)) {
		m, err := tmpfsMount(target, strings.Split(c.HostConfig.Tmpfs[target], ","))
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func tmpfsMount(target string, options []string) (runtime.Mount, error) {
	merged, err := volume.MergeTmpfs(options)
	return runtime.Mount{Type: string(mount.TypeTmpfs), Source: "tmpfs", Destination: target, Options: merged}, err
}

// runtimeMount makes one mount ready. Release, if any, is to be called once the mount is made.
func (v *Volumes) runtimeMount(ctx context.Context, c *state.Container, m state.Mount, who volumeHolder) (_ runtime.Mount, release func(), err error) {
	rm := runtime.Mount{
		Type:        string(mount.TypeBind),
		Source:      m.Source,
		Destination: m.Destination,
		ReadOnly:    !m.RW,
		Recursive:   !slices.Contains(m.Options, bindNonRecursive),
		ReadOnlyTop: slices.Contains(m.Options, bindReadOnlyTop),
		ReadOnlyAll: slices.Contains(m.Options, bindReadOnlyAll),
		Propagation: m.Propagation,
	}
	switch m.Type {
	case string(mount.TypeTmpfs):
		rm, err := tmpfsMount(m.Destination, m.Options)
		rm.ReadOnly = !m.RW && !slices.Contains(rm.Options, "ro") // taken over read-only from another container
		return rm, nil, err
	case string(mount.TypeVolume):
		release, err = v.volumeSource(ctx, c, m, who, &rm)
		return rm, release, err
	case string(mount.TypeImage):
		release, err = v.imageSource(ctx, c, m, &rm)
		return rm, release, err
	}
	return rm, nil, v.bindSource(c, m, &rm)
}

// volumeSource finds what of a volume is to be mounted.
func (v *Volumes) volumeSource(ctx context.Context, c *state.Container, m state.Mount, who volumeHolder, rm *runtime.Mount) (release func(), err error) {
	r, err := v.volumeOf(c, m)
	if err != nil {
		return nil, err
	}
	dir, err := v.use(ctx, r, who)
	if err != nil {
		return nil, err
	}
	rm.Source = dir
	rm.IDMapped = !mounts(r) // the file system of a device may not be able to
	if m.Subpath == "" {
		return nil, nil
	}
	rm.Source, release, err = v.Volumes.Part(dir, m.Subpath)
	return release, err
}

// bindSource makes the missing directory of a -v.
func (v *Volumes) bindSource(c *state.Container, m state.Mount, rm *runtime.Mount) error {
	if !mustExist(c, m) {
		err := os.MkdirAll(m.Source, 0o755)
		if err != nil && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("error while creating mount source path '%s': %w", m.Source, err)
		}
	}
	if v.holdsDataRoot(m.Source) && m.Propagation == string(mount.PropagationRSlave) {
		rm.Propagation = "" // our own choice: the runtime makes it a slave where the host's mount can have one
	}
	return nil
}

// mustExist tells whether a bind's source is never made: those of --mount, unless it says so.
func mustExist(c *state.Container, m state.Mount) bool {
	if c.HostConfig == nil {
		return false
	}
	for _, asked := range c.HostConfig.Mounts {
		if asked.Type == mount.TypeBind && path.Clean(asked.Target) == m.Destination {
			return asked.BindOptions == nil || !asked.BindOptions.CreateMountpoint
		}
	}
	return false
}

// MountEvents tell that a container that starts mounts its volumes.
func (v *Volumes) MountEvents(c *state.Container) []state.Op {
	return v.volumeEvents(c, events.ActionMount, func(m state.Mount) map[string]string {
		return map[string]string{
			"driver":      m.Driver,
			"container":   string(c.ID),
			"destination": m.Destination,
			"read/write":  strconv.FormatBool(m.RW),
			"propagation": m.Propagation,
		}
	})
}

// UnmountEvents tell that a container that ended has its volumes no longer mounted.
func (v *Volumes) UnmountEvents(c *state.Container) []state.Op {
	return v.volumeEvents(c, events.ActionUnmount, func(m state.Mount) map[string]string {
		return map[string]string{"driver": m.Driver, "container": string(c.ID)}
	})
}

func (v *Volumes) volumeEvents(c *state.Container, action events.Action, attrs func(state.Mount) map[string]string) []state.Op {
	var ops []state.Op
	for _, m := range c.Mounts {
		if m.Type == string(mount.TypeVolume) {
			ops = append(ops, state.Emit(volumeEvent(c.Account, c.Host, m.Name, action, attrs(m))))
		}
	}
	return ops
}

// ReleaseOps are what a container's removal does to its volumes: with removeVolumes the anonymous ones go, unless
// another container uses them. The ops belong into the transaction that removes the container; after is to be called
// once that succeeded, and removes the data. When the transaction fails over a *state.Volume, ask again.
func (v *Volumes) ReleaseOps(c *state.Container, removeVolumes bool) (ops []state.Op, after func(context.Context) error) {
	if !removeVolumes {
		return nil, func(context.Context) error { return nil }
	}
	var gone, shared []*state.Volume
	for _, m := range c.Mounts {
		r, err := v.volumeOf(c, m)
		if m.Type != string(mount.TypeVolume) || !m.Anonymous || err != nil ||
			slices.ContainsFunc(gone, func(g *state.Volume) bool { return g.Name == r.Name }) {
			continue
		}
		if v.usedByOthers(r, c) {
			shared = append(shared, r)
			continue
		}
		if err := v.Volumes.Doom(context.Background(), r); err != nil { // its data would outlive a killed daemon, no more
			v.Log.Warn("volume not noted as doomed", zap.String("volume", r.Name), zap.Error(err))
		}
		gone = append(gone, r)
		ops = append(ops, v.removeOps(r)...)
	}
	return ops, func(ctx context.Context) error { return v.released(ctx, gone, shared) }
}

func (v *Volumes) usedByOthers(r *state.Volume, c *state.Container) bool {
	return slices.ContainsFunc(v.State.View().VolumeUsers(r.Account, r.Name), func(o *state.Container) bool { return o.ID != c.ID })
}

// released removes the data of volumes whose records are gone, and the volumes whose last other user went at the same
// time.
func (v *Volumes) released(ctx context.Context, gone, shared []*state.Volume) error {
	var errs []error
	for _, r := range gone {
		unlock, err := v.locks.lock(ctx, r)
		if err != nil {
			return err
		}
		errs = append(errs, v.deleteData(ctx, r))
		unlock()
	}
	for _, r := range shared {
		if len(v.State.View().VolumeUsers(r.Account, r.Name)) == 0 {
			errs = append(errs, v.remove(ctx, r))
		}
	}
	return errors.Join(errs...)
}
