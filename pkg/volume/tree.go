package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/continuity/sysx"
	"golang.org/x/sys/unix"
)

// inode tells files apart.
type inode struct{ dev, ino uint64 }

func inodeOf(st *syscall.Stat_t) inode { return inode{dev: uint64(st.Dev), ino: st.Ino} }

// copyTree copies what is in directory src into the existing directory dst, and src's own owner, mode, times and
// extended attributes onto it. Symbolic links are copied, not followed; hard links within the tree stay links.
func copyTree(ctx context.Context, dst, src string) error {
	c := &copier{ctx: ctx, copied: map[inode]string{}}
	return c.dir(dst, src)
}

// copier copies one tree.
type copier struct {
	ctx    context.Context // of the one copyTree it lives for
	copied map[inode]string
}

func (c *copier) dir(dst, src string) error {
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(filepath.Join(dst, e.Name()), filepath.Join(src, e.Name())); err != nil {
			return err
		}
	}
	// After the entries: making them changed dst's times.
	return copyAttributes(dst, src)
}

func (c *copier) entry(dst, src string) error {
	info, err := os.Lstat(src)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := os.Mkdir(dst, 0o700); err != nil {
			return err
		}
		return c.dir(dst, src)
	}
	st := info.Sys().(*syscall.Stat_t)
	if st.Nlink > 1 {
		if first, ok := c.copied[inodeOf(st)]; ok {
			return os.Link(first, dst)
		}
		c.copied[inodeOf(st)] = dst
	}
	if err := copyNode(dst, src, info, st); err != nil {
		return err
	}
	return copyAttributes(dst, src)
}

// copyNode makes dst with the content of src, which is no directory.
func copyNode(dst, src string, info fs.FileInfo, st *syscall.Stat_t) error {
	switch info.Mode().Type() {
	case 0:
		return copyContent(dst, src)
	case fs.ModeSymlink:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return os.Symlink(target, dst)
	default: // devices, pipes, sockets
		if err := unix.Mknod(dst, st.Mode, int(st.Rdev)); err != nil {
			return fmt.Errorf("mknod %s: %w", dst, err)
		}
		return nil
	}
}

func copyContent(dst, src string) (retErr error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// copyAttributes gives dst the owner, extended attributes, mode and times of src, in the order in which none undoes
// another: a change of owner clears set-id bits and file capabilities.
func copyAttributes(dst, src string) error {
	info, err := os.Lstat(src)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyXattrs(dst, src); err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSymlink {
		if err := os.Chmod(dst, info.Mode()); err != nil {
			return err
		}
	}
	times := []unix.Timespec{{Sec: st.Atim.Sec, Nsec: st.Atim.Nsec}, {Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dst, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("utimes %s: %w", dst, err)
	}
	return nil
}

// copyXattrs copies extended attributes; a file system that has none, on either side, is no error.
func copyXattrs(dst, src string) error {
	names, err := sysx.LListxattr(src)
	if err != nil {
		return ignoreUnsupported(err)
	}
	for _, name := range names {
		value, err := sysx.LGetxattr(src, name)
		if err == nil {
			err = sysx.LSetxattr(dst, name, value, 0)
		}
		if err := ignoreUnsupported(err); err != nil {
			return fmt.Errorf("xattr %s of %s: %w", name, src, err)
		}
	}
	return nil
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}
