package runtime

import (
	"errors"
	"fmt"
	"os"

	"github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// By these files programs tell that they run in a container of Docker's, and find what is mounted.
const (
	dockerMark = ".dockerenv"
	mountTable = "etc/mtab"
)

// Furnish makes what a container's root file system has from its creation on, as Docker's do: the marks, and the directory
// its process starts in. One that cannot be a directory is errdefs.ErrInvalidArgument. It may be called again.
func Furnish(rootfs, workingDir string, owner nereid.IDMap) error {
	if err := makeMarks(rootfs, owner); err != nil {
		return err
	}
	return makeWorkingDir(rootfs, workingDir, owner)
}

// makeMarks makes what every container of Docker's has in its root file system before its first start, where neither the
// image nor the container itself has it: the marks, and what is mounted on. The links in it are the container's: none
// leads out. What cannot be made is left out.
func makeMarks(rootfs string, owner nereid.IDMap) error {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, dir := range []string{"dev", "etc", "proc", "sys"} {
		if err := root.Mkdir(dir, 0o755); err == nil {
			_ = root.Lchown(dir, int(owner.UID), int(owner.GID))
		}
	}
	for _, name := range []string{dockerMark, "etc/hostname", "etc/hosts", "etc/resolv.conf"} {
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL, 0o755) // there already, if only as a link: the container's
		if err != nil {
			continue
		}
		_ = f.Chmod(0o755) // whatever the umask
		_ = f.Chown(int(owner.UID), int(owner.GID))
		_ = f.Close()
	}
	if err := root.Symlink("/proc/mounts", mountTable); err == nil {
		_ = root.Lchown(mountTable, int(owner.UID), int(owner.GID))
	}
	return nil
}

// makeWorkingDir makes the directory the process starts in, as Docker does, below what volumes may hide later.
func makeWorkingDir(rootfs, dir string, owner nereid.IDMap) error {
	if dir == "" || dir == "/" {
		return nil
	}
	path, err := fs.RootPath(rootfs, dir)
	if err != nil {
		return err
	}
	if err := user.MkdirAllAndChown(path, 0o755, int(owner.UID), int(owner.GID), user.WithOnlyNew); err != nil {
		if st, serr := os.Stat(path); errors.Is(err, unix.ENOTDIR) || serr == nil && !st.IsDir() {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Cannot mkdir: %s is not a directory", dir))
		}
		return err
	}
	return nil
}
