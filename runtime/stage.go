package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
)

// stageDir holds mounts that are needed for a while, and by no container: what a container has of them lives on in its own
// mount namespace.
func (r *Runtime) stageDir() string { return filepath.Join(r.cfg.State, "stage") }

// place mounts in a new directory below stageDir until release is called, which may be twice.
func (r *Runtime) place(mounts []mount.Mount) (dir string, release func() error, err error) {
	if err := os.MkdirAll(r.stageDir(), 0o711); err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp(r.stageDir(), ""); err != nil {
		return "", nil, err
	}
	if err := mount.All(mounts, dir); err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	return dir, sync.OnceValue(func() error { return unmountDir(dir) }), nil
}

// clearStage removes what another run of the daemon left.
func (r *Runtime) clearStage() error {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(r.stageDir()))
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range infos {
		errs = append(errs, unmountDir(i.Mountpoint))
	}
	left, err := filepath.Glob(filepath.Join(r.stageDir(), "*"))
	for _, path := range left {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, err)...)
}
