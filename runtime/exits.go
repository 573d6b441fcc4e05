package runtime

import (
	"path/filepath"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/trace"
	"github.com/nereid-paas/nereid/runtime/stdio"
)

const (
	// drainTimeout bounds the wait for the rest of a process's output once it ended: a descendant that outlives it, or
	// a client that does not read, may hold the output open for ever. Docker waits as long.
	drainTimeout = 2 * time.Second
	// lostTimeout bounds the wait for containerd to clean up behind a shim that died; it has 5 s for that itself.
	lostTimeout = 15 * time.Second

	codeKilled  = 128 + 9
	codeUnknown = 255 // Docker's for a process that ended unseen
)

// watch follows a container's process to its end and reports it. It is the one way an end is noticed, whether the task
// was created or adopted.
func (r *Runtime) watch(t *task) {
	exit, ok := r.await(t, "")
	if !ok {
		return
	}
	r.conclude(t, exit)
}

// conclude makes an end known: written down, output drained, execs reported first, and then the Handler called.
func (r *Runtime) conclude(t *task, exit Exit) {
	_, span := trace.About(r.life, "output to its end", string(t.ID))
	t.starting.Lock()
	defer t.starting.Unlock() // held: the start has returned, or there was none
	exit.OOMKilled = exit.OOMKilled || r.oomKilled(t)
	if err := writeRecord(filepath.Join(t.dir, exitFile), exit); err != nil {
		r.log.Warn("exit not recorded", zap.String("container", string(t.ID)), zap.Error(err))
	}
	r.awaitDrained(t.io)
	span.End()
	started := t.setExit(exit)
	r.awaitExecs(t)
	if started {
		r.reportExit(t, exit)
	}
}

// await blocks until a process ends; false when the runtime closed before.
func (r *Runtime) await(t *task, execID string) (Exit, bool) {
	resp, err := r.service.Wait(inNamespace(r.life, t.Key), &tasksapi.WaitRequest{ContainerID: string(t.ID), ExecID: execID})
	if r.life.Err() != nil {
		return Exit{}, false
	}
	if err == nil {
		return Exit{Key: t.Key, Code: int(resp.ExitStatus), At: resp.ExitedAt.AsTime()}, true
	}
	return r.awaitLost(t, execID)
}

// awaitLost is for processes whose shim died: containerd kills them and tells so by an event.
func (r *Runtime) awaitLost(t *task, execID string) (Exit, bool) {
	fallback := Exit{Key: t.Key, Code: codeKilled, At: time.Now()}
	if execID != "" {
		return fallback, true
	}
	timeout := time.NewTimer(lostTimeout)
	defer timeout.Stop()
	select {
	case e := <-t.lost:
		return e, true
	case <-timeout.C:
		return fallback, true
	case <-r.life.Done():
		return Exit{}, false
	}
}

// awaitDrained lets the output of an ended process reach the log and the clients.
func (r *Runtime) awaitDrained(io *stdio.IO) {
	timeout := time.NewTimer(drainTimeout)
	defer timeout.Stop()
	select {
	case <-io.Drained():
	case <-timeout.C:
	case <-r.life.Done():
	}
}

// awaitExecs: the shim ends all exec'd processes before the container's own is said to have ended, so their reports are
// under way.
func (r *Runtime) awaitExecs(t *task) {
	for _, e := range t.executions() {
		select {
		case <-e.reported:
		case <-r.life.Done():
			return
		}
	}
}

// reportExit tells the Handler of an end, and of an OOM that no event told of in time.
func (r *Runtime) reportExit(t *task, exit Exit) {
	if exit.OOMKilled && exit.ExecID == "" {
		r.reportOOM(t)
	}
	t.report.Lock()
	defer t.report.Unlock()
	if r.life.Err() != nil {
		return // the next runtime finds the record and reports
	}
	r.handler.Exited(r.life, exit)
}

// reportOOM tells the Handler once per run, also over restarts of this process.
func (r *Runtime) reportOOM(t *task) {
	t.mu.Lock()
	told := t.oom
	t.oom = true
	t.mu.Unlock()
	if told || r.life.Err() != nil {
		return
	}
	if err := mark(t.dir, oomFile); err != nil {
		r.log.Warn("OOM not recorded", zap.String("container", string(t.ID)), zap.Error(err))
	}
	t.report.Lock()
	defer t.report.Unlock()
	r.handler.OOM(r.life, t.Key)
}
