package compat

import (
	"encoding/json"
	"testing"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/system"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

// asJSON is how a client of the version sees an answer.
func asJSON(t *testing.T, v any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(v)
	assert.NilError(t, err)
	var m map[string]any
	assert.NilError(t, json.Unmarshal(raw, &m))
	return m
}

func has(m map[string]any, key string) bool {
	_, ok := m[key]
	return ok
}

func TestContainerAnswers(t *testing.T) {
	for _, v := range []Version{24, 44, 45, 46, 47, 48, 51} {
		s := &container.Summary{ImageManifestDescriptor: &ocispec.Descriptor{}}
		s.HostConfig.Annotations = map[string]string{"a": "b"}
		ContainerList(v, []*container.Summary{s})
		m := asJSON(t, s)
		assert.Equal(t, has(m, "ImageManifestDescriptor"), v >= 48)
		assert.Equal(t, has(m["HostConfig"].(map[string]any), "Annotations"), v >= 46)

		i := &container.InspectResponse{
			ContainerJSONBase:       &container.ContainerJSONBase{ID: "0123456789abcdef"},
			Config:                  &container.Config{Hostname: "web"},
			ImageManifestDescriptor: &ocispec.Descriptor{},
			NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{
				"bridge": {}, "blue": {Aliases: []string{"www"}}, "none": nil,
			}},
		}
		ContainerInspect(v, i)
		assert.Equal(t, has(asJSON(t, i), "ImageManifestDescriptor"), v >= 48)
		want := []string{"www"}
		if v < 45 {
			want = []string{"www", "0123456789ab", "web"}
		}
		assert.DeepEqual(t, i.NetworkSettings.Networks["blue"].Aliases, want)
		assert.Equal(t, len(i.NetworkSettings.Networks["bridge"].Aliases), 0)
	}
}

func TestContainerRequests(t *testing.T) {
	limit, size := int64(5), [2]uint{1, 2}
	for _, v := range []Version{24, 39, 40, 41, 42, 51} {
		u := &container.UpdateConfig{Resources: container.Resources{PidsLimit: &limit, KernelMemory: 1}}
		Update(v, u)
		assert.Equal(t, u.PidsLimit != nil, v >= 40)
		assert.Equal(t, u.KernelMemory != 0, v < 42)
		s := container.StopOptions{Signal: "INT"}
		Stop(v, &s)
		assert.Equal(t, s.Signal != "", v >= 42)
		e := container.ExecOptions{ConsoleSize: &size}
		ExecCreate(v, &e)
		assert.Equal(t, e.ConsoleSize != nil, v >= 42)
		for _, tty := range []bool{true, false} {
			x := container.ExecStartOptions{ConsoleSize: &size, Tty: tty}
			ExecStart(v, &x)
			assert.Equal(t, x.ConsoleSize != nil, tty && v >= 42)
		}
		assert.Equal(t, Multiplexed(v), v >= 42)
		f := filters.NewArgs()
		VolumePrune(v, f)
		assert.Equal(t, f.Contains("all"), v < 42)
		yes := true
		n := network.CreateRequest{CreateOptions: network.CreateOptions{EnableIPv4: &yes}}
		NetworkCreate(v, &n)
		assert.Equal(t, n.EnableIPv4 != nil, v >= 48)
	}
}

