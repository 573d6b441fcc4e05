package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// Unchanged is a file that is the same in both trees, and one of several names of one that may have new ones.
const Unchanged container.ChangeType = 255

// Difference tells how the files below dir differ from those below base, by the rules of [Runtime.Changes], and which of
// the same have several names. What a container does meanwhile to its files leads nowhere else, nor is it an error.
func Difference(base, dir string) ([]container.FilesystemChange, error) {
	found, err := compare(base, dir, differ{links: true}, place{inBase: true, hidden: true})
	return withoutPlaces(found), err
}

// difference tells how an overlay's upper directory changes the base below it, in the order of paths, as Docker does: what
// is deleted or new in a directory changes the directory too, a directory's times are no change, and of what is gone only
// the uppermost is named. Neither links in them nor what a running container does meanwhile leads out of the two.
func difference(base, upper string) ([]container.FilesystemChange, error) {
	return compare(base, upper, differ{}, place{inBase: true})
}

func compare(base, dir string, d differ, top place) (_ []container.FilesystemChange, err error) {
	if d.base, err = os.OpenRoot(base); err != nil {
		return nil, err
	}
	defer func() { _ = d.base.Close() }()
	if d.upper, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	defer func() { _ = d.upper.Close() }()
	err = d.directory(".", top)
	return d.found, err
}

// A differ walks an upper directory.
type differ struct {
	base, upper *os.Root
	links       bool // whether to name what is unchanged and has several names
	found       []container.FilesystemChange
}

// A place is what the walk knows of a directory: whether the base has one there, and whether it is hidden by one that was
// made anew in its stead.
type place struct{ inBase, hidden bool }

func (d *differ) add(kind container.ChangeType, name string) {
	d.found = append(d.found, container.FilesystemChange{Kind: kind, Path: "/" + name})
}

func (d *differ) directory(dir string, at place) error {
	names, opaque, err := list(d.upper, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil // gone meanwhile
	} else if err != nil {
		return err
	}
	at.hidden = at.hidden || opaque
	if at.hidden && at.inBase {
		before, _, err := list(d.base, dir)
		if err != nil {
			return err
		}
		names = append(names, before...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := d.entry(path.Join(dir, name), at); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) entry(name string, at place) error {
	now, err := lstat(d.upper, name)
	if err != nil {
		return err
	}
	var was fs.FileInfo
	if at.inBase {
		if was, err = lstat(d.base, name); err != nil {
			return err
		}
	}
	if now == nil || isWhiteout(now) {
		if was != nil && (now != nil || at.hidden) {
			d.add(container.ChangeDelete, name)
		}
		return nil
	}
	before := len(d.found)
	switch {
	case was == nil && places["/"+name] && now.Mode().IsRegular() && now.Size() > 0: // filled by a user before the first start
		d.add(container.ChangeModify, name)
	case was == nil:
		d.add(container.ChangeAdd, name)
	case d.differs(name, was, now):
		d.add(container.ChangeModify, name)
	case d.links && now.Mode().IsRegular() && now.Sys().(*syscall.Stat_t).Nlink > 1:
		d.add(Unchanged, name)
	}
	if !now.IsDir() {
		return nil
	}
	inside := len(d.found)
	listed := inside > before
	if err := d.directory(name, place{inBase: was != nil && was.IsDir(), hidden: at.hidden}); err != nil {
		return err
	}
	if !listed && slices.ContainsFunc(d.found[inside:], func(c container.FilesystemChange) bool { return c.Kind != Unchanged }) {
		d.found = slices.Insert(d.found, before, container.FilesystemChange{Kind: container.ChangeModify, Path: "/" + name})
	}
	return nil
}

func (d *differ) differs(name string, was, now fs.FileInfo) bool {
	a, okA := was.Sys().(*syscall.Stat_t)
	b, okB := now.Sys().(*syscall.Stat_t)
	if !okA || !okB || a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true
	}
	if now.IsDir() {
		return false
	}
	if a.Size != b.Size || !sameTime(a.Mtim, b.Mtim) {
		return true
	}
	return now.Mode().IsRegular() && attribute(d.base, name, "security.capability") != attribute(d.upper, name, "security.capability")
}

// sameTime compares times of which one may have lost its fraction in an archive.
func sameTime(a, b syscall.Timespec) bool {
	return a.Sec == b.Sec && (a.Nsec == b.Nsec || a.Nsec == 0 || b.Nsec == 0)
}

// lstat is nil for what is not there.
func lstat(root *os.Root, name string) (fs.FileInfo, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	return info, err
}

// list names what is in a directory, and tells whether overlayfs shows nothing else in it.
func list(root *os.Root, dir string) (names []string, opaque bool, err error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = f.Close() }()
	names, err = f.Readdirnames(-1)
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		opaque = opaque || xattr(f, attr) == "y"
	}
	return names, opaque, err
}

// attribute of a regular file; one that has none, or cannot be opened, has an empty one.
func attribute(root *os.Root, name, attr string) string {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	return xattr(f, attr)
}

func xattr(f *os.File, name string) string {
	var b [64]byte // a capability takes 24
	n, err := unix.Fgetxattr(int(f.Fd()), name, b[:])
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// isWhiteout tells what overlayfs puts where something below was deleted.
func isWhiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&os.ModeCharDevice != 0 && st.Rdev == 0
}
