package runtime

import (
	"os"
	"path"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// By these files programs tell that they run in a container of Docker's, and find what is mounted.
const (
	dockerMark = ".dockerenv"
	mountTable = "etc/mtab"
)

// makeMarks makes what every container of Docker's has in its root file system, where neither the image nor the container
// itself has it. The links in it are the container's: none leads out. What cannot be made is left out.
func makeMarks(rootfs string, owner nereid.IDMap) error {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if _, err := root.Lstat(dockerMark); os.IsNotExist(err) {
		if f, err := root.OpenFile(dockerMark, os.O_CREATE|os.O_EXCL, 0o755); err == nil {
			_ = f.Chmod(0o755) // whatever the umask
			_ = f.Chown(int(owner.UID), int(owner.GID))
			_ = f.Close()
		}
	}
	if _, err := root.Lstat(mountTable); os.IsNotExist(err) {
		_ = root.MkdirAll(path.Dir(mountTable), 0o755)
		_ = root.Symlink("/proc/mounts", mountTable)
		_ = root.Lchown(mountTable, int(owner.UID), int(owner.GID))
	}
	return nil
}