func TestImageAnswers(t *testing.T) {
	for _, v := range []Version{24, 42, 43, 44, 45, 47, 48, 49, 50, 51} {
		s := &image.Summary{Size: 7, Containers: 2, Descriptor: &ocispec.Descriptor{}}
		ImageList(v, []*image.Summary{s})
		m := asJSON(t, s)
		assert.Equal(t, s.Containers == 2, v >= 51)
		assert.Equal(t, has(m, "Descriptor"), v >= 48)
		assert.Equal(t, has(m, "VirtualSize"), v < 44)
		if v < 43 {
			assert.DeepEqual(t, m["RepoTags"], []any{"<none>:<none>"})
		} else {
			assert.DeepEqual(t, m["RepoTags"], []any{})
		}

		i := asJSON(t, ImageInspect(v, &image.InspectResponse{
			Size: 7, Descriptor: &ocispec.Descriptor{}, Container: "c", ContainerConfig: &container.Config{},
			Config: &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Cmd: []string{"sh"}}},
		}))
		assert.Equal(t, has(i, "Descriptor"), v >= 48)
		assert.Equal(t, has(i, "VirtualSize"), v < 44)
		assert.Equal(t, has(i, "ContainerConfig") && has(i, "Container"), v < 45)
		assert.Equal(t, i["Created"] != nil, v < 44)
		config := i["Config"].(map[string]any)
		assert.DeepEqual(t, config["Cmd"], []any{"sh"})
		assert.Equal(t, has(config, "Hostname"), v < 50)
		for _, always := range []string{"Entrypoint", "Env", "Labels", "User", "Volumes", "WorkingDir", "OnBuild"} {
			assert.Check(t, has(config, always), always)
		}
		assert.DeepEqual(t, i["RepoDigests"], []any{})
	}
	bare := asJSON(t, ImageInspect(51, &image.InspectResponse{}))
	assert.Check(t, cmp.Equal(bare["Config"].(map[string]any)["User"], ""))
	// The tables of fields are nobody's to change.
	again := asJSON(t, ImageInspect(51, &image.InspectResponse{}))
	assert.Equal(t, again["Config"].(map[string]any)["Cmd"], nil)
}

func TestInfoAnswers(t *testing.T) {
	for _, v := range []Version{24, 25, 38, 39, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51} {
		shared := map[string]system.RuntimeWithStatus{"runc": {Runtime: system.Runtime{Path: "runc"}, Status: map[string]string{"a": "b"}}}
		body, err := Info(v, &system.Info{
			KernelMemory: true, Runtimes: shared, Containerd: &system.ContainerdInfo{}, FirewallBackend: &system.FirewallInfo{},
			RuncCommit: system.Commit{ID: "x"}, RegistryConfig: &registry.ServiceConfig{}, MemTotal: 1 << 40,
			SecurityOptions: []string{"name=seccomp,profile=builtin"}, DiscoveredDevices: []system.DeviceInfo{{}},
		})
		assert.NilError(t, err)
		m := asJSON(t, body)
		assert.Equal(t, has(m, "DiscoveredDevices"), v >= 50)
		assert.Equal(t, has(m, "BridgeNfIptables"), v < 50)
		assert.Equal(t, has(m, "FirewallBackend"), v >= 49)
		assert.Equal(t, has(m["RuncCommit"].(map[string]any), "Expected"), v < 49)
		assert.Equal(t, has(m["RegistryConfig"].(map[string]any), "AllowNondistributableArtifactsCIDRs"), v < 47)
		assert.Equal(t, has(m, "Containerd"), v >= 46)
		assert.Equal(t, has(m["Runtimes"].(map[string]any)["runc"].(map[string]any), "status"), v >= 44)
		assert.Equal(t, shared["runc"].Status["a"], "b")
		assert.Equal(t, has(m, "KernelMemory"), v < 42)
		assert.Equal(t, m["KernelVersion"], map[bool]string{true: "<unknown>", false: ""}[v < 39])
		assert.DeepEqual(t, m["SecurityOptions"], map[bool][]any{true: {"seccomp"}, false: {"name=seccomp,profile=builtin"}}[v < 25])
		assert.Equal(t, m["MemTotal"], float64(1<<40))
	}
}

func TestDiskUsageAnswers(t *testing.T) {
	for _, v := range []Version{24, 41, 42, 43, 44, 51} {
		du := &types.DiskUsage{
			Images:     []*image.Summary{{Size: 7}},
			BuildCache: []*build.CacheRecord{{Size: 3, Parent: "p", Parents: []string{"p"}}},
		}
		DiskUsage(v, du)
		assert.Equal(t, du.Images[0].VirtualSize == 7, v < 44)
		assert.Equal(t, du.BuilderSize == 3, v < 42)
		assert.Equal(t, du.BuildCache[0].Parents == nil, v < 42)
		assert.Equal(t, du.BuildCache[0].Parent == "", v >= 42)
	}
}

func TestKnowsEvent(t *testing.T) {
	created := events.Message{Type: events.ImageEventType, Action: events.ActionCreate}
	assert.Assert(t, KnowsEvent(46, created) && !KnowsEvent(45, created))
	assert.Assert(t, KnowsEvent(24, events.Message{Type: events.ContainerEventType, Action: events.ActionCreate}))
}
