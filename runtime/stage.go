package runtime

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
)

// stageDir holds mounts that are needed while a container is made, and by nobody later: what the container has of them
// lives on in its own mount namespace.
func (r *Runtime) stageDir() string { return filepath.Join(r.cfg.State, "stage") }

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
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(append(errs, err)...)
}
