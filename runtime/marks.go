package runtime

import (
	"os"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// By these files programs tell that they run in a container of Docker's, and find what is mounted.
const (
	dockerMark = ".dockerenv"
	mountTable = "etc/mtab"
)

// MakeMarks makes what every container of Docker's has in its root file system before its first start, where neither the
// image nor the container itself has it: the marks, and what is mounted on. The links in it are the container's: none
// leads out. What cannot be made is left out.
func MakeMarks(rootfs string, owner nereid.IDMap) error {
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
