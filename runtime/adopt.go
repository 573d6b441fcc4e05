package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	containersapi "github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime/spec"
)

// survivor is a task that an earlier runtime left, as it was found before containerd looks after it again.
type survivor struct {
	*task
	last Exit // if no shim knows better
}

// surveyLimit of tasks looked at side by side: each opens a log and FIFOs.
const surveyLimit = 16

// survey opens the stdio of the tasks that an earlier runtime left, and ends the shims of none. It comes before containerd boots, which cleans up
// behind the shims that are dead: unread output and what tells of their end would be gone.
func (r *Runtime) survey(ctx context.Context) ([]*survivor, error) {
	keys, err := r.recordedKeys()
	if err != nil {
		return nil, err
	}
	if r.cfg.Address == "" {
		if err := errors.Join(r.endStrayShims(ctx, keys), r.sweepBundles(keys), r.sweepSockets(keys)); err != nil {
			return nil, err
		}
	}
	found := make([]*survivor, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(surveyLimit)
	for i, key := range keys {
		g.Go(func() (err error) {
			found[i], err = r.surveyTask(ctx, key)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return found, nil
}

func (r *Runtime) surveyTask(ctx context.Context, key Key) (*survivor, error) {
	dir := r.taskDir(key)
	var s Spec
	if err := readRecord(filepath.Join(dir, specFile), &s); err != nil {
		// The runtime died before the record was whole: there was nothing else yet.
		r.log.Warn("task without a record", zap.String("container", string(key.ID)), zap.Error(err))
		t := newTask(Spec{Key: key}, dir)
		return &survivor{task: t}, nil
	}
	v := &survivor{task: newTask(s, dir)}
	v.cgroup = spec.CgroupsPath(string(key.ID), s.HostConfig, r.cfg.CgroupParent)
	v.started, v.oom = marked(dir, startedFile), marked(dir, oomFile)
	r.readBundle(v)
	v.last = r.lastExit(v.task)
	if err := r.openStdio(v.task, logs.Reopen); err != nil {
		return nil, fmt.Errorf("container %s: %w", key.ID, err)
	}
	if err := r.surveyExecs(v); err != nil {
		return nil, fmt.Errorf("container %s: %w", key.ID, err)
	}
	return v, nil
}

// lastExit is what is written of a task's end: by a runtime that did not see it through, by its shim, or nothing. A shim
// that is dead without a word takes its container along; of one without a bundle all is lost, and the code is Docker's
// for that.
func (r *Runtime) lastExit(t *task) Exit {
	bundle := bundleDir(r.cfg.State, t.Key)
	unseen := Exit{Key: t.Key, Code: codeUnknown, At: time.Now()}
	var e Exit
	if err := readRecord(filepath.Join(t.dir, exitFile), &e); err == nil {
		return e
	}
	e, err := recordedExit(bundle, t.Key)
	if err != nil {
		e = unseen
		if _, err := os.Stat(bundle); err == nil {
			e.Code = codeKilled
		}
	}
	e.OOMKilled = t.cgroup != "" && oomKills(r.host.Unified, t.cgroup) > 0
	return e
}

// readBundle takes the specification from the embedded containerd's bundle, which is gone when the shim is.
func (r *Runtime) readBundle(v *survivor) {
	data, err := os.ReadFile(filepath.Join(bundleDir(r.cfg.State, v.Key), "config.json"))
	if err == nil {
		v.recall(data)
	}
}

// recall takes what is needed of a specification; false when it is not one.
func (t *task) recall(data []byte) bool {
	var s specs.Spec
	if json.Unmarshal(data, &s) != nil || s.Process == nil || s.Linux == nil {
		return false
	}
	t.remember(&s)
	return true
}

// recallContainer takes the specification from containerd.
func (r *Runtime) recallContainer(ctx context.Context, t *task) error {
	c, err := r.client.ContainerService().Get(ctx, string(t.ID))
	if err != nil {
		return err
	}
	if c.Spec == nil || !t.recall(c.Spec.GetValue()) {
		return fmt.Errorf("containerd's container has no specification: %w", errdefs.ErrDataLoss)
	}
	return nil
}

// surveyExecs opens the stdio of the exec'd processes.
func (r *Runtime) surveyExecs(v *survivor) error {
	ids, err := r.recordedExecs(v.Key)
	if err != nil {
		return err
	}
	for _, id := range ids {
		e := &execution{id: id, dir: r.execDir(v.Key, id), reported: make(chan struct{})}
		if err := readRecord(filepath.Join(e.dir, execFile), &e.process); err != nil {
			if err := os.RemoveAll(e.dir); err != nil { // not whole: nothing was started
				return err
			}
			continue
		}
		if err := r.openExecIO(v.task, e); err != nil {
			return err
		}
		e.io.Started()
		v.execs[id] = e
	}
	return nil
}

// adopt goes on with what survey found, now that containerd runs. What had no task yet is removed.
func (r *Runtime) adopt(ctx context.Context, found []*survivor) error {
	r.mu.Lock()
	for _, v := range found {
		r.tasks[v.Key] = v.task
	}
	r.mu.Unlock()
	if err := r.clearStage(); err != nil {
		return err
	}
	if err := r.rootfs.adopt(r.tasks); err != nil {
		return fmt.Errorf("mounts left behind: %w", err)
	}
	for _, v := range found {
		if err := r.adoptTask(ctx, v); err != nil {
			return fmt.Errorf("adopt container %s: %w", v.ID, err)
		}
	}
	return errors.Join(r.removeStrangers(ctx), r.purgeStrangers(ctx))
}

func (r *Runtime) adoptTask(ctx context.Context, v *survivor) error {
	ctx = inNamespace(ctx, v.Key)
	if v.io == nil {
		return r.discard(ctx, v.task)
	}
	v.io.Started()
	resp, err := r.service.Get(ctx, &tasksapi.GetRequest{ContainerID: string(v.ID)})
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err == nil && v.process == nil {
		if err := r.recallContainer(ctx, v.task); err != nil {
			return err
		}
	}
	if err == nil {
		p := resp.Process
		v.mu.Lock() // events of its end may come already
		v.pid, v.paused = int(p.Pid), p.Status == tasktypes.Status_PAUSED
		v.mu.Unlock()
		// The runtime may have died between the start and its mark, or between the mark and the start.
		v.started = p.Status == tasktypes.Status_RUNNING || p.Status == tasktypes.Status_PAUSED || v.started && p.Status == tasktypes.Status_STOPPED
		r.followAgain(v.task)
		return nil
	}
	if !v.started {
		return r.discard(ctx, v.task)
	}
	r.bury(v)
	return nil
}

// followAgain watches a task that containerd still has, ended or not.
func (r *Runtime) followAgain(t *task) {
	for _, e := range t.executions() {
		r.work.Go(func() { r.watchExec(t, e) })
	}
	r.work.Go(func() { r.watch(t) })
}

// bury reports the end of a task that containerd knows no more.
func (r *Runtime) bury(v *survivor) {
	for _, e := range v.executions() {
		r.work.Go(func() { r.concludeExec(v.task, e, Exit{Key: v.Key, Code: codeKilled, At: v.last.At}) })
	}
	r.work.Go(func() { r.conclude(v.task, v.last) })
}

// removeStrangers deletes containerd's containers of ours that have no task: a reboot empties State but not Root.
func (r *Runtime) removeStrangers(ctx context.Context) error {
	spaces, err := r.client.NamespaceService().List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, ns := range spaces {
		ctx := namespaces.WithNamespace(ctx, ns)
		list, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q==%q", ownerLabel, r.cfg.Root))
		if err != nil {
			return err
		}
		for _, c := range list {
			errs = append(errs, r.removeStranger(ctx, ns, c))
		}
	}
	return errors.Join(errs...)
}

func (r *Runtime) removeStranger(ctx context.Context, ns string, c containersapi.Container) error {
	if _, err := r.task(Key{Account: nereid.Account(ns), ID: nereid.ContainerID(c.ID)}); err == nil {
		return nil
	}
	if err := r.client.ContainerService().Delete(ctx, c.ID); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}
