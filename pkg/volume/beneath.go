package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// OpenBeneath opens a path within a directory without ever leaving it, whatever its links say and whoever changes them
// meanwhile. The file is good for mounting through /proc, not for reading.
func OpenBeneath(dir, sub string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(int(d.Fd()), sub, how)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("cannot access path %s: no such file or directory", filepath.Join(dir, sub)))
	case errors.Is(err, unix.EXDEV):
		return nil, invalid("subpath %q leads out of the volume", sub)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", filepath.Join(dir, sub), err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir, sub)), nil
}
