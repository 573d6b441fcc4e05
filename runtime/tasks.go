package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/pkg/trace"
	"github.com/nereid-paas/nereid/runtime/spec"
)

const runtimeName = "io.containerd.runc.v2"

// ownerLabel marks the containerd containers of one data root, so that a containerd shared with others is left alone.
const ownerLabel = "nereid.root"

// CreateTask makes the shim and the process up to the point where only its start is missing, and opens its stdio.
// The spec's network namespace must exist. The root file system must be Prepared. A failure leaves nothing but the root
// file system; it carries runc's words behind Docker's prefix. A task that is there already is errdefs.ErrAlreadyExists.
func (r *Runtime) CreateTask(ctx context.Context, s Spec) (pid int, retErr error) {
	ctx, span := trace.Start(inNamespace(ctx, s.Key), "task")
	defer span.End()
	t, err := r.reserve(s)
	if err != nil {
		return 0, err
	}
	defer func() {
		if retErr != nil {
			ctx, cancel := cleanupContext(ctx)
			defer cancel()
			retErr = errors.Join(retErr, r.discard(ctx, t))
		}
	}()
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return 0, err
	}
	if err := writeRecord(filepath.Join(t.dir, specFile), s); err != nil {
		return 0, err
	}
	if err := r.openStdio(t, logs.OpenFor); err != nil {
		return 0, fmt.Errorf("failed to create task for container: %w", err)
	}
	if err := r.admit(ctx, t); err != nil {
		return 0, err
	}
	userns, err := openUserns(s)
	if err != nil {
		return 0, &SpecError{err}
	}
	defer func() { _ = userns.Close() }() // nil is no file, and closing it says no more than that
	ociSpec, err := r.bundle(ctx, t, pathOf(userns))
	if err != nil {
		return 0, &SpecError{err}
	}
	if err := r.createContainer(ctx, t, ociSpec); err != nil {
		return 0, err
	}
	if err := r.createProcess(ctx, t); err != nil {
		return 0, fmt.Errorf("failed to create task for container: %w", err)
	}
	r.work.Go(func() { r.watch(t) })
	return t.pid, nil
}

func (r *Runtime) reserve(s Spec) (*task, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, there := r.tasks[s.Key]; there {
		return nil, errdefs.ErrAlreadyExists.WithMessage("container " + string(s.ID) + " has a task")
	}
	t := newTask(s, r.taskDir(s.Key))
	r.tasks[s.Key] = t
	return t, nil
}

// bundle mounts the root file system and makes the specification over it.
func (r *Runtime) bundle(ctx context.Context, t *task, userns string) (*specs.Spec, error) {
	ctx, span := trace.Start(ctx, "bundle")
	defer span.End()
	s := t.spec
	rootfs, err := r.rootfs.hold(ctx, s.Key)
	if err != nil {
		return nil, err
	}
	who, err := spec.ResolveUser(rootfs, s.Config.User, s.HostConfig.GroupAdd)
	if err != nil {
		return nil, err
	}
	if err := Furnish(rootfs, s.Config.WorkingDir, s.IDMap); err != nil {
		return nil, err
	}
	shm, err := r.openShm(s)
	if err != nil {
		return nil, err
	}
	out, err := spec.Build(spec.Input{
		ID: string(s.ID), Path: s.Path, Args: s.Args, Config: s.Config, HostConfig: s.HostConfig, Hostname: s.Hostname, LinkEnv: s.LinkEnv,
		Rootfs: rootfs, User: who, Mounts: s.Mounts, Netns: s.Netns, Userns: userns,
		JoinPID: s.JoinPID, JoinIPC: s.JoinIPC, JoinUTS: s.JoinUTS, ShmPath: shm,
		CgroupParent: r.cfg.CgroupParent, InitPath: r.cfg.Init, OwnRoots: []string{r.cfg.Root, r.cfg.State}, Host: r.host,
	})
	if err != nil {
		return nil, err
	}
	t.remember(out)
	return out, nil
}

func (r *Runtime) createContainer(ctx context.Context, t *task, s *specs.Spec) error {
	ctx, span := trace.Start(ctx, "container record")
	defer span.End()
	encoded, err := typeurl.MarshalAnyToProto(s)
	if err != nil {
		return err
	}
	opts, err := typeurl.MarshalAnyToProto(r.runcOptions(t.spec))
	if err != nil {
		return err
	}
	labels := map[string]string{ownerLabel: r.cfg.Root}
	for k, v := range t.spec.Labels {
		labels[k] = v
	}
	_, err = r.client.ContainerService().Create(ctx, containers.Container{
		ID: string(t.ID), Labels: labels, Spec: encoded,
		Runtime:     containers.RuntimeInfo{Name: runtimeName, Options: opts},
		Snapshotter: snapshotter, SnapshotKey: string(t.ID),
	})
	return err
}

