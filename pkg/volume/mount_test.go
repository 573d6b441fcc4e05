package volume_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
)

// newMountStore is newStore for volumes with devices: what the test leaves mounted goes when it ends.
func newMountStore(t *testing.T) (s *volume.Store, root string) {
	t.Helper()
	s, root = newStore(t)
	t.Cleanup(func() {
		vols, err := s.Mounted(t.Context())
		assert.Check(t, err)
		for _, v := range vols {
			_ = unix.Unmount(volume.Mountpoint(root, v.Account, v.Name), unix.MNT_DETACH)
		}
	})
	return s, root
}

func with(o opts) *state.Volume {
	v := data()
	v.Options = o
	return v
}

// diskImage is a file with a file system on it.
func diskImage(t *testing.T, mkfs string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(mkfs); err != nil {
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "disk.img")
	assert.NilError(t, os.WriteFile(file, nil, 0o600))
	assert.NilError(t, os.Truncate(file, 320<<20))
	out, err := exec.CommandContext(t.Context(), mkfs, append(args, file)...).CombinedOutput()
	assert.NilError(t, err, string(out))
	return file
}

func magic(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	assert.NilError(t, unix.Statfs(dir, &st))
	return st.Type
}

func TestMountedVolume(t *testing.T) {
	tests := []struct {
		name     string
		opts     func(t *testing.T) opts
		magic    int64
		readOnly bool
		forgets  bool // what was written is gone once it was unmounted
	}{
		{name: "tmpfs", magic: unix.TMPFS_MAGIC, forgets: true,
			opts: func(*testing.T) opts { return opts{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7"} }},
		{name: "tmpfs without a device's name", magic: unix.TMPFS_MAGIC, forgets: true,
			opts: func(*testing.T) opts { return opts{"type": "tmpfs", "device": "none"} }},
		{name: "directory",
			opts: func(t *testing.T) opts { return opts{"type": "none", "device": t.TempDir(), "o": "bind"} }},
		{name: "directory, read-only", readOnly: true,
			opts: func(t *testing.T) opts { return opts{"type": "none", "device": t.TempDir(), "o": "rbind,ro"} }},
		{name: "ext4 image", magic: unix.EXT4_SUPER_MAGIC,
			opts: func(t *testing.T) opts {
				return opts{"type": "ext4", "device": diskImage(t, "mkfs.ext4", "-q"), "o": "loop"}
			}},
		{name: "ext4 image, read-only", magic: unix.EXT4_SUPER_MAGIC, readOnly: true,
			opts: func(t *testing.T) opts {
				return opts{"type": "ext4", "device": diskImage(t, "mkfs.ext4", "-q"), "o": "noatime,loop,ro"}
			}},
		{name: "xfs image", magic: unix.XFS_SUPER_MAGIC,
			opts: func(t *testing.T) opts {
				return opts{"type": "xfs", "device": diskImage(t, "mkfs.xfs", "-q"), "o": "loop"}
			}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s, root := newMountStore(t)
			v := with(tc.opts(t))

			p := path(t, s, v)

			assert.Equal(t, p, volume.Mountpoint(root, nereid.Admin, "data"))
			if tc.magic != 0 {
				assert.Equal(t, magic(t, p), tc.magic)
			}
			err := os.WriteFile(filepath.Join(p, "f"), []byte("x"), 0o644)
			assert.Equal(t, errors.Is(err, unix.EROFS), tc.readOnly, "%v", err)
			assert.Equal(t, path(t, s, v), p, "mounted once")
			vols, err := s.Mounted(t.Context())
			assert.NilError(t, err)
			assert.DeepEqual(t, vols, []*state.Volume{{Account: nereid.Admin, Name: "data"}})
			assert.NilError(t, s.Unmount(t.Context(), v))
			assert.NilError(t, s.Unmount(t.Context(), v), "not mounted is no error")
			vols, err = s.Mounted(t.Context())
			assert.NilError(t, err)
			assert.Equal(t, len(vols), 0)
			if !tc.readOnly {
				_, err = os.Stat(filepath.Join(path(t, s, v), "f"))
				assert.Equal(t, errors.Is(err, fs.ErrNotExist), tc.forgets)
			}
		})
	}
}

func TestMountErrors(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	plain := filepath.Join(t.TempDir(), "plain")
	write(t, plain, "no file system")
	tests := []struct {
		name string
		opts opts
		err  string
	}{
		{"no such directory", opts{"type": "none", "o": "bind", "device": absent}, "failed to mount local volume: mount " + absent + ":PATH, flags: 0x1000: no such file or directory"},
		{"no device", opts{"type": "tmpfs", "device": ""}, "missing device in volume options"},
		{"no such server", opts{"type": "nfs", "device": ":/x", "o": "addr=no-such-host.invalid"}, "error resolving passed in network volume address: lookup no-such-host.invalid"},
		{"names become addresses", opts{"type": "nfs", "device": ":/x", "o": "vers=4,addr=localhost"}, "failed to mount local volume: mount :/x:PATH, data: vers=4,addr=127.0.0.1: "},
		{"secrets are kept", opts{"type": "cifs", "device": "//127.0.0.1/x", "o": "username=me,password=hush"}, "mount //127.0.0.1/x:PATH, data: username=me,password=********: "},
		{"unknown file system", opts{"type": "nofs", "device": "x"}, `: no such device (the kernel of this host has no file system "nofs")`},
		{"unknown option", opts{"type": "tmpfs", "device": "tmpfs", "o": "color=blue"}, "failed to mount local volume: mount tmpfs:PATH, data: color=blue: invalid argument"},
		{"no such image", opts{"type": "ext4", "device": absent, "o": "loop"}, "failed to mount local volume: open " + absent + ": no such file or directory"},
		{"no image", opts{"type": "ext4", "device": filepath.Dir(plain), "o": "loop,ro"}, "loop device of " + filepath.Dir(plain) + ": not a regular file"},
		{"nothing on it", opts{"type": "ext4", "device": plain, "o": "loop"}, "failed to mount local volume: mount /dev/loop"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s, root := newMountStore(t)
			at := volume.Mountpoint(root, nereid.Admin, "data")
			_, err := s.Path(t.Context(), with(tc.opts))
			assert.ErrorContains(t, err, "error while mounting volume '"+at+"': ")
			assert.ErrorContains(t, err, strings.ReplaceAll(tc.err, "PATH", at))
			assert.Assert(t, !strings.Contains(err.Error(), "hush"))
			vols, err := s.Mounted(t.Context())
			assert.NilError(t, err)
			assert.Equal(t, len(vols), 0)
			assert.NilError(t, s.Delete(t.Context(), with(tc.opts)))
		})
	}
}

// TestADeviceIsNotOursToDelete: what is mounted at the place of a volume outlives it.
func TestADeviceIsNotOursToDelete(t *testing.T) {
	s, root := newMountStore(t)
	dev := t.TempDir()
	v := with(opts{"type": "none", "o": "bind", "device": dev})
	p := path(t, s, v)
	assert.NilError(t, unix.Mount(p, p, "", unix.MS_BIND, ""), "mounted twice")
	write(t, filepath.Join(p, "theirs"), "x")

	assert.NilError(t, s.Delete(t.Context(), v))

	assert.Equal(t, read(t, filepath.Join(dev, "theirs")), "x")
	_, err := os.Stat(filepath.Join(root, "volumes", "admin", "data"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// TestABusyDeviceIsNotDeleted: a process of the host works in it.
func TestABusyDeviceIsNotDeleted(t *testing.T) {
	s, _ := newMountStore(t)
	v := with(opts{"type": "tmpfs", "device": "tmpfs"})
	f, err := os.Create(filepath.Join(path(t, s, v), "open"))
	assert.NilError(t, err)
	defer f.Close()

	assert.ErrorIs(t, s.Delete(t.Context(), v), unix.EBUSY)

	vols, err := s.Mounted(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, len(vols), 1)
}

func TestCopyUpIntoADevice(t *testing.T) {
	s, _ := newMountStore(t)
	dev := t.TempDir()
	v := with(opts{"type": "none", "o": "bind", "device": dev})
	img := image(t)
	write(t, filepath.Join(dev, ".nereid-copying", "half"), "a daemon ended while it copied")

	assert.NilError(t, s.CopyUp(t.Context(), v, img, "/srv", ""))

	assert.DeepEqual(t, describe(t, dev), describe(t, filepath.Join(img, "srv")))
}

// TestCopyIntoADeviceThatWasCutOff: the daemon ended while it moved a whole copy in.
func TestCopyIntoADeviceThatWasCutOff(t *testing.T) {
	s, _ := newMountStore(t)
	dev := t.TempDir()
	write(t, filepath.Join(dev, ".nereid-copied", "rest"), "image")
	write(t, filepath.Join(dev, "moved"), "image")

	p := path(t, s, with(opts{"type": "none", "o": "bind", "device": dev}))

	assert.Equal(t, read(t, filepath.Join(p, "rest")), "image")
	_, err := os.Stat(filepath.Join(dev, ".nereid-copied"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestDeviceIsNotMountedForNothingToCopy(t *testing.T) {
	s, _ := newMountStore(t)
	assert.NilError(t, s.CopyUp(t.Context(), with(opts{"type": "nfs", "device": ":/x", "o": "addr=192.0.2.1"}), t.TempDir(), "/srv", ""))
}

func TestSizeWithoutQuota(t *testing.T) {
	s := volume.NewStore(quotalessDir(t))
	err := s.Check(opts{"size": "10m"})
	assert.Error(t, err, "quota size requested but no quota support")
	assert.ErrorType(t, err, errdefs.IsInvalidArgument)
	assert.NilError(t, s.Check(opts{"size": "0"}))
}

// quotalessDir lies on a file system that knows no projects.
func quotalessDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	assert.NilError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { assert.Check(t, unix.Unmount(dir, 0)) })
	return dir
}

// TestSize needs a kernel with quotas on XFS, as distributions build it.
func TestSize(t *testing.T) {
	file := diskImage(t, "mkfs.xfs", "-q")
	root := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop,prjquota", file, root).CombinedOutput(); err != nil {
		t.Skipf("no quotas on this host: %s", out)
	}
	t.Cleanup(func() { assert.Check(t, unix.Unmount(root, unix.MNT_DETACH)) })
	s := volume.NewStore(root)
	assert.NilError(t, s.Check(opts{"size": "4m"}))
	small, other := with(opts{"size": "4m"}), with(opts{"size": "64m"})
	other.Name = "other"
	assert.NilError(t, s.CopyUp(t.Context(), small, image(t), "/srv", ""))
	fill := func(v *state.Volume) error {
		return os.WriteFile(filepath.Join(path(t, s, v), "big"), make([]byte, 8<<20), 0o644)
	}
	err := fill(small)
	assert.Assert(t, errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT), "%v", err)
	assert.NilError(t, fill(other), "the sizes of two volumes are their own")
	assert.NilError(t, s.Delete(t.Context(), small))
	assert.NilError(t, fill(data()), "a volume without a size has none")
}
