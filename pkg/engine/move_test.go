package engine

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// movable is a container that can go on elsewhere.
func movable(s *spec) {
	s.Env = []string{"constraint:disk==ssd"} // h1 and h3
	s.host.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyUnlessStopped}
	s.host.PortBindings = nat.PortMap{"80/tcp": {{HostPort: "8080"}}}
}

// drained makes a host one that gets nothing.
func (f *testFleet) drained(name nereid.Host) {
	f.t.Helper()
	rec, ok := f.host(name).store.View().Host(name)
	assert.Assert(f.t, ok)
	own := *rec
	own.Draining = true
	_, err := f.host(name).store.Commit(f.ctx, state.Put(&own))
	assert.NilError(f.t, err)
	f.settle()
}

// running are the hosts on which a container's process runs.
func (f *testFleet) running(key runtime.Key) (on []nereid.Host) {
	for _, h := range f.hosts {
		h.w.mu.Lock()
		if t := h.w.tasks[key]; t != nil && t.status == runtime.StatusRunning && t.exit == nil {
			on = append(on, h.name)
		}
		h.w.mu.Unlock()
	}
	return on
}

func (f *testFleet) started(name string, on nereid.Host, change ...func(*spec)) (*state.Container, runtime.Key) {
	f.t.Helper()
	at := f.mustCreate("h1", name, change...)
	assert.Equal(f.t, at, on)
	assert.NilError(f.t, f.host(on).Start(f.ctx, name))
	f.settle()
	r, err := f.host(on).find(f.ctx, name)
	assert.NilError(f.t, err)
	return r, keyOf(r)
}

// TestMove: a container goes on at another host with all that is its own.
func TestMove(t *testing.T) {
	f := newTestFleet(t, 3, 1<<30)
	f.mustCreate("h1", "filler", func(s *spec) { s.Env = []string{"constraint:node==h1"} })
	was, key := f.started("web", "h3", movable)
	other, otherKey := f.started("shell", "h2", func(s *spec) {})
	f.drained("h3")
	to, err := f.host("h3").move(f.ctx, was)
	assert.NilError(t, err)
	assert.Equal(t, to, nereid.Host("h1"))
	eventually(t, "it runs there", func() bool { return len(f.running(key)) == 1 && f.running(key)[0] == "h1" })
	f.settle()
	var now *state.Container
	eventually(t, "all know", func() bool {
		f.settle()
		now, _ = f.host("h2").store.View().Container(key.Account, key.ID)
		return now != nil && now.Host == "h1" && now.State.Running()
	})
	assert.Equal(t, now.Name, "web")
	assert.Equal(t, now.RestartCount, 0)
	assert.Equal(t, now.From, nereid.Host(""))
	assert.Equal(t, fmt.Sprint(now.Ports), fmt.Sprint(was.Ports))
	assert.Equal(t, now.Networks["bridge"].Address, was.Networks["bridge"].Address)
	assert.Equal(t, now.Networks["bridge"].ID, was.Networks["bridge"].ID)
	v := f.host("h2").store.View()
	p, _ := v.Port("tcp", 8080)
	for _, c := range p.Claims {
		assert.Equal(t, c.Host, nereid.Host("h1"))
	}
	a, _ := v.Address(now.Networks["bridge"].Network, now.Networks["bridge"].Address.Addr().String())
	assert.Equal(t, a.Host, nereid.Host("h1"))
	w := f.host("h3").w
	eventually(t, "nothing is left behind", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.tasks)+len(w.rootfs)+len(w.netns) == 0
	})
	for _, h := range f.hosts {
		eventually(t, "without reservations on "+string(h.name), func() bool {
			h.placement.mu.Lock()
			defer h.placement.mu.Unlock()
			return len(h.placement.underway) == 0
		})
	}

	// It is an ordinary container there.
	f.host("h1").w.end(f.host("h1").d, key, 3)
	eventually(t, "its policy brings it back", func() bool {
		r, _ := f.host("h1").store.View().Container(key.Account, key.ID)
		return r.State.Running() && r.RestartCount == 1
	})
	assert.NilError(t, f.host("h1").Stop(f.ctx, "web", container.StopOptions{}))
	f.settle()
	_, ok := f.host("h2").store.View().Port("tcp", 8080)
	assert.Assert(t, !ok)

	// What has no policy stays.
	_, err = f.host("h2").move(f.ctx, other)
	failsWith(t, err, errdefs.IsConflict, "it has no restart policy")
	assert.Equal(t, len(f.running(otherKey)), 1)
}

