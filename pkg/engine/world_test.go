package engine

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
	"github.com/nereid-paas/nereid/runtime"
	runtimespec "github.com/nereid-paas/nereid/runtime/spec"
)

// world is a host that outlives daemons: tasks, root file systems, network namespaces, volumes. It complains about calls
// that break a room's contract.
type world struct {
	t   *testing.T
	dir string // of whatever is asked for

	mu      sync.Mutex
	tasks   map[runtime.Key]*fakeTask
	rootfs  map[runtime.Key]bool
	netns   map[nereid.ContainerID]*fakeNetns
	volumes map[string]bool
	mounted map[string]bool // volumes whose devices are mounted
	pid     int
	// run, when set, says what an exec'd process writes and how it ends: negative, only when it is killed.
	run func(p runtime.Process) (out string, code int)
	log map[runtime.Key][]string
}

type fakeTask struct {
	spec   runtime.Spec
	pid    int
	status string
	exit   *runtime.Exit
	ended  chan struct{} // closed when the process has ended
	execs  map[nereid.ExecID]runtime.Process
	// kills are the signals sent; one that is in dies ends the process.
	kills []int
	dies  map[int]bool
	// dying: the process has ended, and the runtime has not come to say so.
	dying bool
}

type fakeNetns struct {
	attached, published bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{
		t: t, dir: t.TempDir(), tasks: map[runtime.Key]*fakeTask{}, rootfs: map[runtime.Key]bool{}, pid: 4_000_000,
		netns: map[nereid.ContainerID]*fakeNetns{}, volumes: map[string]bool{}, mounted: map[string]bool{}, log: map[runtime.Key][]string{},
	}
}

// daemon is one daemon's access to the world. A daemon that died does nothing any more: its calls never return.
type daemon struct {
	w       *world
	handler runtime.Handler
	dead    chan struct{}  // closed: every call hangs
	telling sync.WaitGroup // what the handler is being told

	mu   sync.Mutex
	fail map[string]error // by method
	// step is called before and after each call that changes the world, when set. It returns true to die there.
	step func(call, when string) bool
}

func newDaemon(w *world) *daemon {
	return &daemon{w: w, dead: make(chan struct{}), fail: map[string]error{}}
}

func (d *daemon) die() { close(d.dead) }

func (d *daemon) failOn(call string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[call] = err
}

// do is one call: it may be told to fail, or to have its daemon die before or after it took effect.
func (d *daemon) do(call string, effect func() error) error {
	d.hangWhenDead()
	d.mu.Lock()
	err, step := d.fail[call], d.step
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if step != nil && step(call, "before") {
		d.die()
		d.hangWhenDead()
	}
	d.w.mu.Lock()
	err = effect()
	d.w.mu.Unlock()
	if step != nil && step(call, "after") {
		d.die()
		d.hangWhenDead()
	}
	return err
}

// Check is that of a host that has runc and nothing special.
func (d *daemon) Check(hc *container.HostConfig) ([]string, error) {
	return runtimespec.Host{Runtimes: map[string]string{"runc": "", "io.containerd.runc.v2": ""}}.Check(hc)
}

func (d *daemon) View(ctx context.Context, key runtime.Key) (string, func() error, error) {
	return d.Mount(ctx, key)
}

func (d *daemon) PinImage(context.Context, runtime.Key, ocispec.Descriptor) error { return nil }

func (d *daemon) MountImage(context.Context, runtime.Key, ocispec.Descriptor) (string, func() error, error) {
	return d.w.dir, func() error { return nil }, nil
}

// hangWhenDead blocks the calls of a dead daemon for ever: whatever they returned, it would go on.
func (d *daemon) hangWhenDead() {
	select {
	case <-d.dead:
		select {}
	default:
	}
}

func (d *daemon) CreateTask(_ context.Context, s runtime.Spec) (pid int, err error) {
	err = d.do("CreateTask", func() error {
		if !d.w.rootfs[s.Key] {
			d.w.t.Errorf("CreateTask of %s without a root file system", s.ID)
		}
		if d.w.tasks[s.Key] != nil {
			d.w.t.Errorf("CreateTask of %s, which has a task", s.ID)
		}
		d.w.pid++
		pid = d.w.pid
		d.w.tasks[s.Key] = &fakeTask{
			spec: s, pid: pid, status: runtime.StatusCreated, ended: make(chan struct{}),
			execs: map[nereid.ExecID]runtime.Process{}, dies: map[int]bool{9: true, 15: true},
		}
		return nil
	})
	return pid, err
}

