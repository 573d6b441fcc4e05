package engine

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// measuredContainers and measuredImages are what disk usage measures.
type measuredContainers []*container.Summary

func (l measuredContainers) List(_ context.Context, opts container.ListOptions) ([]*container.Summary, error) {
	if !opts.All || !opts.Size {
		return nil, errdefs.ErrInternal.WithMessage("asked for less than all containers with sizes")
	}
	return l, nil
}

type measuredImages []*image.Summary

func (l measuredImages) List(_ context.Context, opts image.ListOptions) ([]*image.Summary, error) {
	if !opts.SharedSize {
		return nil, errdefs.ErrInternal.WithMessage("asked without shared sizes")
	}
	return l, nil
}

func (measuredImages) Login(_ context.Context, auth *registry.AuthConfig) (status, token string, err error) {
	if auth.Password != "secret" {
		return "", "", errdefs.ErrUnauthenticated
	}
	return "Login Succeeded", auth.Username + "'s token", nil
}

func newTestSystem(t *testing.T, cfg SystemConfig) *System {
	t.Helper()
	d := Deps{Host: "h1", DC: "dc1", Version: "1.2.3", DataRoot: "/data", State: openTestState(t)}
	return NewSystem(d, cfg, measuredContainers{
		{ID: "a", State: container.StateRunning, SizeRw: 10, ImageManifestDescriptor: &ocispec.Descriptor{}},
		{ID: "b", State: container.StateExited, SizeRw: 5},
	}, measuredImages{
		{ID: "1", Containers: 1, Size: 100, SharedSize: 40},
		{ID: "2", Containers: 0, Size: 50, SharedSize: 40},
	}, NewVolumes(d))
}

func admin() context.Context { return nereid.WithAccount(context.Background(), nereid.Admin) }

func TestInfo(t *testing.T) {
	s := newTestSystem(t, SystemConfig{Advertise: netip.MustParseAddr("192.0.2.1"), Labels: map[string]string{"rack": "r1"}, Warnings: []string{"careful"}})
	for i, status := range []string{state.StatusRunning, state.StatusRestarting, state.StatusPaused, state.StatusExited, state.StatusCreated} {
		commitOps(t, s.State, state.Create(&state.Container{
			Account: nereid.Admin, ID: nereid.NewContainerID(), Name: string(rune('a' + i)), Host: "h1", State: state.RunState{Status: status},
		}))
	}
	commitOps(t, s.State, state.Create(&state.Container{Account: "bob", ID: nereid.NewContainerID(), Name: "his", Host: "h1"}),
		state.Create(&state.Image{Account: nereid.Admin, ID: "sha256:1"}), state.Put(s.HostRecord(admin())))

	info, err := s.Info(admin())

	assert.NilError(t, err)
	assert.Equal(t, info.Containers, 5)
	assert.Equal(t, info.ContainersRunning, 2)
	assert.Equal(t, info.ContainersPaused, 1)
	assert.Equal(t, info.ContainersStopped, 2)
	assert.Equal(t, info.Images, 1)
	assert.Equal(t, info.Name, "dc1")
	assert.Equal(t, info.Driver, "overlayfs")
	assert.Equal(t, info.DriverStatus[0], [2]string{"Hosts", "1"})
	assert.Equal(t, info.DriverStatus[1][0], " h1")
	assert.Equal(t, info.NCPU, runtime.NumCPU())
	assert.Assert(t, info.MemTotal > 1<<20)
	assert.DeepEqual(t, info.Labels, []string{"rack=r1"})
	assert.Equal(t, string(info.Swarm.LocalNodeState), "inactive")
	assert.Equal(t, info.CgroupDriver, "cgroupfs")
	assert.Assert(t, info.CgroupVersion == "1" || info.CgroupVersion == "2")
	assert.Assert(t, slices.Contains(info.Warnings, "careful"))
	assert.Assert(t, info.OperatingSystem != "" && info.KernelVersion != "" && info.Architecture != "")
	assert.Equal(t, info.ServerVersion, "1.2.3")
	assert.Equal(t, info.DefaultRuntime, "runc")
	_, ok := info.Runtimes["runc"]
	assert.Assert(t, ok)
	assert.Assert(t, info.RegistryConfig.IndexConfigs["docker.io"].Official)
}

