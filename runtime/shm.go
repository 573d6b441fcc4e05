package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// openShm is the directory that becomes a container's /dev/shm where that is shared: one of the host for a container that
// others may join, that of the joined one for a container that joins. Empty: the container has its own.
func (r *Runtime) openShm(s Spec) (string, error) {
	ipc := s.HostConfig.IpcMode
	switch {
	case ipc.IsHost():
		return "/dev/shm", nil
	case ipc.IsShareable():
		return r.makeShm(s)
	case ipc.IsContainer():
		return r.joinedShm(s)
	}
	return "", nil
}

// shmOf is what openShm gave when the specification was made.
func shmOf(s *specs.Spec) string {
	for _, m := range s.Mounts {
		if m.Destination == "/dev/shm" && m.Type == "bind" {
			return m.Source
		}
	}
	return ""
}

func (r *Runtime) shmDir(key Key) string {
	return filepath.Join(r.cfg.State, "shm", string(key.Account), string(key.ID))
}

func (r *Runtime) makeShm(s Spec) (string, error) {
	dir := r.shmDir(s.Key)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	size := s.HostConfig.ShmSize
	if size == 0 {
		size = 64 << 20 // Docker's default
	}
	err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=1777,size=%d,uid=%d,gid=%d", size, s.IDMap.UID, s.IDMap.GID))
	if err != nil {
		return "", errors.Join(fmt.Errorf("mount shared memory of container %s: %w", s.ID, err), os.Remove(dir))
	}
	return dir, nil
}

func (r *Runtime) joinedShm(s Spec) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, t := range r.tasks {
		if t.pid == 0 || t.pid != s.JoinIPC {
			continue
		}
		if t.shm == "" {
			return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
				"can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", key.ID))
		}
		return t.shm, nil
	}
	return "", errdefs.ErrInvalidArgument.WithMessage("cannot join the IPC namespace of a container that is not running")
}

func (r *Runtime) removeShm(key Key) error {
	dir := r.shmDir(key)
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
