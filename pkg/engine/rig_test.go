package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap/zaptest"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// containerRig is a daemon's container use cases over a real state and a world of fakes.
type containerRig struct {
	*Containers
	t     *testing.T
	ctx   context.Context
	w     *world
	d     *daemon
	store *state.Store
	root  string
	since state.Revision // of the events that are its
}

func newContainerRig(t *testing.T) *containerRig {
	t.Helper()
	return newContainerRigOn(t, openTestState(t))
}

// newContainerRigOn shares a state with other rigs, one after the other: to open one takes longer than most tests.
func newContainerRigOn(t *testing.T, store *state.Store) *containerRig {
	t.Helper()
	rig := &containerRig{t: t, ctx: nereid.WithAccount(context.Background(), nereid.Admin), w: newWorld(t), store: store, root: t.TempDir()}
	rig.since = store.View().Revision()
	t.Cleanup(rig.wipe)
	rig.addImage("busybox", container.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}})
	rig.boot()
	return rig
}

// wipe removes the containers from the state, so that the next rig begins with none.
func (r *containerRig) wipe() {
	v := r.store.View()
	var ops []state.Op
	for _, c := range v.ContainersOn("h1") {
		ops = append(ops, state.Delete(c), state.Delete(&state.Name{Account: c.Account, Name: c.Name}))
		for _, ep := range c.Networks {
			if ep.Address.IsValid() {
				ops = append(ops, state.Delete(&state.Address{Network: ep.Network, Address: ep.Address.Addr()}))
			}
		}
	}
	for _, vol := range v.Volumes(nereid.Admin) {
		ops = append(ops, state.Delete(vol))
	}
	for _, p := range v.Ports() {
		ops = append(ops, state.Delete(p))
	}
	_, err := r.store.Commit(r.ctx, ops...)
	assert.Check(r.t, err)
}

// boot starts a daemon over what there is. It adopts before it returns.
func (r *containerRig) boot() {
	r.t.Helper()
	d := newDaemon(r.w)
	deps := Deps{
		Host: "h1", DataRoot: r.root + "/data", ExecRoot: r.root + "/exec", State: r.store,
		Runtime: d, Network: fakeNet{d}, Volumes: vols{d}, Log: zaptest.NewLogger(r.t),
	}
	c := NewContainers(deps, NewNetworks(deps), NewVolumes(deps), NewImages(deps, nil))
	c.alive = r.w.alive
	c.features = func() *sysinfo.SysInfo { return allFeatures }
	d.handler = c
	r.Containers, r.d = c, d
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		select {
		case <-d.dead: // what it had under way hangs until later
		case err := <-done:
			assert.Check(r.t, err)
			r.awaitTold(d)
		}
	})
	assert.NilError(r.t, c.Adopt(r.ctx))
}

// awaitTold waits for what a daemon's handler is being told: the state is closed after this. A dead one's hangs.
func (r *containerRig) awaitTold(d *daemon) {
	told := make(chan struct{})
	go func() {
		defer close(told)
		d.telling.Wait()
	}()
	select {
	case <-told:
	case <-d.dead:
	}
}

// allFeatures is a kernel that can everything, so that tests do not depend on this machine's.
var allFeatures = func() *sysinfo.SysInfo {
	s := &sysinfo.SysInfo{Seccomp: true, CgroupNamespaces: true}
	s.MemoryLimit, s.SwapLimit, s.MemoryReservation, s.OomKillDisable, s.MemorySwappiness = true, true, true, true, true
	s.CPUShares, s.CPUCfs, s.PidsLimit, s.BlkioWeight, s.Cpuset = true, true, true, true, true
	s.Cpus, s.CPUSets, s.Mems, s.MemSets = "0-1", map[int]struct{}{0: {}, 1: {}}, "0", map[int]struct{}{0: {}}
	return s
}()

func (r *containerRig) addImage(name string, cfg container.Config) {
	r.t.Helper()
	raw, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "config": cfg, "rootfs": map[string]any{"type": "layers", "diff_ids": []string{}}})
	assert.NilError(r.t, err)
	id := nereid.ImageID(digest.FromBytes(raw))
	img := &state.Image{
		Account: nereid.Admin, ID: id, Config: raw, Hosts: []nereid.Host{"h1"},
		Manifest: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 1},
	}
	tag := &state.Tag{Account: nereid.Admin, Ref: "docker.io/library/" + name + ":latest", Image: id}
	_, err = r.store.Commit(r.ctx, state.Put(img), state.Put(tag))
	assert.NilError(r.t, err)
}

// spec is the configuration of a container, for tests to change.
type spec struct {
	container.Config
	host container.HostConfig
}

func (r *containerRig) createReq(name string, change ...func(*spec)) backend.ContainerCreateConfig {
	s := &spec{Config: container.Config{Image: "busybox"}}
	for _, f := range change {
		f(s)
	}
	return backend.ContainerCreateConfig{Name: name, Config: &s.Config, HostConfig: &s.host}
}