func TestFleetIDIsOneForAllEndpoints(t *testing.T) {
	s := newTestSystem(t, SystemConfig{})
	first, err := s.Info(admin())
	assert.NilError(t, err)
	assert.Assert(t, regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(first.ID), first.ID)
	other := NewSystem(s.Deps, SystemConfig{}, nil, nil, nil)
	second, err := other.Info(nereid.WithAccount(context.Background(), "bob"))
	assert.NilError(t, err)
	assert.Equal(t, first.ID, second.ID)
}

func TestInfoSumsOverHosts(t *testing.T) {
	s := newTestSystem(t, SystemConfig{Name: "fleet"})
	commitOps(t, s.State,
		state.Put(&state.Host{Name: "h2", CPUs: 4, Memory: 8 << 30, OS: "Debian", KernelVersion: "6.1", Labels: map[string]string{"rack": "r1"}}),
		state.Put(&state.Host{Name: "h1", CPUs: 2, Memory: 4 << 30, Advertise: netip.MustParseAddr("192.0.2.1"), OS: "Debian", KernelVersion: "6.1", Labels: map[string]string{"rack": "r1", "ssd": "yes"}}))
	info, err := s.Info(admin())
	assert.NilError(t, err)
	assert.Equal(t, info.Name, "fleet")
	assert.Equal(t, info.NCPU, 6)
	assert.Equal(t, info.MemTotal, int64(12<<30))
	assert.DeepEqual(t, info.DriverStatus, [][2]string{{"Hosts", "2"}, {" h1", "192.0.2.1, 2 CPUs, 4GiB, Debian 6.1"}, {" h2", "4 CPUs, 8GiB, Debian 6.1"}})
	assert.DeepEqual(t, info.Labels, []string{"rack=r1", "ssd=yes"})
}

func TestVersionNeedsNoState(t *testing.T) {
	dir := t.TempDir()
	runc, init := filepath.Join(dir, "runc"), filepath.Join(dir, "tini")
	assert.NilError(t, os.WriteFile(runc, []byte("#!/bin/sh\nprintf 'runc version 1.5.2\\ncommit: v1.5.2-0-gabc\\nspec: 1.3.0\\n'\n"), 0o755))
	assert.NilError(t, os.WriteFile(init, []byte("#!/bin/sh\necho 'tini version 0.19.0 - git.de40ad0'\n"), 0o755))
	s := NewSystem(Deps{Version: "1.2.3"}, SystemConfig{Runc: runc, Init: init}, nil, nil, nil)

	v := s.Version(context.Background())

	assert.Equal(t, v.Version, "1.2.3")
	assert.Equal(t, v.APIVersion, "1.51")
	assert.Equal(t, v.MinAPIVersion, "1.24")
	var names []string
	for _, c := range v.Components {
		names = append(names, c.Name)
	}
	assert.DeepEqual(t, names, []string{"Engine", "containerd", "runc", "docker-init"})
	assert.Equal(t, v.Components[2].Version, "1.5.2")
	assert.Equal(t, v.Components[2].Details["GitCommit"], "v1.5.2-0-gabc")
	assert.Equal(t, v.Components[3].Version, "0.19.0")
	assert.Equal(t, v.Components[3].Details["GitCommit"], "de40ad0")
}

func TestVersionTellsTheBuild(t *testing.T) {
	v := NewSystem(Deps{}, SystemConfig{Commit: "abc1234", Built: "2026-01-02T03:04:05Z"}, nil, nil, nil).Version(context.Background())
	assert.Equal(t, v.GitCommit, "abc1234")
	assert.Equal(t, v.BuildTime, "2026-01-02T03:04:05Z")
	assert.Equal(t, v.Components[0].Details["GitCommit"], "abc1234")
	assert.Equal(t, v.Components[0].Details["BuildTime"], "2026-01-02T03:04:05Z")
}

