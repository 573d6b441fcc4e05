package runtime

import (
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime/stdio"
)

// task is one container's process and what belongs to it, from CreateTask or adoption to DeleteTask.
type task struct {
	Key
	dir     string
	spec    Spec
	process *specs.Process // the container's own, which execs derive from
	cgroup  string         // path in the hierarchy
	shm     string         // directory of the host at /dev/shm; empty: not shared
	pid     int
	io      *stdio.IO
	log     logs.Writer // nil: none
	size    *[2]uint32  // of the terminal, asked for before there was one

	// report is held while the Handler is called, so that calls come one after another.
	report sync.Mutex
	// starting is held while the start is under way: the end of a process waits for what its start has to say.
	starting sync.Mutex

	mu      sync.Mutex
	started bool
	paused  bool
	oom     bool // the Handler was told
	exit    *Exit
	execs   map[nereid.ExecID]*execution

	exited chan struct{} // closed by the watcher once exit is set
	lost   chan Exit     // room for one: the end of a process whose shim died, told by an event
}

func newTask(s Spec, dir string) *task {
	return &task{
		Key: s.Key, dir: dir, spec: s, execs: map[nereid.ExecID]*execution{},
		exited: make(chan struct{}), lost: make(chan Exit, 1),
	}
}

// detach closes what this process holds of a task and leaves the task alone.
func (t *task) detach() error {
	for _, e := range t.executions() {
		e.io.Detach()
	}
	if t.io != nil {
		t.io.Detach()
	}
	if t.log == nil {
		return nil
	}
	return t.log.Close()
}

// executions are those of now.
func (t *task) executions() []*execution {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.execs))
}

func (t *task) ended() *Exit {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.exit
}

func (t *task) state() Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Task{Pid: t.pid, Status: StatusCreated, Exit: t.exit}
	switch {
	case t.exit != nil:
		s.Status, s.Pid = StatusStopped, 0
	case t.paused:
		s.Status = StatusPaused
	case t.started:
		s.Status = StatusRunning
	}
	return s
}

// setExit is called once, by the watcher. It tells whether the process was ever let run.
func (t *task) setExit(e Exit) (started bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exit = &e
	t.paused = false
	close(t.exited)
	return t.started
}

// remember keeps what is needed of the specification later on.
func (t *task) remember(s *specs.Spec) {
	t.process, t.cgroup, t.shm = s.Process, path.Clean(s.Linux.CgroupsPath), shmOf(s)
}

// task returns what is known under a key.
func (r *Runtime) task(key Key) (*task, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tasks[key]
	if !ok {
		return nil, errNoTask(key)
	}
	return t, nil
}

// live is task, of which the process has not ended.
func (r *Runtime) live(key Key) (*task, error) {
	t, err := r.task(key)
	if err != nil {
		return nil, err
	}
	if t.ended() != nil {
		return nil, errNotRunning(key)
	}
	return t, nil
}

func errNoTask(key Key) error {
	return errdefs.ErrNotFound.WithMessage("container " + string(key.ID) + " has no task")
}

func errNotRunning(key Key) error {
	return errdefs.ErrFailedPrecondition.WithMessage("container " + string(key.ID) + " is not running")
}
