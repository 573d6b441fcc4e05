package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gotest.tools/v3/assert"
)

func TestCreateRefuses(t *testing.T) {
	store := openTestState(t)
	five := int64(5)
	cases := []struct {
		name   string
		change func(*spec)
		words  string
	}{
		{"no image", func(s *spec) { s.Image = "" }, "no command specified"},
		{"no image for a command", func(s *spec) { s.Image, s.Cmd = "", []string{"sh"} }, "no image specified: a container without an image is not supported"},
		{"null ulimit", func(s *spec) { s.host.Ulimits = []*container.Ulimit{nil} }, "invalid Ulimits: null is no element of it"},
		{"null device limit", func(s *spec) { s.host.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{nil} }, "invalid BlkioDeviceReadBps: null is no element of it"},
		{"work dir", func(s *spec) { s.WorkingDir = "tmp" }, "the working directory 'tmp' is invalid, it needs to be an absolute path"},
		{"stop signal", func(s *spec) { s.StopSignal = "FOO" }, "invalid signal: FOO"},
		{"env", func(s *spec) { s.Env = []string{"=x"} }, "invalid environment variable: =x"},
		{"health interval", func(s *spec) { s.Healthcheck = &container.HealthConfig{Interval: 1} }, "Interval in Healthcheck cannot be less than 1ms"},
		{"health retries", func(s *spec) { s.Healthcheck = &container.HealthConfig{Retries: -1} }, "Retries in Healthcheck cannot be negative"},
		{"--rm and restart", func(s *spec) { s.host.AutoRemove, s.host.RestartPolicy.Name = true, "always" },
			"can't create 'AutoRemove' container with restart policy"},
		{"policy", func(s *spec) { s.host.RestartPolicy.Name = "foo" }, "invalid restart policy: unknown policy 'foo'"},
		{"retries", func(s *spec) { s.host.RestartPolicy = container.RestartPolicy{Name: "always", MaximumRetryCount: 2} },
			"invalid restart policy: maximum retry count can only be used with 'on-failure'"},
		{"extra host", func(s *spec) { s.host.ExtraHosts = []string{"a"} }, `bad format for add-host: "a"`},
		{"host port", func(s *spec) { s.host.PortBindings = nat.PortMap{"80/tcp": {{HostPort: "x"}}} }, `invalid port specification: "x"`},
		{"port", func(s *spec) { s.host.PortBindings = nat.PortMap{"99999/tcp": nil} }, `invalid port specification: "99999"`},
		{"capability", func(s *spec) { s.host.CapAdd = []string{"FOO"} }, `invalid CapAdd: unknown capability: "CAP_FOO"`},
		{"isolation", func(s *spec) { s.host.Isolation = "hyperv" }, "invalid isolation 'hyperv' on linux"},
		{"memory", func(s *spec) { s.host.Memory = 1 << 20 }, "Minimum memory limit allowed is 6MB"},
		{"swap below memory", func(s *spec) { s.host.Memory, s.host.MemorySwap = 10<<20, 8<<20 }, "Minimum memoryswap limit should be larger than memory limit, see usage"},
		{"swap alone", func(s *spec) { s.host.MemorySwap = 8 << 20 }, "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{"swappiness", func(s *spec) { n := int64(101); s.host.MemorySwappiness = &n }, "Invalid value: 101, valid memory swappiness range is 0-100"},
		{"reservation", func(s *spec) { s.host.Memory, s.host.MemoryReservation = 10<<20, 20<<20 },
			"Minimum memory limit can not be less than memory reservation limit, see usage"},
		{"cpus", func(s *spec) { s.host.NanoCPUs = 1e15 }, "range of CPUs is from 0.01 to "},
		{"cpus and period", func(s *spec) { s.host.NanoCPUs, s.host.CPUPeriod = 1e9, 1000 }, "Conflicting options: Nano CPUs and CPU Period cannot both be set"},
		{"period", func(s *spec) { s.host.CPUPeriod = 1 }, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{"cpuset", func(s *spec) { s.host.CpusetCpus = "9" }, "Requested CPUs are not available - requested 9, available: 0-1"},
		{"cpuset syntax", func(s *spec) { s.host.CpusetCpus = "x" }, "Invalid value x for cpuset cpus"},
		{"blkio", func(s *spec) { s.host.BlkioWeight = 5 }, "Range of blkio weight is from 10 to 1000"},
		{"realtime", func(s *spec) { s.host.CPURealtimePeriod = 5 }, "kernel does not support CPU real-time scheduler"},
		{"ulimit name", func(s *spec) { s.host.Ulimits = []*container.Ulimit{{Name: "foo"}} }, "invalid ulimit type: foo"},
		{"ulimit order", func(s *spec) { s.host.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}} },
			"ulimit soft limit must be less than or equal to hard limit: 2 > 1"},
		{"ipc", func(s *spec) { s.host.IpcMode = "foo" }, "invalid IPC mode: foo"},
		{"pid", func(s *spec) { s.host.PidMode = "foo" }, "invalid PID mode: foo"},
		{"pid of nobody", func(s *spec) { s.host.PidMode = "container:nobody" }, "No such container: nobody"},
		{"ipc of nobody", func(s *spec) { s.host.IpcMode = "container:nobody" }, "No such container: nobody"},
		{"uts", func(s *spec) { s.host.UTSMode = "foo" }, "invalid UTS mode: foo"},
		{"cgroupns", func(s *spec) { s.host.CgroupnsMode = "foo" }, "invalid cgroup namespace mode: foo"},
		{"oom score", func(s *spec) { s.host.OomScoreAdj = 2000 }, "Invalid value 2000, range for oom score adj is [-1000, 1000]"},
		{"shm", func(s *spec) { s.host.ShmSize = -1 }, "SHM size can not be less than 0"},
		{"runtime", func(s *spec) { s.host.Runtime = "foo" }, "unknown or invalid runtime name: foo"},
		{"security", func(s *spec) { s.host.SecurityOpt = []string{"foo"} }, `invalid --security-opt 1: "foo"`},
		{"security value", func(s *spec) { s.host.SecurityOpt = []string{"no-new-privileges=maybe"} }, `invalid --security-opt 2: "no-new-privileges=maybe"`},
		{"storage", func(s *spec) { s.host.StorageOpt = map[string]string{"size": "1G"} }, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"},
		{"log driver", func(s *spec) { s.host.LogConfig.Type = "foo" }, "foo"},
		{"log option", func(s *spec) { s.host.LogConfig.Config = map[string]string{"foo": "1"} }, "unknown log opt 'foo' for json-file log driver"},
		{"annotation", func(s *spec) { s.host.Annotations = map[string]string{"": "x"} }, "the empty string is not permitted as an annotation key"},
		{"mount", func(s *spec) { s.host.Mounts = []mount.Mount{{Type: "foo", Target: "/x"}} }, `invalid mount config for type "foo": mount type unknown`},
		{"shared network with ports", func(s *spec) {
			s.host.NetworkMode, s.host.PublishAllPorts = "container:x", true
		}, "conflicting options: port publishing and the container type network mode"},
		{"shared network with hostname", func(s *spec) { s.host.NetworkMode, s.Hostname = "container:x", "h" },
			"conflicting options: hostname and the network mode"},
		{"shared network with nobody", func(s *spec) { s.host.NetworkMode = "container:" }, "invalid network mode: invalid container format container:<name|id>"},
		{"host's uts and hostname", func(s *spec) { s.host.UTSMode, s.Hostname = "host", "h" }, "conflicting options: hostname and the UTS mode"},
		{"link", func(s *spec) { s.host.Links = []string{"nobody:db"} }, "could not get container for nobody: No such container: nobody"},
		{"pids and so on pass", func(s *spec) { s.host.PidsLimit = &five; s.Image = "nope" }, "No such image: nope:latest"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			rig := newContainerRigOn(t, store)
			_, err := rig.Create(rig.ctx, rig.createReq("web", tc.change))
			class := errdefs.IsInvalidArgument
			if strings.HasPrefix(tc.words, "No such image") {
				class = errdefs.IsNotFound
			}
			failsWith(t, err, class, tc.words)
			rig.wantClean()
		})
	}
}

