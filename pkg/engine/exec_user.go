package engine

import (
	"fmt"
	"io"
	"os"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

// checkExecUser tells at create, as Docker does, that a container has no such user or group.
func checkExecUser(r *state.Container, name string) error {
	if name == "" || r.State.Pid == 0 {
		return nil
	}
	passwd := openInContainer(r.State.Pid, "/etc/passwd")
	defer passwd.Close()
	group := openInContainer(r.State.Pid, "/etc/group")
	defer group.Close()
	_, err := user.GetExecUser(name, nil, passwd, group)
	return err
}

// openInContainer opens a regular file as the container's process sees it: no link in the container leads out of it,
// and nothing in it can hold us up. A file that cannot be opened is empty, as it is for Docker.
func openInContainer(pid int, path string) io.ReadCloser {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return emptyFile{}
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return emptyFile{}
	}
	f := os.NewFile(uintptr(fd), path)
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return emptyFile{}
	}
	return f
}

type emptyFile struct{}

func (emptyFile) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyFile) Close() error             { return nil }
