package network

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// makeNetns makes a network namespace, mounts it on path, and runs setup in it before. It is made on a thread that
// dies with it, so no other goroutine can ever run there. With an IDMap a new user namespace owns it. A failure leaves
// nothing.
func makeNetns(path string, ids nereid.IDMap, setup func() error) (_ *os.File, retErr error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	mountpoint, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, err
	}
	mountpoint.Close()
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, removeNetns(path))
		}
	}()

	enter := enterNew
	if ids.Mapped() {
		if err := mountOwned(path, ids); err != nil {
			return nil, fmt.Errorf("network namespace %q: %w", path, err)
		}
		enter = enterOwned
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		done <- enter(path, setup)
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("network namespace %q: %w", path, err)
	}
	return os.Open(path)
}

// enterNew runs on a thread of its own.
func enterNew(path string, setup func() error) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := setup(); err != nil {
		return err
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// removeNetns unmounts a namespace and removes its mount point. Not there, or not mounted, is no error. The kernel
// takes the namespace and its links apart once nothing uses it.
func removeNetns(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %q: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// openNetns opens a mounted namespace; a plain file in its place, as a crash may leave one, is fs.ErrNotExist.
func openNetns(path string) (*os.File, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	if st.Type != unix.NSFS_MAGIC {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return os.Open(path)
}

// inNetns runs fn on a thread that is in the namespace. The thread goes back to the one it came from afterwards, or
// dies if it cannot.
func inNetns(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err, clean := visit(ns, fn)
		if clean {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// visit reports whether the thread is where it was before.
func visit(ns *os.File, fn func() error) (err error, clean bool) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err, true
	}
	defer home.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %q: %w", ns.Name(), err), true
	}
	defer func() { clean = unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil }()
	return fn(), false
}

// sysctl sets a value below /proc/sys/net of the calling thread's namespace. One that the kernel does not have (IPv6
// switched off at boot) is no error when optional.
func sysctl(name, value string, optional bool) error {
	path := "/proc/sys/net/" + name
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		if was, readErr := os.ReadFile(path); readErr == nil && string(was) == value+"\n" { // it need not be written
			return nil
		}
		return err
	}
	defer f.Close()
	was := make([]byte, len(value)+2)
	if n, err := f.ReadAt(was, 0); n == len(value)+1 && errors.Is(err, io.EOF) && string(was[:n]) == value+"\n" {
		return nil
	}
	_, err = f.WriteAt([]byte(value), 0)
	return err
}
