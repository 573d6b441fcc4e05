package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	goruntime "runtime"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// fsView is a container's file system as its processes see it, with its volumes and binds, whether it runs or not. It
// is the root directory of one thread, in a mount namespace of its own: nothing done there, by whatever links the
// container has laid, reaches beyond.
type fsView struct {
	todo    chan func()   // closed by close
	ended   chan struct{} // closed by the thread
	release func() error
}

// openFS makes a view. Without mounts it is the root file system alone.
func (c *Containers) openFS(ctx context.Context, r *state.Container, withMounts bool) (_ *fsView, retErr error) {
	dir, unmount, err := c.Runtime.Mount(ctx, keyOf(r))
	if errdefs.IsNotFound(err) {
		return nil, errNoSuchContainer(string(r.ID)) // another removed it meanwhile
	}
	if err != nil {
		return nil, err
	}
	who := c.volumes.holds.another("view of " + string(r.ID))
	release := func() error {
		ctx, cancel := work(ctx)
		defer cancel()
		c.volumes.LetGo(ctx, who)
		return unmount()
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, release())
		}
	}()
	if r.Starts == 0 { // the first start makes them else
		if err := runtime.Furnish(dir, r.Config.WorkingDir, idMapOf(r)); err != nil {
			return nil, err
		}
	}
	var mounts []runtime.Mount
	if withMounts {
		var sources func()
		if mounts, sources, err = c.volumes.RuntimeMounts(ctx, r, who); err != nil {
			return nil, err
		}
		defer sources()
		mounts = append(mounts, existing(c.networks.EtcMounts(r))...)
	}
	return newFSView(dir, mounts, release)
}

// newFSView has a thread enter a directory with its mounts. Release is called when the view is closed.
func newFSView(dir string, mounts []runtime.Mount, release func() error) (*fsView, error) {
	v := &fsView{todo: make(chan func()), ended: make(chan struct{}), release: release}
	entered := make(chan error)
	go v.serve(dir, mounts, entered)
	return v, <-entered
}

// existing are the mounts whose sources are there: a container that has never been started has no /etc files yet.
func existing(mounts []runtime.Mount) []runtime.Mount {
	return slices.DeleteFunc(mounts, func(m runtime.Mount) bool {
		_, err := os.Lstat(m.Source)
		return err != nil
	})
}

// serve is the view's thread. It is never unlocked: the thread ends with the goroutine, and the namespace with it.
func (v *fsView) serve(dir string, mounts []runtime.Mount, entered chan<- error) {
	defer close(v.ended)
	goruntime.LockOSThread()
	err := enter(dir, mounts)
	entered <- err
	if err != nil {
		return
	}
	for do := range v.todo {
		do()
	}
}

// run does something in the view and waits for it. What it does must stay on its goroutine.
func (v *fsView) run(do func() error) error {
	done := make(chan error, 1)
	v.todo <- func() { done <- do() }
	return <-done
}

// close ends the view, when what runs in it has ended.
func (v *fsView) close() error {
	close(v.todo)
	<-v.ended
	return v.release()
}

// enter makes a directory with its mounts the calling thread's root, out of everybody's sight.
func enter(dir string, mounts []runtime.Mount) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	trees, err := openTrees(mounts)
	defer closeTrees(trees)
	if err != nil {
		return err
	}
	if err := unix.Chroot(dir); err != nil {
		return fmt.Errorf("chroot to %q: %w", dir, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	for _, t := range trees {
		if err := t.attach(); err != nil {
			return fmt.Errorf("mount at %q: %w", t.at, err)
		}
	}
	return nil
}

// tree is a bind mount that is not attached anywhere yet.
type tree struct {
	fd       int
	at       string
	dir      bool
	readOnly bool
}

// openTrees takes hold of the mounts' sources while they can be seen. A tmpfs lives with its container's processes and
// is not part of the view, as it is not of Docker's.
func openTrees(mounts []runtime.Mount) ([]tree, error) {
	var trees []tree
	for _, m := range mounts {
		if m.Type != "bind" {
			continue
		}
		st, err := os.Stat(m.Source)
		if err != nil {
			return trees, err
		}
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if m.Recursive {
			flags |= unix.AT_RECURSIVE
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
		if err != nil {
			return trees, fmt.Errorf("bind %q: %w", m.Source, err)
		}
		trees = append(trees, tree{fd: fd, at: m.Destination, dir: st.IsDir(), readOnly: m.ReadOnly})
	}
	return trees, nil
}

func closeTrees(trees []tree) {
	for _, t := range trees {
		_ = unix.Close(t.fd)
	}
}

// attach mounts the tree at its place, which is made when the container has never run.
func (t tree) attach() error {
	if err := t.makePlace(); err != nil {
		return err
	}
	attr := &unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if t.readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(t.fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
		return err
	}
	return unix.MoveMount(t.fd, "", unix.AT_FDCWD, t.at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func (t tree) makePlace() error {
	if _, err := os.Stat(t.at); err == nil {
		return nil
	}
	if t.dir {
		return os.MkdirAll(t.at, 0o755)
	}
	if err := os.MkdirAll(path.Dir(t.at), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(t.at, os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	return f.Close()
}