func TestCreateWarnsOfWhatItDiscards(t *testing.T) {
	rig := newContainerRig(t)
	weak := *allFeatures
	weak.MemoryLimit, weak.BlkioWeight = false, false
	rig.features = func() *sysinfo.SysInfo { return &weak }
	resp, err := rig.Create(rig.ctx, rig.createReq("web", func(s *spec) {
		s.host.Memory, s.host.BlkioWeight = 64<<20, 100
		s.host.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1}}
		s.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Second}
	}))
	assert.NilError(t, err)
	for _, w := range []string{"memory limit", "Block I/O weight", "BPS Block I/O read limit"} {
		assert.Check(t, strings.Contains(strings.Join(resp.Warnings, "\n"), w), w)
	}
	rec, err := rig.find(rig.ctx, "web")
	assert.NilError(t, err)
	assert.Equal(t, rec.HostConfig.Memory, int64(0))
	assert.Equal(t, rec.HostConfig.BlkioWeight, uint16(0))
	assert.Equal(t, len(rec.HostConfig.BlkioDeviceReadBps), 0)
	assert.Check(t, rec.State.Health == nil, "health that nobody probes is not claimed")
}

func TestCreateFillsIn(t *testing.T) {
	rig := newContainerRig(t)
	rig.addImage("app", container.Config{
		Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, Env: []string{"PATH=/bin", "A=image"}, User: "www", WorkingDir: "/srv",
		Labels: map[string]string{"a": "image", "b": "image"}, ExposedPorts: nat.PortSet{"80/tcp": {}}, StopSignal: "SIGQUIT",
	})
	key := rig.create("", func(s *spec) {
		s.Image, s.Env, s.Labels = "app", []string{"A=user"}, map[string]string{"a": "user", "nereid.host": "h9"} // the last as inspect gave it
		s.host.Memory = 64 << 20
	})
	rec := rig.record(key)
	assert.Equal(t, rec.Path, "/app")
	assert.DeepEqual(t, rec.Args, []string{"serve"})
	assert.DeepEqual(t, rec.Config.Env, []string{"A=user", "PATH=/bin"})
	assert.DeepEqual(t, rec.Config.Labels, map[string]string{"a": "user", "b": "image"})
	assert.Equal(t, rec.Config.User+rec.Config.WorkingDir+rec.Config.StopSignal, "www/srvSIGQUIT")
	assert.Equal(t, rec.Config.Hostname, key.ID.Short())
	assert.Check(t, strings.Contains(rec.Name, "_"), "an invented name: %q", rec.Name)
	hc := rec.HostConfig
	assert.Equal(t, string(hc.RestartPolicy.Name), "no")
	assert.Equal(t, string(hc.NetworkMode), network.NetworkBridge)
	assert.Equal(t, hc.MemorySwap, int64(128<<20))
	assert.Equal(t, hc.ShmSize, int64(64<<20))
	assert.Equal(t, hc.LogConfig.Type, "json-file")
	assert.Equal(t, string(hc.IpcMode), "private")
	assert.Equal(t, hc.Runtime, "runc")
	assert.DeepEqual(t, hc.MaskedPaths, []string{ // in Docker's order, as the paths below
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	})
	assert.Check(t, len(hc.ReadonlyPaths) > 0)
	assert.Check(t, strings.HasSuffix(rec.LogPath, "/containers/admin/"+string(key.ID)+"/"+string(key.ID)+"-json.log"), rec.LogPath)
	assert.Check(t, rec.Networks["bridge"] != nil)
}