func (d *daemon) StartTask(_ context.Context, key runtime.Key) error {
	return d.do("StartTask", func() error {
		t := d.w.tasks[key]
		if t == nil || t.status != runtime.StatusCreated {
			d.w.t.Errorf("StartTask of %s, which is not created", key.ID)
			return errdefs.ErrNotFound
		}
		t.status = runtime.StatusRunning
		return nil
	})
}

func (d *daemon) Kill(_ context.Context, key runtime.Key, signal int) error {
	return d.do("Kill", func() error {
		t := d.w.tasks[key]
		if t == nil {
			return errdefs.ErrNotFound
		}
		if t.exit != nil {
			return errdefs.ErrFailedPrecondition
		}
		t.kills = append(t.kills, signal)
		if t.dies[signal] && t.status == runtime.StatusRunning || signal == 9 {
			d.w.endLocked(d, key, 128+signal)
		}
		return nil
	})
}

func (d *daemon) Pause(_ context.Context, key runtime.Key) error {
	return d.do("Pause", func() error { d.w.tasks[key].status = runtime.StatusPaused; return nil })
}

func (d *daemon) Resume(_ context.Context, key runtime.Key) error {
	return d.do("Resume", func() error {
		t := d.w.tasks[key]
		if t.exit != nil {
			return errdefs.ErrFailedPrecondition
		}
		t.status = runtime.StatusRunning
		for _, s := range t.kills {
			if t.dies[s] {
				d.w.endLocked(d, key, 128+s)
				break
			}
		}
		return nil
	})
}

func (d *daemon) Resize(context.Context, runtime.Key, uint32, uint32) error {
	return d.do("Resize", func() error { return nil })
}

func (d *daemon) Update(_ context.Context, key runtime.Key, r container.Resources) error {
	return d.do("Update", func() error {
		d.w.tasks[key].spec.HostConfig.Memory = r.Memory
		return nil
	})
}

func (d *daemon) DeleteTask(_ context.Context, key runtime.Key) error {
	return d.do("DeleteTask", func() error {
		if t := d.w.tasks[key]; t != nil && t.exit == nil && !t.dying {
			close(t.ended)
		}
		delete(d.w.tasks, key)
		return nil
	})
}

func (d *daemon) Tasks(context.Context) (map[runtime.Key]runtime.Task, error) {
	all := map[runtime.Key]runtime.Task{}
	err := d.do("Tasks", func() error {
		for key, t := range d.w.tasks {
			task := runtime.Task{Pid: t.pid, Status: t.status, Exit: t.exit}
			if t.exit != nil {
				task.Pid = 0
			}
			all[key] = task
		}
		return nil
	})
	return all, err
}

func (d *daemon) Pids(_ context.Context, key runtime.Key) (pids []int, err error) {
	err = d.do("Pids", func() error { pids = []int{d.w.tasks[key].pid}; return nil })
	return pids, err
}

func (d *daemon) Exec(_ context.Context, key runtime.Key, p runtime.Process, s *runtime.Streams) (pid int, done <-chan error, err error) {
	err = d.do("Exec", func() error {
		t := d.w.tasks[key]
		if t == nil || t.exit != nil {
			return errdefs.ErrFailedPrecondition
		}
		if _, twice := t.execs[p.ExecID]; twice {
			d.w.t.Errorf("Exec of %s twice", p.ExecID)
		}
		t.execs[p.ExecID] = p
		d.w.pid++
		pid = d.w.pid
		return nil
	})
	if err != nil || s == nil {
		return pid, nil, err
	}
	drained := make(chan error, 1)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	out := fmt.Sprint(p.Args)
	if d.w.run != nil {
		var code int
		if out, code = d.w.run(p); code >= 0 {
			d.tell(runtime.Exit{Key: key, ExecID: p.ExecID, Code: code, At: time.Now()})
		}
	}
	if s.Stdout != nil {
		fmt.Fprint(s.Stdout, out)
	}
	drained <- nil
	close(drained)
	return pid, drained, nil
}