func (r *Runtime) createProcess(ctx context.Context, t *task) error {
	ctx, span := trace.Start(ctx, "shim and runc create")
	defer span.End()
	stdin, stdout, stderr := t.io.Paths()
	resp, err := r.service.Create(ctx, &tasksapi.CreateTaskRequest{
		ContainerID: string(t.ID), Stdin: stdin, Stdout: stdout, Stderr: stderr,
		Terminal: t.spec.Config.Tty, RuntimePath: r.cfg.Shim,
	})
	if err != nil {
		return native(err)
	}
	t.mu.Lock()
	t.pid = int(resp.Pid)
	t.mu.Unlock()
	t.io.Started() // the shim has opened its ends
	if t.size != nil {
		return r.resize(ctx, t.Key, "", t.size[0], t.size[1])
	}
	return nil
}

// native makes an errdefs class of what containerd says, without the words the class would add.
func native(err error) error { return errgrpc.ToNative(err) }

// StartTask lets the created process run. A failure (command not found …) carries runc's words; the caller then calls
// DeleteTask.
func (r *Runtime) StartTask(ctx context.Context, key Key) error {
	ctx, span := trace.Start(ctx, "runc start")
	defer span.End()
	t, err := r.task(key)
	if err != nil {
		return err
	}
	t.starting.Lock()
	defer t.starting.Unlock()
	if err := mark(t.dir, startedFile); err != nil {
		return err
	}
	if _, err := r.service.Start(inNamespace(ctx, key), &tasksapi.StartRequest{ContainerID: string(key.ID)}); err != nil {
		return errors.Join(native(err), os.Remove(filepath.Join(t.dir, startedFile)))
	}
	t.mu.Lock()
	t.started = true
	t.mu.Unlock()
	return nil
}

// Kill sends a signal to the container's process. One without a task is errdefs.ErrNotFound, one that ended
// errdefs.ErrFailedPrecondition.
func (r *Runtime) Kill(ctx context.Context, key Key, signal int) error {
	if _, err := r.live(key); err != nil {
		return err
	}
	_, err := r.service.Kill(inNamespace(ctx, key), &tasksapi.KillRequest{ContainerID: string(key.ID), Signal: uint32(signal)})
	if err = native(err); errdefs.IsNotFound(err) {
		return errNotRunning(key)
	}
	return err
}

// Pause freezes all processes of the container.
func (r *Runtime) Pause(ctx context.Context, key Key) error {
	t, err := r.live(key)
	if err != nil {
		return err
	}
	if _, err := r.service.Pause(inNamespace(ctx, key), &tasksapi.PauseTaskRequest{ContainerID: string(key.ID)}); err != nil {
		return native(err)
	}
	t.setPaused(true)
	return nil
}

// Resume undoes Pause.
func (r *Runtime) Resume(ctx context.Context, key Key) error {
	t, err := r.live(key)
	if err != nil {
		return err
	}
	if _, err := r.service.Resume(inNamespace(ctx, key), &tasksapi.ResumeTaskRequest{ContainerID: string(key.ID)}); err != nil {
		return native(err)
	}
	t.setPaused(false)
	return nil
}

func (t *task) setPaused(paused bool) {
	t.mu.Lock()
	t.paused = paused
	t.mu.Unlock()
}

// Resize sets the size of the container's terminal. Where the task is not there yet but a client waits for it, the size
// is kept for it.
func (r *Runtime) Resize(ctx context.Context, key Key, height, width uint32) error {
	if r.rememberSize(key, height, width) {
		return nil
	}
	if _, err := r.live(key); err != nil {
		return err
	}
	return r.resize(inNamespace(ctx, key), key, "", height, width)
}

func (r *Runtime) resize(ctx context.Context, key Key, execID string, height, width uint32) error {
	_, err := r.service.ResizePty(ctx, &tasksapi.ResizePtyRequest{
		ContainerID: string(key.ID), ExecID: execID, Height: height, Width: width,
	})
	return native(err)
}

// Update applies resource limits to a running container; zero values change nothing.
func (r *Runtime) Update(ctx context.Context, key Key, res container.Resources) error {
	if _, err := r.live(key); err != nil {
		return err
	}
	limits, err := spec.Resources(res)
	if err != nil {
		return err
	}
	encoded, err := typeurl.MarshalAnyToProto(limits)
	if err != nil {
		return err
	}
	_, err = r.service.Update(inNamespace(ctx, key), &tasksapi.UpdateTaskRequest{ContainerID: string(key.ID), Resources: encoded})
	return native(err)
}