func TestMergeImage(t *testing.T) {
	cases := []struct {
		name              string
		user, image, want container.Config
	}{
		{"all of the image's", container.Config{}, container.Config{Entrypoint: []string{"e"}, Cmd: []string{"c"}},
			container.Config{Entrypoint: []string{"e"}, Cmd: []string{"c"}}},
		{"own command", container.Config{Cmd: []string{"x"}}, container.Config{Entrypoint: []string{"e"}, Cmd: []string{"c"}},
			container.Config{Entrypoint: []string{"e"}, Cmd: []string{"x"}}},
		{"own entrypoint discards the image's command", container.Config{Entrypoint: []string{"x"}},
			container.Config{Entrypoint: []string{"e"}, Cmd: []string{"c"}}, container.Config{Entrypoint: []string{"x"}}},
		{"no entrypoint", container.Config{Entrypoint: []string{}, Cmd: []string{"x"}}, container.Config{Entrypoint: []string{"e"}},
			container.Config{Cmd: []string{"x"}}},
		{"environment by key", container.Config{Env: []string{"A", "B=1"}}, container.Config{Env: []string{"A=0", "B=0", "C=0"}},
			container.Config{Env: []string{"A", "B=1", "C=0"}}},
		{"volumes of both", container.Config{Volumes: map[string]struct{}{"/a": {}}}, container.Config{Volumes: map[string]struct{}{"/b": {}}},
			container.Config{Volumes: map[string]struct{}{"/a": {}, "/b": {}}}},
		{"health by field", container.Config{Healthcheck: &container.HealthConfig{Retries: 2}},
			container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "x"}, Retries: 9, Timeout: time.Second}},
			container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "x"}, Retries: 2, Timeout: time.Second}}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			mergeImage(&tc.user, &tc.image)
			assert.DeepEqual(t, tc.user, tc.want, cmpopts.EquateEmpty())
		})
	}
}

