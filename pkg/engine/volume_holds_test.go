package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	apivolume "github.com/docker/docker/api/types/volume"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
)

// deviceRig is a host with a volume "mem" that is a tmpfs: what is written is gone once it was unmounted.
func deviceRig(t *testing.T) *volumeRig {
	t.Helper()
	r := newVolumeRig(t)
	r.create(apivolume.CreateOptions{Name: "mem", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs"}})
	t.Cleanup(func() { _ = unix.Unmount(volume.Mountpoint(r.DataRoot, nereid.Admin, "mem"), unix.MNT_DETACH) })
	return r
}

func (r *volumeRig) use(c *state.Container) {
	r.t.Helper()
	_, release, err := r.RuntimeMounts(r.ctx, c, holderOf(keyOf(c)))
	assert.NilError(r.t, err)
	release()
}

func (r *volumeRig) mounted() int {
	r.t.Helper()
	vols, err := r.Volumes.Volumes.Mounted(r.ctx)
	assert.NilError(r.t, err)
	return len(vols)
}

func TestDeviceIsMountedWhileItIsUsed(t *testing.T) {
	r := deviceRig(t)
	a := r.container("a", &container.HostConfig{Binds: []string{"mem:/x", "mem:/y", "plain:/z"}})
	b := r.container("b", &container.HostConfig{Binds: []string{"mem:/x"}})
	assert.NilError(t, r.Prepare(r.ctx, a, noRootfs(t)))
	assert.Equal(t, r.mounted(), 0, "nothing to copy, nothing mounted")
	r.use(a)
	r.use(b)
	view := r.holds.another("view")
	_, release, err := r.RuntimeMounts(r.ctx, a, view)
	assert.NilError(t, err)
	release()

	r.LetGo(r.ctx, holderOf(keyOf(a)))
	r.LetGo(r.ctx, holderOf(keyOf(a))) // told twice
	assert.Equal(t, r.mounted(), 1)
	r.LetGo(r.ctx, holderOf(keyOf(b)))
	assert.Equal(t, r.mounted(), 1, "a copy is under way")
	r.LetGo(r.ctx, view)
	assert.Equal(t, r.mounted(), 0)
}

func TestDeviceIsUnmountedAfterTheCopy(t *testing.T) {
	r := newVolumeRig(t)
	dev, img := t.TempDir(), t.TempDir()
	assert.NilError(t, os.MkdirAll(filepath.Join(img, "x", "sub"), 0o755))
	r.create(apivolume.CreateOptions{Name: "dir", DriverOpts: map[string]string{"type": "none", "o": "bind", "device": dev}})
	c := r.container("c", &container.HostConfig{Binds: []string{"dir:/x"}})

	assert.NilError(t, r.Prepare(r.ctx, c, mountedAt(img)))

	assert.Equal(t, r.mounted(), 0)
	_, err := os.Stat(filepath.Join(dev, "sub"))
	assert.NilError(t, err)
}

// TestDeviceThatDoesNotMount: an error names the volume, and whatever was mounted before it comes off with the rest.
func TestDeviceThatDoesNotMount(t *testing.T) {
	r := deviceRig(t)
	r.create(apivolume.CreateOptions{Name: "bad", DriverOpts: map[string]string{"type": "none", "o": "bind", "device": "/no/such"}})
	c := r.container("c", &container.HostConfig{Binds: []string{"mem:/a", "bad:/b"}})
	_, _, err := r.RuntimeMounts(r.ctx, c, holderOf(keyOf(c)))
	at := volume.Mountpoint(r.DataRoot, nereid.Admin, "bad")
	assert.Error(t, err, "error while mounting volume '"+at+"': failed to mount local volume: mount /no/such:"+at+", flags: 0x1000: no such file or directory")
	r.LetGo(r.ctx, holderOf(keyOf(c)))
	assert.Equal(t, r.mounted(), 0)
}

// TestHoldersAfterADaemonWasKilled: of two containers one ended while no daemon was there.
func TestHoldersAfterADaemonWasKilled(t *testing.T) {
	r := deviceRig(t)
	r.create(apivolume.CreateOptions{Name: "other", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs"}})
	lives := r.container("lives", &container.HostConfig{Mounts: []mount.Mount{{Type: "volume", Source: "mem", Target: "/x"}}})
	ended := r.container("ended", &container.HostConfig{Binds: []string{"other:/x", "mem:/y"}})
	r.use(lives)
	r.use(ended)
	assert.Equal(t, r.mounted(), 2)

	next := &volumeRig{Volumes: NewVolumes(r.Deps), t: t, ctx: r.ctx}
	assert.NilError(t, next.Adopt(r.ctx, []*state.Container{lives}))

	vols, err := next.Volumes.Volumes.Mounted(r.ctx)
	assert.NilError(t, err)
	assert.DeepEqual(t, vols, []*state.Volume{{Account: nereid.Admin, Name: "mem"}})
	next.LetGo(r.ctx, holderOf(keyOf(lives)))
	assert.Equal(t, next.mounted(), 0)
}

// TestBusyDeviceIsNotRemoved: a process of the host works in it. The volume is there as before.
func TestBusyDeviceIsNotRemoved(t *testing.T) {
	r := deviceRig(t)
	c := r.container("c", &container.HostConfig{Binds: []string{"mem:/x"}})
	r.use(c)
	f, err := os.Create(filepath.Join(volume.Mountpoint(r.DataRoot, nereid.Admin, "mem"), "f"))
	assert.NilError(t, err)
	defer f.Close()
	r.LetGo(r.ctx, holderOf(keyOf(c)))
	r.remove(c, false)

	err = r.Remove(r.ctx, "mem", false)

	assert.Assert(t, errors.Is(err, unix.EBUSY), "%v", err)
	assert.DeepEqual(t, r.names(), []string{"mem"})
	assert.NilError(t, f.Close())
	assert.NilError(t, r.Remove(r.ctx, "mem", false))
}

// TestRemovalThatWasCutOff: of three volumes that were being removed the daemon had taken one out of the state. Data that
// no record speaks of, and that nobody wanted removed, is kept: the state may have been lost.
func TestRemovalThatWasCutOff(t *testing.T) {
	r := newVolumeRig(t)
	c := r.container("c", &container.HostConfig{Binds: []string{"gone:/a", "stays:/b", "unknown:/c"}}, "/anonymous")
	assert.NilError(t, r.Prepare(r.ctx, c, noRootfs(t)))
	anonymous := c.Mounts[1].Name
	dir := func(name string) error {
		_, err := os.Stat(filepath.Join(r.DataRoot, "volumes/admin", name))
		return err
	}
	ops, _ := r.ReleaseOps(c, true)
	r.commit(append(ops, state.Delete(c))...)
	for _, name := range []string{"gone", "stays", "unknown"} {
		v, _ := r.State.View().Volume(nereid.Admin, name)
		if name != "unknown" {
			assert.NilError(t, r.Volumes.Volumes.Doom(r.ctx, v))
		}
		if name != "stays" {
			r.commit(state.Delete(v))
		}
	}
	for _, name := range []string{"gone", "stays", "unknown", anonymous} {
		assert.NilError(t, dir(name))
	}

	assert.NilError(t, r.Adopt(r.ctx, nil))

	assert.ErrorIs(t, dir("gone"), os.ErrNotExist)
	assert.ErrorIs(t, dir(anonymous), os.ErrNotExist)
	assert.NilError(t, dir("stays"))
	assert.NilError(t, dir("unknown"))
	doomed, err := r.Volumes.Volumes.Doomed(r.ctx)
	assert.NilError(t, err)
	assert.Equal(t, len(doomed), 0)
}