func (r *containerRig) create(name string, change ...func(*spec)) runtime.Key {
	r.t.Helper()
	resp, err := r.Create(r.ctx, r.createReq(name, change...))
	assert.NilError(r.t, err)
	return runtime.Key{Account: nereid.Admin, ID: nereid.ContainerID(resp.ID)}
}

func (r *containerRig) run(name string, change ...func(*spec)) runtime.Key {
	r.t.Helper()
	key := r.create(name, change...)
	assert.NilError(r.t, r.Start(r.ctx, string(key.ID)))
	return key
}

func (r *containerRig) record(key runtime.Key) *state.Container {
	rec, ok := r.store.View().Container(key.Account, key.ID)
	if !ok {
		return nil
	}
	return rec
}

// soon bounds what a test waits for: what comes ends the waiting, and a busy machine takes its time.
const soon = time.Minute

// await waits until the container is as cond wants it.
func (r *containerRig) await(key runtime.Key, what string, cond func(*state.Container) bool) *state.Container {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, soon)
	defer cancel()
	rec, err := r.store.View().WaitContainer(ctx, key.Account, key.ID, cond)
	if err != nil {
		r.t.Fatalf("container did not become %s: %+v", what, r.record(key))
	}
	return rec
}

func (r *containerRig) awaitStatus(key runtime.Key, status string) *state.Container {
	r.t.Helper()
	return r.await(key, status, func(c *state.Container) bool { return c != nil && c.State.Status == status })
}

// awaitAfter is await of what doing something brings: no form of the container in between is missed.
func (r *containerRig) awaitAfter(do func(), key runtime.Key, what string, cond func(*state.Container) bool) *state.Container {
	r.t.Helper()
	begun := false
	return r.await(key, what, func(c *state.Container) bool {
		if !begun { // this is the container as it is: all that follows is heard of
			begun = true
			do()
			return false
		}
		return cond(c)
	})
}

func (r *containerRig) awaitGone(key runtime.Key) {
	r.t.Helper()
	r.await(key, "gone", func(c *state.Container) bool { return c == nil })
}

// events are the containers' so far, oldest first, by their action and some attributes.
func (r *containerRig) events() []string {
	var all []string
	for _, e := range r.store.View().Events(r.since, 0).Ready() {
		if e.Message.Type == events.ContainerEventType {
			all = append(all, describeEvent(e.Message))
		}
	}
	return all
}

// allEvents are those of networks and volumes too.
func (r *containerRig) allEvents() []string {
	var all []string
	for _, e := range r.store.View().Events(r.since, 0).Ready() {
		all = append(all, describeEvent(e.Message))
	}
	return all
}

func describeEvent(m events.Message) string {
	s := string(m.Action)
	if m.Type != events.ContainerEventType {
		s = string(m.Type) + " " + s
	}
	for _, a := range []string{"signal", "exitCode", "oldName", "height"} {
		if v, ok := m.Actor.Attributes[a]; ok {
			s += fmt.Sprintf(" %s=%s", a, v)
		}
	}
	return s
}

func (r *containerRig) wantEvents(want ...string) {
	r.t.Helper()
	assert.DeepEqual(r.t, r.events(), want)
}

// wantClean fails when anything of a container is left on the host or in the state, once what goes behind has gone.
func (r *containerRig) wantClean() {
	r.t.Helper()
	poll.WaitOn(r.t, func(poll.LogT) poll.Result { // what is removed behind its record goes a moment later
		if left := r.left(); left != "" {
			return poll.Continue("left: %s", left)
		}
		return poll.Success()
	}, poll.WithTimeout(soon), poll.WithDelay(time.Millisecond))
}

// left names what containers have left behind; empty: nothing.
func (r *containerRig) left() string {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	v := r.store.View()
	dirs, err := readDirs(r.root + "/data/containers/admin")
	assert.NilError(r.t, err)
	files, _ := os.ReadDir(r.root + "/exec/exec")
	switch {
	case r.behind.Load() > 0:
		return "removals that wait or are under way"
	case len(r.w.tasks) > 0:
		return fmt.Sprint("tasks: ", r.w.tasks)
	case len(r.w.rootfs) > 0:
		return fmt.Sprint("root file systems: ", r.w.rootfs)
	case len(r.w.netns) > 0:
		return fmt.Sprint("sandboxes: ", r.w.netns)
	case len(r.w.volumes) > 0:
		return fmt.Sprint("volumes: ", r.w.volumes)
	case len(v.ContainersOn("h1")) > 0:
		return "containers"
	case len(v.Ports()) > 0:
		return "ports"
	case len(v.Volumes(nereid.Admin)) > 0:
		return "volume records"
	case len(dirs) > 0:
		return fmt.Sprint("directories: ", dirs)
	case len(files) > 0:
		return fmt.Sprint("exec files: ", files)
	}
	return ""
}

// failsWith checks an error's class by its predicate, and its words.
func failsWith(t *testing.T, err error, class func(error) bool, words string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", words)
	}
	assert.Check(t, class(err), "class of %v", err)
	assert.Check(t, strings.Contains(err.Error(), words), "got %q, want %q", err, words)
}