func TestUpdate(t *testing.T) {
	rig := newContainerRig(t)
	key := rig.run("web", func(s *spec) { s.host.Memory = 64 << 20 })
	update := func(r container.Resources, p container.RestartPolicy) error {
		_, err := rig.Update(rig.ctx, "web", container.UpdateConfig{Resources: r, RestartPolicy: p})
		return err
	}
	failsWith(t, update(container.Resources{Memory: 256 << 20}, container.RestartPolicy{}), errdefs.IsConflict,
		"Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	failsWith(t, update(container.Resources{Memory: 1}, container.RestartPolicy{}), errdefs.IsInvalidArgument, "Minimum memory limit allowed is 6MB")
	assert.NilError(t, update(container.Resources{Memory: 32 << 20}, container.RestartPolicy{Name: "always"}))
	rec := rig.record(key)
	assert.Equal(t, rec.HostConfig.Memory, int64(32<<20))
	assert.Equal(t, rec.HostConfig.MemorySwap, int64(128<<20))
	assert.Equal(t, string(rec.HostConfig.RestartPolicy.Name), "always")
	assert.Equal(t, rig.w.tasks[key].spec.HostConfig.Memory, int64(32<<20))
	rig.wantEvents("create", "start", "update")

	rig.run("gone", func(s *spec) { s.host.AutoRemove = true })
	_, err := rig.Update(rig.ctx, "gone", container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: "always"}})
	failsWith(t, err, errdefs.IsConflict, "Restart policy cannot be updated because AutoRemove is enabled for the container")
}

func TestLinkToWhatIsNotThere(t *testing.T) {
	rig := newContainerRig(t)
	rig.run("other", func(s *spec) { s.host.NetworkMode = "none" })
	rig.create("from", func(s *spec) { s.host.Links = []string{"other"} })
	failsWith(t, rig.Start(rig.ctx, "from"), errdefs.IsInternal, "Cannot link to /other, as it does not belong to the default network")
	rig.create("db")
	rig.create("web", func(s *spec) { s.host.Links = []string{"db:database"} })
	failsWith(t, rig.Start(rig.ctx, "web"), errdefs.IsInternal, "Cannot link to a non running container: /db AS /web/database")
	assert.NilError(t, rig.Start(rig.ctx, "db"))
	assert.NilError(t, rig.Start(rig.ctx, "web"))
}
