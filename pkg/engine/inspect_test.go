package engine

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

func inspected() *state.Container {
	started := time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("x", 3600))
	return &state.Container{
		Account: nereid.Admin, ID: "abc123", Name: "web", Host: "h1", Created: started,
		Image: "busybox", ImageID: "sha256:0123", Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Manifest: &ocispec.Descriptor{Digest: "sha256:4567", Size: 8},
		Path:     "httpd", Args: []string{"-f"}, LogPath: "/log", RestartCount: 2, Starts: 3,
		Config:     &container.Config{Hostname: "abc", Labels: map[string]string{"a": "b"}},
		HostConfig: &container.HostConfig{NetworkMode: "bridge", Links: []string{"db:mysql", "/cache"}, SecurityOpt: []string{"no-new-privileges", "apparmor=mine"}},
		Networks:   map[string]*state.Endpoint{"bridge": {WantMAC: "02:42:ac:11:00:02"}},
		Mounts:     []state.Mount{{Type: "volume", Name: "v", Source: "/s", Destination: "/d", Driver: "local", Mode: "z", RW: true}},
		State: state.RunState{
			Status: state.StatusPaused, Pid: 42, StartedAt: started,
			Health: &container.Health{Status: container.Healthy, FailingStreak: 1},
		},
	}
}

func TestInspectResponse(t *testing.T) {
	r := inspected()
	i := inspectResponse(r, &container.NetworkSettings{})
	assert.Equal(t, i.ID, "abc123")
	assert.Equal(t, i.Created, "2026-01-02T02:04:05.0000006Z")
	assert.Equal(t, i.Name, "/web")
	assert.Equal(t, i.Image, "sha256:0123")
	assert.Equal(t, i.Driver, i.GraphDriver.Name)
	assert.Equal(t, i.Platform, "linux")
	assert.Equal(t, i.AppArmorProfile, "mine")
	assert.DeepEqual(t, i.HostConfig.Links, []string{"/db:/web/mysql", "/cache:/web/cache"})
	assert.Equal(t, i.Config.MacAddress, "02:42:ac:11:00:02")
	assert.DeepEqual(t, i.Config.Labels, map[string]string{"a": "b"})
	assert.DeepEqual(t, i.State, &container.State{
		Status: "paused", Running: true, Paused: true, Pid: 42,
		StartedAt: "2026-01-02T02:04:05.0000006Z", FinishedAt: "0001-01-01T00:00:00Z",
		Health: &container.Health{Status: "healthy", FailingStreak: 1, Log: []*container.HealthcheckResult{}},
	})
	assert.Equal(t, i.ImageManifestDescriptor.Platform.Architecture, "amd64")
	assert.Equal(t, i.Mounts[0].Driver, "local")
	// The record is as it was.
	assert.DeepEqual(t, r, inspected(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}))
}

func TestInspectLinksOfOwnNetworksBelongToTheEndpoint(t *testing.T) {
	r := inspected()
	r.HostConfig.NetworkMode = "blue"
	assert.Equal(t, len(inspectResponse(r, nil).HostConfig.Links), 0)
}

func TestInspectOfABareRecord(t *testing.T) {
	i := inspectResponse(&state.Container{ID: "x", State: state.RunState{Status: state.StatusCreated}}, nil)
	raw, err := json.Marshal(i)
	assert.NilError(t, err)
	var m map[string]any
	assert.NilError(t, json.Unmarshal(raw, &m))
	for _, list := range []string{"Args", "Mounts"} { // never null
		_, ok := m[list].([]any)
		assert.Assert(t, ok, list)
	}
	assert.Equal(t, m["State"].(map[string]any)["StartedAt"], "0001-01-01T00:00:00Z")
}

func TestInspectStates(t *testing.T) {
	for status, want := range map[string][4]bool{ // running, paused, restarting, dead
		state.StatusCreated:    {},
		state.StatusRunning:    {true},
		state.StatusPaused:     {true, true},
		state.StatusRestarting: {true, false, true},
		state.StatusRemoving:   {},
		state.StatusExited:     {},
		state.StatusDead:       {false, false, false, true},
	} {
		s := inspectState(&state.Container{State: state.RunState{Status: status}})
		assert.Equal(t, [4]bool{s.Running, s.Paused, s.Restarting, s.Dead}, want, status)
		assert.Equal(t, s.Status, status)
	}
}

// sizes is a runtime that measures, and nothing else.
type sizes struct {
	Runtime
	t *testing.T
}