// Tasks are those that exist now, ended ones not yet deleted among them, as found or adopted at start.
func (r *Runtime) Tasks(context.Context) (map[Key]Task, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[Key]Task, len(r.tasks))
	for key, t := range r.tasks {
		out[key] = t.state()
	}
	return out, nil
}

// Pids of all processes in the container, as the host numbers them.
func (r *Runtime) Pids(ctx context.Context, key Key) ([]int, error) {
	if _, err := r.live(key); err != nil {
		return nil, err
	}
	resp, err := r.service.ListPids(inNamespace(ctx, key), &tasksapi.ListPidsRequest{ContainerID: string(key.ID)})
	if err != nil {
		return nil, native(err)
	}
	pids := make([]int, len(resp.Processes))
	for i, p := range resp.Processes {
		pids[i] = int(p.Pid)
	}
	return pids, nil
}

// DeleteTask removes what is left of an ended (or only created) task: shim, FIFOs, cgroup; a process that still lives is
// killed. Not found is no error.
func (r *Runtime) DeleteTask(ctx context.Context, key Key) error {
	ctx, span := trace.Start(ctx, "delete task")
	defer span.End()
	t, err := r.task(key)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.discard(inNamespace(ctx, key), t)
}

// discard removes all there is of a task, in whatever state. What fails is left for the next call.
func (r *Runtime) discard(ctx context.Context, t *task) error {
	if t.pid != 0 && t.ended() == nil {
		if err := r.killAll(ctx, t); err != nil {
			return err
		}
	}
	// The processes are gone: unmounting, which waits for the disk, need not wait for the shim.
	var g errgroup.Group
	g.Go(func() error {
		_, span := trace.Start(ctx, "unmount")
		defer span.End()
		return errors.Join(r.rootfs.release(t.Key), r.removeShm(t.Key))
	})
	g.Go(func() error { return r.deleteProcess(ctx, t) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := r.closeStdio(t); err != nil {
		return err
	}
	if err := removeRecord(t.dir); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tasks, t.Key)
	return nil
}

// killTimeout bounds how long a process may take to die of SIGKILL: one that hangs in the kernel is an error, not a hung
// request.
const killTimeout = 10 * time.Second

func (r *Runtime) deleteProcess(ctx context.Context, t *task) error {
	if r.embedded != nil {
		if err := trace.Do(ctx, "runc delete", func(ctx context.Context) error { return r.retireShim(ctx, t.Key) }); err != nil {
			return fmt.Errorf("delete task of container %s: %w", t.ID, err)
		}
	}
	if err := trace.Do(ctx, "shim delete", func(ctx context.Context) error { return r.deleteInContainerd(ctx, t) }); err != nil {
		return fmt.Errorf("delete task of container %s: %w", t.ID, err)
	}
	if r.embedded != nil {
		if t.pid == 0 { // given up while its shim was started, maybe before anybody was told where that listens
			if err := r.endProcesses(ctx, func(p shimProcess) bool { return p.Key == t.Key && !r.reachable(p.Key) }); err != nil {
				return fmt.Errorf("delete task of container %s: %w", t.ID, err)
			}
		}
		if err := errors.Join(r.removeBundle(t.Key), r.removeSocket(t.Key)); err != nil {
			return fmt.Errorf("delete task of container %s: %w", t.ID, err)
		}
	}
	if err := r.purge(ctx, t.Key, t.cgroup); err != nil {
		return fmt.Errorf("delete task of container %s: %w", t.ID, err)
	}
	if err := r.client.ContainerService().Delete(ctx, string(t.ID)); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

const (
	// forgetTimeout bounds the wait for containerd to forget a task whose shim died: it tells of the end, by which a
	// client may already ask for the delete, a moment before that.
	forgetTimeout = 3 * time.Second
	forgetPause   = 20 * time.Millisecond
)

func (r *Runtime) deleteInContainerd(ctx context.Context, t *task) error {
	deadline := time.Now().Add(forgetTimeout)
	for {
		_, err := r.service.Delete(ctx, &tasksapi.DeleteTaskRequest{ContainerID: string(t.ID)})
		if err = native(err); err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(forgetPause):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func (r *Runtime) killAll(ctx context.Context, t *task) error {
	_, err := r.service.Kill(ctx, &tasksapi.KillRequest{ContainerID: string(t.ID), Signal: uint32(unix.SIGKILL), All: true})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	select {
	case <-t.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("container %s does not die: %w", t.ID, ctx.Err())
	}
}