// TestMoveFindsNoRoom: nothing is stopped for a move that cannot be.
func TestMoveFindsNoRoom(t *testing.T) {
	f := newTestFleet(t, 3, 1<<30)
	r, key := f.started("web", "h1", movable, func(s *spec) { s.Env = []string{"constraint:node==h1"} })
	f.drained("h1")
	_, err := f.host("h1").move(f.ctx, r)
	failsWith(t, err, errdefs.IsResourceExhausted, "do not meet constraint node==h1")
	r2, key2 := f.started("two", "h2", func(s *spec) { movable(s); s.Env = []string{"constraint:disk==hdd"}; s.host.PortBindings = nil })
	own := r2.Clone()
	own.Config.Labels = nil // it may go elsewhere after all
	_, err = f.host("h2").store.Commit(f.ctx, state.Update(own))
	assert.NilError(t, err)
	f.down["h1"], f.down["h3"] = true, true
	_, err = f.host("h2").move(f.ctx, own)
	failsWith(t, err, errdefs.IsResourceExhausted, "it does not answer")
	for _, k := range []runtime.Key{key, key2} {
		assert.Equal(t, len(f.running(k)), 1)
		now := f.host("h1")
		rec, _ := now.store.View().Container(k.Account, k.ID)
		assert.Equal(t, rec.Exits, 0)
	}
}

// TestStays names everything that ties a container to its host.
func TestStays(t *testing.T) {
	rig := newContainerRig(t)
	rig.create("base")
	for _, c := range []struct {
		name, why string
		change    func(*spec)
	}{
		{"policy", "it has no restart policy", func(s *spec) { s.host.RestartPolicy.Name = "no" }},
		{"volume", "its volume data is there", func(s *spec) { s.host.Binds = []string{"data:/data"} }},
		{"shared", "", func(s *spec) {
			s.host.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "export", Target: "/x", VolumeOptions: &mount.VolumeOptions{
				NoCopy: true, DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"type": "nfs", "device": ":/export", "o": "addr=192.0.2.9"}},
			}}}
		}},
		{"bind", "it mounts /tmp of the host", func(s *spec) { s.host.Binds = []string{"/tmp:/x"} }},
		{"tmpfs", "", func(s *spec) {
			s.host.Mounts = []mount.Mount{{Type: mount.TypeTmpfs, Target: "/x"}}
		}},
		{"device", "it uses devices of the host", func(s *spec) {
			s.host.Devices = []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/x"}}
		}},
		{"privileged", "it uses devices of the host", func(s *spec) { s.host.Privileged = true }},
		{"pid", "it is tied to another container", func(s *spec) { s.host.PidMode = "container:base" }},
		{"host", "it shares namespaces of the host", func(s *spec) { s.host.NetworkMode = "host" }},
		{"address", "it publishes a port on an address of the host, 127.0.0.1", func(s *spec) {
			s.host.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1"}}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := rig.create(c.name, func(s *spec) {
				s.host.RestartPolicy.Name = container.RestartPolicyAlways
				c.change(s)
			})
			assert.Equal(t, rig.stays(rig.record(key)), c.why)
		})
	}
}

// TestMoveIsCutAnywhere: whatever the daemon of either host was doing when it died, in the end the container runs once.
func TestMoveIsCutAnywhere(t *testing.T) {
	for _, who := range []nereid.Host{"h1", "h2"} {
		for step := 1; ; step++ {
			if done := t.Run(fmt.Sprintf("%s/step %d", who, step), func(t *testing.T) { moveAndDie(t, who, step) }); !done || !cutLast {
				break
			}
		}
	}
}

// cutLast tells whether the last run of moveAndDie came to its step.
var cutLast bool

// moveAndDie has a container move from h1 to h2, and a daemon die at a step.
func moveAndDie(t *testing.T, who nereid.Host, step int) {
	f := newTestFleet(t, 2, 1<<30)
	r, key := f.started("web", "h1", movable, func(s *spec) { s.Env = []string{"constraint:node==h1"} })
	own := r.Clone()
	own.Config.Labels = nil // it may go elsewhere after all
	_, err := f.host("h1").store.Commit(f.ctx, state.Update(own))
	assert.NilError(t, err)
	f.drained("h1")
	h := f.host(who)
	var count atomic.Int32 // calls of two goroutines at once
	h.d.mu.Lock()
	h.d.step = func(call, when string) bool {
		return int(count.Add(1)) == step
	}
	h.d.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r, _ := f.host("h1").store.View().Container(key.Account, key.ID)
		_, _ = f.host("h1").move(f.ctx, r)
	}()
	ran := func() bool {
		on := f.running(key)
		assert.Assert(t, len(on) <= 1, "it runs twice: %v", on)
		return len(on) == 1 && on[0] == "h2"
	}
	eventually(t, "dead or moved", func() bool {
		select {
		case <-h.d.dead:
			return true
		default:
			return ran()
		}
	})
	select {
	case <-h.d.dead:
		cutLast = true
		f.boot(h)
	default:
		cutLast = false
		<-ended
	}
	eventually(t, "it runs, and the record says where", func() bool {
		on := f.running(key)
		f.settle()
		rec, ok := f.host("h1").store.View().Container(key.Account, key.ID)
		return ok && len(on) == 1 && rec.Host == on[0] && rec.State.Running() && !rec.Leaving && rec.From == ""
	})
	for _, p := range f.host("h1").store.View().Ports() {
		rec, _ := f.host("h1").store.View().Container(key.Account, key.ID)
		for _, c := range p.Claims {
			assert.Equal(t, c.Host, rec.Host)
		}
	}
}