func (s sizes) Size(_ context.Context, key runtime.Key) (rw, total int64, err error) {
	if key.ID == numberedID(3) {
		return 0, 0, errdefs.ErrNotFound // removed meanwhile
	}
	assert.Check(s.t, key.Account == nereid.Admin)
	return 10, 1000, nil
}

func numberedID(n int) nereid.ContainerID {
	const hex = "0123456789abcdef"
	id := make([]byte, 64)
	for i := range id {
		id[i] = hex[n]
	}
	return nereid.ContainerID(id)
}

func commitAll(t *testing.T, s *state.Store, ops ...state.Op) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	_, err := s.Commit(ctx, ops...)
	assert.NilError(t, err)
}

func TestListAndInspectFromTheState(t *testing.T) {
	s := openTestState(t)
	c := &Containers{Deps: Deps{Host: "h1", DataRoot: "/data", State: s, Runtime: sizes{t: t}}, networks: &Networks{Deps: Deps{State: s}}}
	ctx := nereid.WithAccount(t.Context(), nereid.Admin)
	ops := []state.Op{
		state.Create(&state.Image{Account: nereid.Admin, ID: "sha256:" + nereid.ImageID(numberedID(15)), Size: 990, Config: []byte(`{"rootfs":{"diff_ids":["sha256:a"]}}`)}),
		state.Create(&state.Image{Account: nereid.Admin, ID: "sha256:" + nereid.ImageID(numberedID(14)), Config: []byte(`{"rootfs":{"diff_ids":["sha256:a","sha256:b"]}}`)}),
		state.Create(&state.Tag{Account: nereid.Admin, Ref: "docker.io/library/busybox:latest", Image: "sha256:" + nereid.ImageID(numberedID(15))}),
		state.Put(&state.Host{Name: "h1", CPUs: 4, Memory: 1 << 30, Advertise: netip.MustParseAddr("10.1.1.1"), Labels: map[string]string{"rack": "r1"}}),
	}
	for n := 1; n <= 4; n++ {
		r := inspected()
		r.ID, r.Name = numberedID(n), string(rune('a'+n-1))
		r.Created = r.Created.Add(time.Duration(n) * time.Minute)
		r.ImageID = "sha256:" + nereid.ImageID(numberedID(15))
		r.State.Status = state.StatusExited
		if n == 1 {
			r.State.Status = state.StatusRunning
		}
		if n == 2 {
			r.ImageID = "sha256:" + nereid.ImageID(numberedID(14)) // "busybox" meant this one once
		}
		if n == 4 {
			r.Account = "somebody"
		}
		ops = append(ops, state.Create(r), state.Create(&state.Name{Account: r.Account, Name: r.Name, Container: r.ID}))
	}
	commitAll(t, s, ops...)

	list, err := c.List(ctx, container.ListOptions{All: true, Size: true})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 3) // another account's is not ours
	for i, want := range []struct {
		name, image string
		size        int64
	}{{"/c", "busybox", 0}, {"/b", "sha256:" + string(numberedID(14)), 10}, {"/a", "busybox", 10}} {
		assert.DeepEqual(t, list[i].Names, []string{want.name})
		assert.Equal(t, list[i].Image, want.image)
		assert.Equal(t, list[i].SizeRw, want.size)
	}
	list, err = c.List(ctx, container.ListOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 1)
	list, err = c.List(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("ancestor", "busybox"))})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 3) // the image with one layer more is made from it
	list, err = c.List(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("name", "zzz"))})
	assert.NilError(t, err)
	assert.Assert(t, list != nil && len(list) == 0)
	_, err = c.List(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("before", "d"))})
	assert.Assert(t, errdefs.IsNotFound(err))

	got, node, err := c.Inspect(ctx, "a", true)
	assert.NilError(t, err)
	assert.Equal(t, got.ID, string(numberedID(1)))
	assert.Equal(t, *got.SizeRw, int64(10))
	assert.Equal(t, *got.SizeRootFs, int64(1000))
	assert.Equal(t, got.HostsPath, "/data/containers/admin/"+got.ID+"/hosts")
	assert.DeepEqual(t, node, &nereid.Node{ID: "h1", Name: "h1", IP: "10.1.1.1", Addr: "10.1.1.1", Cpus: 4, Memory: 1 << 30, Labels: map[string]string{"rack": "r1"}})
	got, _, err = c.Inspect(ctx, string(numberedID(1))[:5], false)
	assert.NilError(t, err)
	assert.Assert(t, got.SizeRw == nil)
	_, _, err = c.Inspect(ctx, "d", false)
	assert.ErrorContains(t, err, "No such container: d")
}
