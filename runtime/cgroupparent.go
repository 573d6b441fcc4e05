package runtime

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dropCgroupParent removes the containers' parent cgroup, which runc makes and never removes, from every hierarchy where
// no container is left in it.
func (r *Runtime) dropCgroupParent() error {
	if r.cfg.CgroupParent == "" || filepath.Clean(r.cfg.CgroupParent) == "/" {
		return nil
	}
	parents, err := filepath.Glob(filepath.Join(cgroupRoot, "*", r.cfg.CgroupParent))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range append(parents, filepath.Join(cgroupRoot, r.cfg.CgroupParent)) {
		err := unix.Rmdir(dir)
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
