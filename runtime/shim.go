package runtime

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerdshim "github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// bootstrapFile of a bundle is where containerd writes down where its shim listens.
const bootstrapFile = "bootstrap.json"

// shim is a connection to a shim of the embedded containerd beside containerd's own.
type shim struct {
	ttrpc *ttrpc.Client
	tasks taskapi.TTRPCTaskService
	id    string
}

func bundleDir(state string, key Key) string {
	return filepath.Join(state, "io.containerd.runtime.v2.task", string(key.Account), string(key.ID))
}

// dialShim connects to the shim of a bundle.
func dialShim(ctx context.Context, bundle string, key Key) (*shim, error) {
	var params struct {
		Address string `json:"address"`
	}
	if err := readRecord(filepath.Join(bundle, bootstrapFile), &params); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: shimTimeout}
	conn, err := dialer.DialContext(ctx, "unix", strings.TrimPrefix(params.Address, "unix://"))
	if err != nil {
		return nil, err
	}
	client := ttrpc.NewClient(conn)
	return &shim{ttrpc: client, tasks: taskapi.NewTTRPCTaskClient(client), id: string(key.ID)}, nil
}

// hangUp ends the connection; the shim goes on.
func (s *shim) hangUp() { _ = s.ttrpc.Close() } // closes a socket that nothing is buffered for

// delete removes the container in the shim. One the shim does not know is no error.
func (s *shim) delete(ctx context.Context) error {
	_, err := s.tasks.Delete(ctx, &taskapi.DeleteRequest{ID: s.id})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

func (s *shim) shutdown(ctx context.Context) error {
	_, err := s.tasks.Shutdown(ctx, &taskapi.ShutdownRequest{ID: s.id})
	if errors.Is(err, ttrpc.ErrClosed) {
		return nil // gone before it could say so
	}
	return errgrpc.ToNative(err)
}

// hiddenBundle is where a bundle is moved when its shim is about to be shut down.
func hiddenBundle(state string, key Key) string {
	dir, id := filepath.Split(bundleDir(state, key))
	return filepath.Join(dir, "."+id)
}

// retireShim deletes the container in the shim and moves the bundle away. Containerd, whenever a shim goes, runs the shim's
// binary once more to clean up behind it, and that runs runc once more: nearly half of what a delete takes, for
// nothing when the shim has just done it. Without a bundle the attempt ends at once.
func (r *Runtime) retireShim(ctx context.Context, key Key) error {
	bundle := bundleDir(r.cfg.State, key)
	s, err := dialShim(ctx, bundle, key)
	if err != nil {
		return nil // no shim to ask: containerd cleans up in its own way
	}
	defer s.hangUp()
	if err := s.delete(namespaces.WithNamespace(ctx, string(key.Account))); err != nil {
		return err
	}
	hidden := hiddenBundle(r.cfg.State, key)
	if err := os.RemoveAll(hidden); err != nil { // containerd hides bundles there too while it removes them
		return err
	}
	return os.Rename(bundle, hidden)
}

// removeBundle removes what retireShim moved away; a shim that lost its containerd in between is shut down first.
func (r *Runtime) removeBundle(key Key) error {
	hidden := hiddenBundle(r.cfg.State, key)
	if _, err := os.Stat(hidden); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(r.life, string(key.Account)), shimTimeout)
	defer cancel()
	if s, err := dialShim(ctx, hidden, key); err == nil {
		defer s.hangUp()
		if err := s.shutdown(ctx); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(hidden), os.RemoveAll(bundleDir(r.cfg.Root, key)))
}

// socketOf is where the embedded containerd has a container's shim listen.
func (r *Runtime) socketOf(key Key) (string, error) {
	ctx := namespaces.WithNamespace(context.Background(), string(key.Account))
	address, err := containerdshim.CreateSocketAddress(ctx, socketDir(r.cfg.State), grpcAddress(r.cfg.State), string(key.ID), false)
	return strings.TrimPrefix(address, "unix://"), err
}

// removeSocket removes the socket of a shim that is gone: one that was killed, or whose bundle went first, leaves it.
func (r *Runtime) removeSocket(key Key) error {
	path, err := r.socketOf(key)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// sweepSockets removes the sockets of no task.
func (r *Runtime) sweepSockets(keys []Key) error {
	dir := socketDir(r.cfg.State)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	known := map[string]bool{}
	for _, key := range keys {
		path, err := r.socketOf(key)
		if err != nil {
			return err
		}
		known[filepath.Base(path)] = true
	}
	var errs []error
	for _, e := range entries {
		if !known[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// sweepBundles removes the hidden bundles of no task: a removal was cut off.
func (r *Runtime) sweepBundles(keys []Key) error {
	hidden, err := filepath.Glob(hiddenBundle(r.cfg.State, Key{Account: "*", ID: "*"}))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range hidden {
		dir, name := filepath.Split(path)
		key := Key{Account: nereid.Account(filepath.Base(dir)), ID: nereid.ContainerID(strings.TrimPrefix(name, "."))}
		if !slices.Contains(keys, key) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// recordedExit is what a shim wrote down of its container's end before it died itself.
func recordedExit(bundle string, key Key) (Exit, error) {
	var e struct {
		Timestamp time.Time
		Pid       int
		Status    int
	}
	if err := readRecord(filepath.Join(bundle, "exit.json"), &e); err != nil {
		return Exit{}, err
	}
	return Exit{Key: key, Code: e.Status, At: e.Timestamp}, nil
}
