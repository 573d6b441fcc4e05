package engine

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// useVolume makes a container that mounts a volume, on a host if one is given, and tells where it is.
func (f *testFleet) useVolume(endpoint nereid.Host, volume string, on ...nereid.Host) nereid.Host {
	f.t.Helper()
	return f.mustCreate(endpoint, "", func(s *spec) {
		s.host.Binds = []string{volume + ":/data"}
		for _, h := range on {
			s.Env = append(s.Env, "constraint:node=="+string(h))
		}
	})
}

func (f *testFleet) hasData(h nereid.Host, volume string) bool {
	w := f.host(h).d.w
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.volumes[volume]
}

// members makes hosts members of the fleet.
func (f *testFleet) members(names ...nereid.Host) {
	f.t.Helper()
	for _, n := range names {
		r, _ := f.hosts[0].store.View().Host(n)
		_, err := f.hosts[0].store.Commit(f.ctx, state.Create(&state.Member{Name: n, Facts: *r}))
		assert.NilError(f.t, err)
	}
	f.settle()
}

// dropContainers removes all containers, wherever they are.
func (f *testFleet) dropContainers() {
	f.t.Helper()
	for _, h := range f.hosts {
		for _, c := range h.store.View().ContainersOn(h.Host) {
			assert.NilError(f.t, h.Remove(f.ctx, string(c.ID), backend.ContainerRmConfig{}))
		}
	}
	f.settle()
}

// TestVolumeHome: the first container that uses a volume gives it its home, others follow, and its removal at any
// endpoint reaches the data.
func TestVolumeHome(t *testing.T) {
	f := newTestFleet(t, 3, 1<<30)
	f.members("h1", "h2", "h3")
	h1 := f.host("h1").volumes
	made, err := h1.Create(f.ctx, volume.CreateOptions{Name: "late"})
	assert.NilError(t, err)
	assert.Check(t, made.Status == nil, "it has no home yet")
	f.settle()
	assert.Equal(t, f.useVolume("h1", "late", "h3"), nereid.Host("h3"))
	for _, endpoint := range []nereid.Host{"h1", "h2", "h3"} {
		assert.Equal(t, f.useVolume(endpoint, "late"), nereid.Host("h3"))
	}
	shown, err := h1.Inspect(f.ctx, "late")
	assert.NilError(t, err)
	assert.DeepEqual(t, shown.Status, map[string]any{"Host": "h3"})
	err = h1.Remove(f.ctx, "late", false)
	failsWith(t, err, errdefs.IsConflict, "volume is in use")

	f.dropContainers()
	assert.Check(t, f.hasData("h3", "late"))
	assert.NilError(t, h1.Remove(f.ctx, "late", false))
	f.settle()
	assert.Check(t, !f.hasData("h3", "late"))
	_, err = h1.Inspect(f.ctx, "late")
	assert.Check(t, errdefs.IsNotFound(err))
}

// TestVolumesOfOtherHosts are measured and pruned where they are.
func TestVolumesOfOtherHosts(t *testing.T) {
	f := newTestFleet(t, 2, 1<<30)
	f.members("h1", "h2")
	for _, h := range []nereid.Host{"h1", "h2"} {
		f.useVolume("h1", "on-"+string(h), h)
	}
	f.dropContainers()
	du, err := f.host("h1").volumes.DiskUsage(f.ctx)
	assert.NilError(t, err)
	assert.Equal(t, len(du.Items), 2)
	report, err := f.host("h1").volumes.Prune(f.ctx, filters.NewArgs(filters.Arg("all", "true")))
	assert.NilError(t, err)
	assert.DeepEqual(t, report.VolumesDeleted, []string{"on-h1", "on-h2"})
	assert.Check(t, !f.hasData("h1", "on-h1") && !f.hasData("h2", "on-h2"))
}

// TestVolumeWhoseHostIsGone: away for a while is an error that says so; removed from the fleet, the record can go.
func TestVolumeWhoseHostIsGone(t *testing.T) {
	f := newTestFleet(t, 2, 1<<30)
	f.members("h1", "h2")
	f.useVolume("h1", "far", "h2")
	f.dropContainers()
	f.mu.Lock()
	f.rumoured["h2"] = nereid.HostUnreachable
	f.mu.Unlock()
	h1 := f.host("h1").volumes
	failsWith(t, h1.Remove(f.ctx, "far", true), errdefs.IsUnavailable, "remove far: host h2 is unreachable")
	shown, err := h1.Inspect(f.ctx, "far")
	assert.NilError(t, err)
	assert.DeepEqual(t, shown.Status, map[string]any{"Host": "h2", "Unreachable": true})
	du, err := h1.DiskUsage(f.ctx)
	assert.NilError(t, err)
	assert.Equal(t, du.Items[0].UsageData.Size, int64(-1))

	_, err = f.hosts[0].store.Commit(f.ctx, state.Delete(&state.Member{Name: "h2"}), state.Delete(&state.Host{Name: "h2"}),
		state.Create(&state.Member{Name: "h3"}))
	assert.NilError(t, err)
	shown, err = h1.Inspect(f.ctx, "far")
	assert.NilError(t, err)
	assert.DeepEqual(t, shown.Status, map[string]any{"Host": "h2", "Lost": true})
	assert.NilError(t, h1.Remove(f.ctx, "far", false))
	_, err = h1.Inspect(f.ctx, "far")
	assert.Check(t, errdefs.IsNotFound(err))
}

// TestSharedVolumesHaveNoHome: an NFS export is on every host.
func TestSharedVolumesHaveNoHome(t *testing.T) {
	f := newTestFleet(t, 2, 1<<30)
	_, err := f.host("h1").volumes.Create(f.ctx, volume.CreateOptions{Name: "export", DriverOpts: map[string]string{"type": "nfs", "device": ":/srv", "o": "addr=192.0.2.1"}})
	assert.NilError(t, err)
	f.settle()
	for _, h := range []nereid.Host{"h1", "h2"} {
		assert.Equal(t, f.useVolume("h1", "export", h), h)
	}
	r, ok := f.host("h1").store.View().Volume(nereid.Admin, "export")
	assert.Check(t, ok && r.Home == "", "home %q", r.Home)
}