func (d *daemon) ExecResize(context.Context, runtime.Key, nereid.ExecID, uint32, uint32) error {
	return d.do("ExecResize", func() error { return nil })
}

func (d *daemon) ExecKill(_ context.Context, key runtime.Key, id nereid.ExecID, signal int) error {
	return d.do("ExecKill", func() error {
		d.tell(runtime.Exit{Key: key, ExecID: id, Code: 128 + signal, At: time.Now()})
		return nil
	})
}

func (d *daemon) Attach(ctx context.Context, key runtime.Key, s runtime.Streams, ready func()) error {
	d.hangWhenDead()
	ready()
	for {
		d.w.mu.Lock()
		t := d.w.tasks[key]
		d.w.mu.Unlock()
		if t != nil {
			select {
			case <-t.ended:
			case <-ctx.Done():
				return ctx.Err()
			}
			if s.Stdout != nil {
				fmt.Fprintf(s.Stdout, "live")
			}
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *daemon) Logs(_ context.Context, key runtime.Key, _ runtime.LogConfig, o runtime.LogOptions) iter.Seq2[*backend.LogMessage, error] {
	return func(yield func(*backend.LogMessage, error) bool) {
		d.w.mu.Lock()
		lines := d.w.log[key]
		d.w.mu.Unlock()
		for _, l := range lines {
			if !yield(&backend.LogMessage{Line: []byte(l), Source: "stdout"}, nil) {
				return
			}
		}
	}
}

func (d *daemon) Prepare(_ context.Context, s runtime.Spec) error {
	return d.do("Prepare", func() error { d.w.rootfs[s.Key] = true; return nil })
}

func (d *daemon) Discard(_ context.Context, key runtime.Key) error {
	return d.do("Discard", func() error {
		if d.w.tasks[key] != nil {
			d.w.t.Errorf("Discard of %s, which has a task", key.ID)
		}
		delete(d.w.rootfs, key)
		return nil
	})
}

func (d *daemon) Mount(_ context.Context, key runtime.Key) (string, func() error, error) {
	err := d.do("Mount", func() error {
		if !d.w.rootfs[key] {
			d.w.t.Errorf("Mount of %s, which has no root file system", key.ID)
		}
		return nil
	})
	return d.w.dir, func() error { return nil }, err
}

func (d *daemon) Size(context.Context, runtime.Key) (int64, int64, error) { return 7, 70, nil }

func (d *daemon) Changes(context.Context, runtime.Key) ([]container.FilesystemChange, error) {
	return nil, nil
}

func (d *daemon) Stats(_ context.Context, key runtime.Key) (*container.StatsResponse, error) {
	s := &container.StatsResponse{Read: time.Now()}
	s.CPUStats.CPUUsage.TotalUsage = 5
	return s, nil
}

func (d *daemon) NewSandbox(_ context.Context, id nereid.ContainerID, _ network.SandboxOptions) (string, error) {
	err := d.do("NewSandbox", func() error { d.w.netns[id] = &fakeNetns{}; return nil })
	return "/netns/" + string(id), err
}

// fakeNet is the daemon's Network: its Attach is another than the Runtime's.
type fakeNet struct{ *daemon }

func (n fakeNet) Attach(_ context.Context, id nereid.ContainerID, to []network.Attachment) error {
	return n.do("net.Attach", func() error {
		if n.w.netns[id] == nil {
			n.w.t.Errorf("Attach of %s without a sandbox", id)
			return errdefs.ErrNotFound
		}
		for _, a := range to {
			if !a.Endpoint.Address.IsValid() {
				n.w.t.Errorf("Attach of %s without an address", id)
			}
		}
		n.w.netns[id].attached = true
		return nil
	})
}

func (n fakeNet) Publish(_ context.Context, id nereid.ContainerID, ports []network.Published) error {
	return n.do("net.Publish", func() error {
		if n.w.netns[id] == nil {
			n.w.t.Errorf("Publish of %s without a sandbox", id)
			return errdefs.ErrNotFound
		}
		n.w.netns[id].published = true
		return nil
	})
}

func (n fakeNet) Remove(_ context.Context, id nereid.ContainerID) error {
	return n.do("net.Remove", func() error { delete(n.w.netns, id); return nil })
}

func (n fakeNet) SetRemotes(context.Context, *state.Network, []network.Remote) error {
	return n.do("net.SetRemotes", func() error { return nil })
}

func (n fakeNet) SetHosts(context.Context, []netip.Addr) error {
	return n.do("net.SetHosts", func() error { return nil })
}

func (n fakeNet) Probe(context.Context, netip.Addr) (network.Way, error) { return network.Way{}, nil }

func (n fakeNet) SetMesh(context.Context, []network.MeshPort) error {
	return n.do("net.SetMesh", func() error { return nil })
}

func (n fakeNet) RemoveNetwork(context.Context, *state.Network) error {
	return n.do("net.RemoveNetwork", func() error { return nil })
}

func (n fakeNet) Restore(_ context.Context, running []network.Restored) error {
	return n.do("net.Restore", func() error {
		keep := map[nereid.ContainerID]bool{}
		for _, r := range running {
			keep[r.ID] = true
		}
		maps.DeleteFunc(n.w.netns, func(id nereid.ContainerID, _ *fakeNetns) bool { return !keep[id] })
		return nil
	})
}

// vols is the daemon's VolumeStore.
type vols struct{ *daemon }

func (v vols) Path(_ context.Context, r *state.Volume) (string, error) {
	err := v.do("vol.Path", func() error {
		v.w.volumes[r.Name] = true
		if mounts(r) {
			v.w.mounted[r.Name] = true
		}
		return nil
	})
	return v.w.dir, err
}

func (v vols) Check(opts map[string]string) error {
	_, err := volume.ParseOptions(opts)
	return err
}

func (v vols) Unmount(_ context.Context, r *state.Volume) error {
	return v.do("vol.Unmount", func() error { delete(v.w.mounted, r.Name); return nil })
}

func (v vols) Mounted(context.Context) ([]*state.Volume, error) {
	var found []*state.Volume
	for name := range v.w.mounted {
		found = append(found, &state.Volume{Account: nereid.Admin, Name: name})
	}
	return found, nil
}

func (v vols) Doom(context.Context, *state.Volume) error       { return nil }
func (v vols) Spare(context.Context, *state.Volume) error      { return nil }
func (v vols) Doomed(context.Context) ([]*state.Volume, error) { return nil, nil }

func (v vols) Part(dir, sub string) (string, func(), error) {
	return dir + "/" + sub, func() {}, nil
}

func (v vols) CopyUp(context.Context, *state.Volume, string, string, string) error {
	return v.do("vol.CopyUp", func() error { return nil })
}

func (v vols) Delete(_ context.Context, r *state.Volume) error {
	return v.do("vol.Delete", func() error { delete(v.w.volumes, r.Name); return nil })
}

func (v vols) Usage(context.Context, *state.Volume) (int64, error) { return 0, nil }

// endLocked ends a process and has its daemon told, as the runtime tells: in a goroutine of its own.
func (w *world) endLocked(d *daemon, key runtime.Key, code int) {
	t := w.tasks[key]
	if t == nil || t.exit != nil {
		return
	}
	t.exit = &runtime.Exit{Key: key, Code: code, At: time.Now().UTC()}
	t.status = runtime.StatusStopped
	close(t.ended)
	exit := *t.exit
	if d != nil && d.handler != nil {
		d.tell(exit)
	}
}

// tell has the daemon told of an end; one that is dead hears nothing.
func (d *daemon) tell(e runtime.Exit) {
	d.telling.Go(func() {
		select {
		case <-d.dead:
		default:
			d.handler.Exited(context.Background(), e)
		}
	})
}

// end ends a process on its own.
func (w *world) end(d *daemon, key runtime.Key, code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked(d, key, code)
}

// alive tells whether a process exists.
func (w *world) alive(pid int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tasks {
		if t.pid == pid && t.exit == nil && !t.dying {
			return true
		}
	}
	return false
}
