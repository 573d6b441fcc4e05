package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// partName starts the names of the places where parts of volumes are mounted while containers are made that use them.
const partName = ".part-"

// Part gives what lies at a path within a volume's directory as a path of its own, which no container that writes to
// the volume can lead elsewhere, until release is called.
func (s *Store) Part(dir, sub string) (path string, release func(), err error) {
	f, err := openBeneath(dir, sub)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	if err := os.MkdirAll(s.root, 0o701); err != nil { // an image has parts before there is a volume
		return "", nil, err
	}
	place, err := os.MkdirTemp(s.root, partName)
	if err != nil {
		return "", nil, err
	}
	release = func() { _ = removePart(place) } // what cannot be removed is swept at the next start
	defer func() {
		if err != nil {
			release()
		}
	}()
	at := filepath.Join(place, "part")
	if err := placeFor(f, at); err != nil {
		return "", nil, err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", nil, fmt.Errorf("mount %s: %w", f.Name(), err)
	}
	return at, release, nil
}

// placeFor makes what a file or directory can be mounted on.
func placeFor(f *os.File, at string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.Mkdir(at, 0o700)
	}
	return os.WriteFile(at, nil, 0o600)
}

// removePart undoes Part. It removes nothing of the volume: a place that is still mounted on is not removed.
func removePart(place string) error {
	at := filepath.Join(place, "part")
	if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "unmount", Path: at, Err: err}
	}
	return errors.Join(ignoreAbsent(os.Remove(at)), os.Remove(place))
}

// openBeneath opens a path within a directory without ever leaving it, whatever its links say and whoever changes them
// meanwhile. The file is good for mounting through /proc, not for reading.
func openBeneath(dir, sub string) (*os.File, error) {
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
		return nil, invalid("path concatenation escapes the base directory, base: %s, subpath: %s", dir, sub)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", filepath.Join(dir, sub), err)
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir, sub)), nil
}