func TestVersionOfWhatIsNotThere(t *testing.T) {
	s := NewSystem(Deps{}, SystemConfig{Runc: "/no/such"}, nil, nil, nil)
	assert.Equal(t, s.Version(context.Background()).Components[2].Version, "N/A")
}

func TestDiskUsage(t *testing.T) {
	s := newTestSystem(t, SystemConfig{})
	layer := func(d string) ocispec.Descriptor { return ocispec.Descriptor{Digest: digest.Digest("sha256:" + d)} }
	commitOps(t, s.State,
		state.Create(&state.Image{Account: nereid.Admin, ID: "sha256:1", Layers: []ocispec.Descriptor{layer("a"), layer("b")}, Sizes: []int64{40, 60}}),
		state.Create(&state.Image{Account: nereid.Admin, ID: "sha256:2", Layers: []ocispec.Descriptor{layer("a"), layer("c")}, Sizes: []int64{40, 10}}))

	du, err := s.DiskUsage(admin(), backend.DiskUsageOptions{Containers: true, Images: true, Volumes: true})

	assert.NilError(t, err)
	assert.Equal(t, du.Containers.TotalSize, int64(15))
	assert.Equal(t, du.Containers.Reclaimable, int64(5))
	assert.Assert(t, du.Containers.Items[0].ImageManifestDescriptor == nil)
	assert.Equal(t, du.Images.TotalSize, int64(110), "a shared layer counts once")
	assert.Equal(t, du.Images.Reclaimable, int64(50))
	assert.Equal(t, len(du.Volumes.Items), 0)
	assert.Assert(t, du.BuildCache.Items != nil)

	du, err = s.DiskUsage(admin(), backend.DiskUsageOptions{Volumes: true})
	assert.NilError(t, err)
	assert.Assert(t, du.Containers == nil && du.Images == nil && du.Volumes != nil)
}

func TestLoginIsTheRegistrys(t *testing.T) {
	s := newTestSystem(t, SystemConfig{})
	status, token, err := s.Login(admin(), &registry.AuthConfig{Username: "ann", Password: "secret"})
	assert.NilError(t, err)
	assert.Equal(t, status+"/"+token, "Login Succeeded/ann's token")
	_, _, err = s.Login(admin(), &registry.AuthConfig{Username: "ann", Password: "wrong"})
	assert.ErrorType(t, err, errdefs.IsUnauthorized)
}

func TestInfoShowsRegistries(t *testing.T) {
	c := registryConfig([]string{"10.0.0.0/8", "reg.example:5000"}, []string{"https://m.example", "http://10.0.0.1:5000/"})
	assert.DeepEqual(t, c.Mirrors, []string{"https://m.example/", "http://10.0.0.1:5000/"})
	assert.DeepEqual(t, c.IndexConfigs["docker.io"].Mirrors, c.Mirrors)
	assert.Equal(t, len(c.InsecureRegistryCIDRs), 3)
	assert.Equal(t, c.InsecureRegistryCIDRs[2].String(), "10.0.0.0/8")
	assert.Equal(t, c.IndexConfigs["reg.example:5000"].Secure, false)
	assert.Equal(t, c.IndexConfigs["docker.io"].Secure, true)
}

func TestParseOSRelease(t *testing.T) {
	got := parseOSRelease([]byte("# comment\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\nID=debian\n\nnonsense\n"))
	assert.DeepEqual(t, got, map[string]string{"PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)", "VERSION_ID": "12", "ID": "debian"})
}

func TestProxySettingHidesPasswords(t *testing.T) {
	t.Setenv("SOME_PROXY", "http://me:secret@proxy:3128/")
	assert.Equal(t, proxySetting("NO_SUCH_VARIABLE", "SOME_PROXY"), "http://xxxxx:xxxxx@proxy:3128/")
	assert.Equal(t, proxySetting("NO_SUCH_VARIABLE"), "")
}
