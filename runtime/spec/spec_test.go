package spec

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// testHost is a machine of which the tests know everything.
func testHost() Host {
	return Host{
		SwapLimit: true, Seccomp: true, RecursiveReadOnly: true,
		Capabilities:      []string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"},
		KnownCapabilities: []string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_BPF"},
		MaskedPaths:       []string{"/proc/kcore"},
		SysctlExists:      func(string) bool { return true },
		AllDevices: func() ([]specs.LinuxDevice, error) {
			return []specs.LinuxDevice{{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232}}, nil
		},
		Devices: func(onHost, inContainer string) ([]specs.LinuxDevice, error) {
			if onHost != "/dev/kvm" {
				return nil, errors.New(`error gathering device information while adding custom device "` + onHost + `": no such file or directory`)
			}
			return []specs.LinuxDevice{{Path: inContainer, Type: "c", Major: 10, Minor: 232}}, nil
		},
		DeviceNumber: func(string) (int64, int64, error) { return 8, 16, nil },
		MountShared:  func(path string) Sharing { return map[string]Sharing{"/shared": shared, "/slave": slave}[path] },
		MountPoint:   func(string) string { return "/" },
	}
}

func testInput(with ...func(*Input)) Input {
	in := Input{
		ID: "c1", Path: "sh", Args: []string{"-c", "true"}, Hostname: "c1", Rootfs: "/rootfs", CgroupParent: "/nereid",
		Config: &container.Config{}, HostConfig: &container.HostConfig{}, Netns: "/run/netns/c1", Host: testHost(),
	}
	for _, w := range with {
		w(&in)
	}
	return in
}

func build(t *testing.T, with ...func(*Input)) *specs.Spec {
	t.Helper()
	s, err := Build(testInput(with...))
	assert.NilError(t, err)
	return s
}

func TestDefaults(t *testing.T) {
	s := build(t)
	assert.DeepEqual(t, s.Process.Args, []string{"sh", "-c", "true"})
	assert.DeepEqual(t, s.Process.Env, []string{"PATH=" + defaultPath, "HOSTNAME=c1"})
	assert.Equal(t, s.Process.Cwd, "/")
	assert.Equal(t, s.Hostname, "c1")
	assert.Equal(t, s.Root.Path, "/rootfs")
	assert.Equal(t, s.Linux.CgroupsPath, "/nereid/c1")
	assert.Equal(t, len(s.Process.Capabilities.Bounding), 14)
	assert.Assert(t, s.Linux.Seccomp != nil)
	assert.DeepEqual(t, s.Linux.MaskedPaths, []string{"/proc/kcore"})
	assert.DeepEqual(t, s.Linux.ReadonlyPaths, DefaultReadonlyPaths())
	assert.DeepEqual(t, s.Linux.Sysctl, map[string]string{
		"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0",
	})
	assert.DeepEqual(t, destinations(s), []string{"/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"})
	assert.DeepEqual(t, namespaceTypes(s), []string{"mount", "network", "uts", "pid", "ipc"})
	assert.Equal(t, len(s.Linux.Resources.Devices), 8)
	assert.Assert(t, is.Nil(s.Linux.Resources.BlockIO))
	assert.Assert(t, is.Nil(s.Linux.Resources.Memory))
}

func destinations(s *specs.Spec) []string {
	var out []string
	for _, m := range s.Mounts {
		out = append(out, m.Destination)
	}
	return out
}

func namespaceTypes(s *specs.Spec) []string {
	var out []string
	for _, n := range s.Linux.Namespaces {
		name := string(n.Type)
		if n.Path != "" && n.Type != specs.NetworkNamespace {
			name += "=" + n.Path
		}
		out = append(out, name)
	}
	return out
}

func mountAt(t *testing.T, s *specs.Spec, dest string) specs.Mount {
	t.Helper()
	i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == dest })
	assert.Assert(t, i >= 0, "nothing is mounted at %s", dest)
	return s.Mounts[i]
}

func TestEnv(t *testing.T) {
	path := "PATH=" + defaultPath
	for _, c := range []struct {
		name       string
		tty        bool
		env, extra []string
		want       []string
	}{
		{"none", false, nil, nil, []string{path, "HOSTNAME=h"}},
		{"terminal", true, nil, nil, []string{path, "HOSTNAME=h", "TERM=xterm"}},
		{"overridden in place", true, []string{"TERM=vt100", "A=1", "PATH=/bin"}, nil, []string{"PATH=/bin", "HOSTNAME=h", "TERM=vt100", "A=1"}},
		{"last wins", false, []string{"A=1", "A=2"}, nil, []string{path, "HOSTNAME=h", "A=2"}},
		{"removed", false, []string{"HOSTNAME", "A=1"}, nil, []string{path, "A=1"}},
		{"extra", false, []string{"A=1"}, []string{"B=2", "A=3"}, []string{path, "HOSTNAME=h", "A=3", "B=2"}},
		{"empty value", false, []string{"A="}, nil, []string{path, "HOSTNAME=h", "A="}},
		{"removing nothing", false, []string{"NONE"}, nil, []string{path, "HOSTNAME=h"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.DeepEqual(t, Env("h", nil, &container.Config{Env: c.env}, c.tty, c.extra), c.want)
		})
	}
}

func TestCapabilities(t *testing.T) {
	defaults := defaultCapabilities()
	for _, c := range []struct {
		name       string
		add, drop  []string
		privileged bool
		want       []string
		err        string
	}{
		{name: "defaults", want: defaults},
		{name: "added", add: []string{"net_admin"}, want: append(defaultCapabilities(), "CAP_NET_ADMIN")},
		{name: "added with prefix", add: []string{"CAP_NET_ADMIN"}, want: append(defaultCapabilities(), "CAP_NET_ADMIN")},
		{name: "dropped", drop: []string{"chown"}, want: defaults[1:]},
		{name: "all dropped", drop: []string{"ALL"}, want: nil},
		{name: "all dropped but one", add: []string{"CHOWN"}, drop: []string{"all"}, want: []string{"CAP_CHOWN"}},
		{name: "all added but one", add: []string{"ALL"}, drop: []string{"SYS_ADMIN"}, want: []string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_NET_RAW"}},
		{name: "privileged", privileged: true, drop: []string{"ALL"}, want: testHost().Capabilities},
		{name: "unknown", add: []string{"FLY"}, err: `unknown capability: "CAP_FLY"`},
		{name: "unavailable", add: []string{"BPF"}, err: `capability not supported by your kernel or not available in the current environment: "CAP_BPF"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Capabilities(testHost(), c.add, c.drop, c.privileged)
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
				assert.Assert(t, errdefs.IsInvalidArgument(err))
				return
			}
			assert.NilError(t, err)
			assert.Assert(t, slices.Equal(got, c.want), "%v", got)
		})
	}
}

func TestNamespaces(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(*Input)
		want []string
	}{
		{"host network", func(in *Input) { in.Netns = "" }, []string{"mount", "uts", "pid", "ipc"}},
		{"network disabled", func(in *Input) { in.Netns, in.Config.NetworkDisabled = "", true }, []string{"mount", "network", "uts", "pid", "ipc"}},
		{"host everything", func(in *Input) {
			in.Netns = ""
			in.HostConfig.PidMode, in.HostConfig.IpcMode, in.HostConfig.UTSMode = "host", "host", "host"
		}, []string{"mount"}},
		{"joined", func(in *Input) {
			in.HostConfig.PidMode, in.HostConfig.IpcMode = "container:x", "container:x"
			in.JoinPID, in.JoinIPC, in.ShmPath = 5, 6, "/shm"
		}, []string{"mount", "network", "uts", "pid=/proc/5/ns/pid", "ipc=/proc/6/ns/ipc"}},
		{"private cgroup", func(in *Input) { in.HostConfig.CgroupnsMode = "private" }, []string{"mount", "network", "uts", "pid", "ipc", "cgroup"}},
		{"cgroup v2", func(in *Input) { in.Host.Unified = true }, []string{"mount", "network", "uts", "pid", "ipc", "cgroup"}},
		{"cgroup v2, host's", func(in *Input) { in.Host.Unified, in.HostConfig.CgroupnsMode = true, "host" }, []string{"mount", "network", "uts", "pid", "ipc"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.DeepEqual(t, namespaceTypes(build(t, c.with)), c.want)
		})
	}
	assert.Equal(t, build(t, func(in *Input) { in.HostConfig.UTSMode = "host" }).Hostname, "")
}

func TestSysctls(t *testing.T) {
	host := build(t, func(in *Input) { in.HostConfig.NetworkMode, in.Netns = "host", "" })
	assert.Equal(t, len(host.Linux.Sysctl), 0)
	joined := build(t, func(in *Input) { in.HostConfig.NetworkMode = "container:x" })
	assert.Equal(t, len(joined.Linux.Sysctl), 0)
	own := build(t, func(in *Input) {
		in.Config.Domainname = "example.com"
		in.HostConfig.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "1024", "net.core.somaxconn": "9"}
		in.Host.SysctlExists = func(name string) bool { return name != "net.ipv4.ping_group_range" }
	})
	assert.DeepEqual(t, own.Linux.Sysctl, map[string]string{
		"kernel.domainname": "example.com", "net.ipv4.ip_unprivileged_port_start": "1024", "net.core.somaxconn": "9",
	})
}

func TestResources(t *testing.T) {
	swappiness, off, limit, none := int64(30), true, int64(20), int64(0)
	for _, c := range []struct {
		name string
		with func(*container.HostConfig)
		got  func(*specs.LinuxResources) any
		want any
	}{
		{"memory", func(h *container.HostConfig) { h.Memory = 100 }, func(r *specs.LinuxResources) any { return *r.Memory.Limit }, int64(100)},
		{"as much swap", func(h *container.HostConfig) { h.Memory = 100 }, func(r *specs.LinuxResources) any { return *r.Memory.Swap }, int64(200)},
		{"swap", func(h *container.HostConfig) { h.Memory, h.MemorySwap = 100, 150 }, func(r *specs.LinuxResources) any { return *r.Memory.Swap }, int64(150)},
		{"unlimited swap", func(h *container.HostConfig) { h.Memory, h.MemorySwap = 100, -1 }, func(r *specs.LinuxResources) any { return *r.Memory.Swap }, int64(-1)},
		{"reservation", func(h *container.HostConfig) { h.MemoryReservation = 50 }, func(r *specs.LinuxResources) any { return *r.Memory.Reservation }, int64(50)},
		{"swappiness", func(h *container.HostConfig) { h.MemorySwappiness = &swappiness }, func(r *specs.LinuxResources) any { return *r.Memory.Swappiness }, uint64(30)},
		{"oom killer", func(h *container.HostConfig) { h.OomKillDisable = &off }, func(r *specs.LinuxResources) any { return *r.Memory.DisableOOMKiller }, true},
		{"cpus", func(h *container.HostConfig) { h.NanoCPUs = 15e8 }, func(r *specs.LinuxResources) any { return []int64{int64(*r.CPU.Period), *r.CPU.Quota} }, []int64{100000, 150000}},
		{"quota", func(h *container.HostConfig) { h.CPUPeriod, h.CPUQuota = 50000, 25000 }, func(r *specs.LinuxResources) any { return []int64{int64(*r.CPU.Period), *r.CPU.Quota} }, []int64{50000, 25000}},
		{"shares", func(h *container.HostConfig) { h.CPUShares = 512 }, func(r *specs.LinuxResources) any { return *r.CPU.Shares }, uint64(512)},
		{"cpusets", func(h *container.HostConfig) { h.CpusetCpus, h.CpusetMems = "0-1", "0" }, func(r *specs.LinuxResources) any { return r.CPU.Cpus + r.CPU.Mems }, "0-10"},
		{"pids", func(h *container.HostConfig) { h.PidsLimit = &limit }, func(r *specs.LinuxResources) any { return *r.Pids.Limit }, int64(20)},
		{"pids unlimited", func(h *container.HostConfig) { h.PidsLimit = &none }, func(r *specs.LinuxResources) any { return *r.Pids.Limit }, int64(-1)},
		{"weight", func(h *container.HostConfig) { h.BlkioWeight = 300 }, func(r *specs.LinuxResources) any { return *r.BlockIO.Weight }, uint16(300)},
		{"device rate", func(h *container.HostConfig) {
			h.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{{Path: "/dev/sdb", Rate: 99}}
		}, func(r *specs.LinuxResources) any {
			d := r.BlockIO.ThrottleReadBpsDevice[0]
			return []int64{d.Major, d.Minor, int64(d.Rate)}
		}, []int64{8, 16, 99}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := build(t, func(in *Input) { c.with(in.HostConfig) })
			assert.DeepEqual(t, c.got(s.Linux.Resources), c.want)
		})
	}
	noSwap := build(t, func(in *Input) { in.HostConfig.Memory, in.Host.SwapLimit = 100, false })
	assert.Assert(t, is.Nil(noSwap.Linux.Resources.Memory.Swap))
}

func TestUpdateChangesWhatItNames(t *testing.T) {
	r, err := Resources(container.Resources{Memory: 100})
	assert.NilError(t, err)
	assert.Equal(t, *r.Memory.Limit, int64(100))
	assert.Assert(t, is.Nil(r.Memory.Swap), "an update has no default for swap")
	assert.Assert(t, is.Nil(r.CPU))
	assert.Assert(t, is.Nil(r.Pids))
}

func TestDevices(t *testing.T) {
	s := build(t, func(in *Input) {
		in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/kvm", PathInContainer: "/dev/virt", CgroupPermissions: "rw"}}
		in.HostConfig.DeviceCgroupRules = []string{"c 1:* rm"}
	})
	assert.Equal(t, s.Linux.Devices[0].Path, "/dev/virt")
	rules := s.Linux.Resources.Devices
	assert.Equal(t, rules[0].Allow, false)
	assert.Equal(t, rules[8].Access, "rw")
	assert.Equal(t, *rules[9].Minor, int64(-1))

	p := build(t, func(in *Input) { in.HostConfig.Privileged = true })
	assert.Equal(t, len(p.Linux.Devices), 1)
	assert.DeepEqual(t, p.Linux.Resources.Devices, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}})
}

func TestPrivileged(t *testing.T) {
	s := build(t, func(in *Input) { in.HostConfig.Privileged = true })
	assert.Assert(t, is.Nil(s.Linux.Seccomp))
	assert.Equal(t, len(s.Linux.MaskedPaths), 0)
	assert.Equal(t, len(s.Linux.ReadonlyPaths), 0)
	assert.Assert(t, !slices.Contains(mountAt(t, s, "/sys").Options, "ro"))
	assert.Assert(t, !slices.Contains(mountAt(t, s, "/sys/fs/cgroup").Options, "ro"))
}

func TestPathsAsAsked(t *testing.T) {
	s := build(t, func(in *Input) {
		in.HostConfig.MaskedPaths, in.HostConfig.ReadonlyPaths = []string{}, []string{"/proc/x"}
	})
	assert.Equal(t, len(s.Linux.MaskedPaths), 0)
	assert.DeepEqual(t, s.Linux.ReadonlyPaths, []string{"/proc/x"})
}

func TestSecurityOpts(t *testing.T) {
	nnp := build(t, func(in *Input) { in.HostConfig.SecurityOpt = []string{"no-new-privileges"} })
	assert.Equal(t, nnp.Process.NoNewPrivileges, true)
	nnp = build(t, func(in *Input) { in.HostConfig.SecurityOpt = []string{"no-new-privileges:false"} })
	assert.Equal(t, nnp.Process.NoNewPrivileges, false)
	free := build(t, func(in *Input) { in.HostConfig.SecurityOpt = []string{"seccomp=unconfined"} })
	assert.Assert(t, is.Nil(free.Linux.Seccomp))
	own := build(t, func(in *Input) { in.HostConfig.SecurityOpt = []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`} })
	assert.Equal(t, own.Linux.Seccomp.DefaultAction, specs.ActAllow)
	cg := build(t, func(in *Input) { in.HostConfig.SecurityOpt = []string{"writable-cgroups=true"} })
	assert.Assert(t, !slices.Contains(mountAt(t, cg, "/sys/fs/cgroup").Options, "ro"))
	armor := build(t, func(in *Input) { in.Host.AppArmor = func() (string, error) { return "nereid-default", nil } })
	assert.Equal(t, armor.Process.ApparmorProfile, "nereid-default")
	armor = build(t, func(in *Input) {
		in.Host.AppArmor = func() (string, error) { return "nereid-default", nil }
		in.HostConfig.SecurityOpt = []string{"apparmor=mine"}
	})
	assert.Equal(t, armor.Process.ApparmorProfile, "mine")
}

// The default profile opens system calls to who has the capability for them.
func TestSeccompLooksAtCapabilities(t *testing.T) {
	allows := func(s *specs.Spec, call string) bool {
		return slices.ContainsFunc(s.Linux.Seccomp.Syscalls, func(c specs.LinuxSyscall) bool {
			return c.Action == specs.ActAllow && len(c.Args) == 0 && slices.Contains(c.Names, call)
		})
	}
	assert.Assert(t, !allows(build(t), "mount"))
	assert.Assert(t, allows(build(t, func(in *Input) { in.HostConfig.CapAdd = []string{"SYS_ADMIN"} }), "mount"))
}

func TestSeccompWithoutX32(t *testing.T) {
	has := func(x32 func() bool) bool {
		s := build(t, func(in *Input) { in.Host.X32 = x32 })
		return slices.Contains(s.Linux.Seccomp.Architectures, specs.ArchX32)
	}
	if !has(nil) {
		t.Skip("no x32 on this architecture")
	}
	assert.Assert(t, has(func() bool { return true }))
	assert.Assert(t, !has(func() bool { return false }))
}

func TestKernelHasX32(t *testing.T) {
	for _, c := range []struct {
		name, symbols string
		want          bool
	}{
		{"has", "0 T do_syscall_64\n0 D x32_sys_call_table\n", true},
		{"has not", "0 T x64_sys_call\n0 T do_syscall_64\n", false},
		{"unknown", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kallsyms")
			assert.NilError(t, os.WriteFile(path, []byte(c.symbols), 0o600))
			assert.Equal(t, kernelHasX32(path), c.want)
		})
	}
	assert.Equal(t, kernelHasX32("/nothere"), true)
}

func TestMounts(t *testing.T) {
	s := build(t, func(in *Input) {
		in.HostConfig.Tmpfs = map[string]string{"/scratch": "size=1m,exec"}
		in.HostConfig.ShmSize = 1 << 20
		in.OwnRoots = []string{"/shared/nereid", "/slave/nereid"}
		in.Mounts = []Mount{
			{Type: "bind", Source: "/deep", Destination: "/a/b/c", Recursive: true},
			{Type: "bind", Source: "/a", Destination: "/a", Recursive: true, ReadOnly: true},
			{Type: "bind", Source: "/flat", Destination: "/flat", ReadOnly: true},
			{Type: "bind", Source: "/shared", Destination: "/holds", Recursive: true},
			{Type: "bind", Source: "/slave", Destination: "/holds2", Recursive: true},
			{Type: "tmpfs", Destination: "/t", Options: []string{"size=64k"}},
		}
	})
	assert.DeepEqual(t, mountAt(t, s, "/a/b/c").Options, []string{"rbind", "rprivate"})
	assert.DeepEqual(t, mountAt(t, s, "/a").Options, []string{"rbind", "rro", "rprivate"})
	assert.DeepEqual(t, mountAt(t, s, "/flat").Options, []string{"bind", "ro", "rprivate"})
	assert.DeepEqual(t, mountAt(t, s, "/holds").Options, []string{"rbind", "rslave"})
	assert.DeepEqual(t, mountAt(t, s, "/holds2").Options, []string{"rbind", "rslave"})
	assert.Equal(t, s.Linux.RootfsPropagation, "rslave")
	assert.Assert(t, slices.Contains(mountAt(t, s, "/t").Options, "noexec"))
	scratch := mountAt(t, s, "/scratch").Options
	assert.Assert(t, slices.Contains(scratch, "exec") && !slices.Contains(scratch, "noexec"), "%v", scratch)
	assert.Assert(t, slices.Contains(mountAt(t, s, "/dev/shm").Options, "size=1048576"))
	all := destinations(s)
	assert.Assert(t, slices.Index(all, "/a") < slices.Index(all, "/a/b/c"), "%v", all)
}

func TestMountsOfTheUserReplaceDefaults(t *testing.T) {
	shm := build(t, func(in *Input) { in.Mounts = []Mount{{Type: "tmpfs", Destination: "/dev/shm"}} })
	assert.Equal(t, len(shm.Mounts), 7)
	dev := build(t, func(in *Input) { in.Mounts = []Mount{{Type: "bind", Source: "/dev", Destination: "/dev"}} })
	assert.DeepEqual(t, destinations(dev), []string{"/proc", "/sys", "/sys/fs/cgroup", "/dev"})
	none := build(t, func(in *Input) { in.HostConfig.IpcMode = "none" })
	assert.Assert(t, !slices.Contains(destinations(none), "/dev/shm"))
	host := build(t, func(in *Input) { in.HostConfig.IpcMode = "host" })
	assert.Equal(t, mountAt(t, host, "/dev/shm").Source, "/dev/shm")
}

func TestReadOnlyRoot(t *testing.T) {
	s := build(t, func(in *Input) {
		in.HostConfig.ReadonlyRootfs = true
		in.Mounts = []Mount{{Type: "bind", Source: "/data", Destination: "/data"}}
	})
	assert.Equal(t, s.Root.Readonly, true)
	assert.Assert(t, !slices.Contains(mountAt(t, s, "/data").Options, "ro"))
	assert.Assert(t, !slices.Contains(mountAt(t, s, "/dev/shm").Options, "ro"))
}

func TestReadOnlyBelow(t *testing.T) {
	for _, c := range []struct {
		name string
		with Mount
		rro  bool
		want string
		err  string
	}{
		{"default", Mount{}, true, "rro", ""},
		{"old kernel", Mount{}, false, "ro", ""},
		{"not below", Mount{ReadOnlyTop: true}, true, "ro", ""},
		{"forced", Mount{ReadOnlyAll: true}, true, "rro", ""},
		{"forced on old kernel", Mount{ReadOnlyAll: true}, false, "", "rro is not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Build(testInput(func(in *Input) {
				in.Host.RecursiveReadOnly = c.rro
				m := c.with
				m.Type, m.Source, m.Destination, m.ReadOnly, m.Recursive = "bind", "/a", "/a", true, true
				in.Mounts = []Mount{m}
			}))
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
				return
			}
			assert.NilError(t, err)
			assert.Assert(t, slices.Contains(mountAt(t, s, "/a").Options, c.want))
		})
	}
}

func TestInit(t *testing.T) {
	on := true
	s := build(t, func(in *Input) { in.HostConfig.Init, in.InitPath = &on, "/usr/bin/init" })
	assert.DeepEqual(t, s.Process.Args, []string{"/sbin/docker-init", "--", "sh", "-c", "true"})
	assert.Equal(t, mountAt(t, s, "/sbin/docker-init").Source, "/usr/bin/init")
	shared := build(t, func(in *Input) { in.HostConfig.Init, in.InitPath, in.HostConfig.PidMode = &on, "/usr/bin/init", "host" })
	assert.Equal(t, shared.Process.Args[0], "sh")
	_, err := Build(testInput(func(in *Input) { in.HostConfig.Init = &on }))
	assert.ErrorContains(t, err, `exec: "docker-init": executable file not found in $PATH`)
}

func TestProcess(t *testing.T) {
	s := build(t, func(in *Input) {
		in.Config.Tty, in.Config.WorkingDir = true, "/work"
		in.HostConfig.ConsoleSize = [2]uint{24, 80}
		in.HostConfig.OomScoreAdj = 500
		in.HostConfig.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 10, Hard: 20}}
		in.HostConfig.Annotations = map[string]string{"a": "b"}
		in.HostConfig.CgroupParent = "mine"
		in.User = specs.User{UID: 7}
	})
	assert.Equal(t, s.Process.Terminal, true)
	assert.Equal(t, s.Process.Cwd, "/work")
	assert.DeepEqual(t, *s.Process.ConsoleSize, specs.Box{Height: 24, Width: 80})
	assert.Equal(t, *s.Process.OOMScoreAdj, 500)
	assert.DeepEqual(t, s.Process.Rlimits, []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}})
	assert.Equal(t, s.Annotations["a"], "b")
	assert.Equal(t, s.Linux.CgroupsPath, "/mine/c1")
	assert.Equal(t, s.Process.User.UID, uint32(7))
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		with       func(*container.HostConfig)
	}{
		{"gpu", `could not select device driver "" with capabilities: [[gpu]]`, func(h *container.HostConfig) {
			h.DeviceRequests = []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
		}},
		{"cdi", "CDI device injection failed: no CDI specification directories specified", func(h *container.HostConfig) {
			h.DeviceRequests = []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"x/y=z"}}}
		}},
		{"ipc", "invalid IPC mode: nonsense", func(h *container.HostConfig) { h.IpcMode = "nonsense" }},
		{"pid", "invalid PID mode: nonsense", func(h *container.HostConfig) { h.PidMode = "nonsense" }},
		{"uts", "invalid UTS mode: nonsense", func(h *container.HostConfig) { h.UTSMode = "nonsense" }},
		{"cgroupns", "invalid cgroup namespace mode: nonsense", func(h *container.HostConfig) { h.CgroupnsMode = "nonsense" }},
		{"shares", "invalid CPU shares (-1): value must be a positive integer", func(h *container.HostConfig) { h.CPUShares = -1 }},
		{"device rule", "invalid device cgroup rule format: 'x'", func(h *container.HostConfig) { h.DeviceCgroupRules = []string{"x"} }},
		{"security", `invalid --security-opt 2: "fence=on"`, func(h *container.HostConfig) { h.SecurityOpt = []string{"fence=on"} }},
		{"security form", `invalid --security-opt 1: "fence"`, func(h *container.HostConfig) { h.SecurityOpt = []string{"fence"} }},
		{"seccomp", "Decoding seccomp profile failed", func(h *container.HostConfig) { h.SecurityOpt = []string{"seccomp={"} }},
		{"a null in a seccomp profile", "null is no system call", func(h *container.HostConfig) { h.SecurityOpt = []string{`seccomp={"syscalls":[null]}`} }},
		{"tmpfs", "Invalid tmpfs option", func(h *container.HostConfig) { h.Tmpfs = map[string]string{"/x": "nonsense"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Build(testInput(func(in *Input) { c.with(in.HostConfig) }))
			assert.Assert(t, err != nil)
			assert.Assert(t, strings.Contains(strings.ToLower(err.Error()), strings.ToLower(c.want)), err)
			assert.Assert(t, errdefs.IsInvalidArgument(err), err)
		})
	}
}

func TestPropagationNeedsASharedSource(t *testing.T) {
	for _, c := range []struct{ source, mode, root, err string }{
		{"/shared", "rshared", "shared", ""},
		{"/shared", "rslave", "rslave", ""},
		{"/slave", "slave", "rslave", ""},
		{"/plain", "private", "", ""},
		{"/slave", "shared", "", "path /slave is mounted on / but it is not a shared mount"},
		{"/plain", "rslave", "", "path /plain is mounted on / but it is not a shared or slave mount"},
		{"/plain", "sideways", "", `invalid propagation mode: "sideways"`},
	} {
		t.Run(c.source+" "+c.mode, func(t *testing.T) {
			s, err := Build(testInput(func(in *Input) {
				in.Mounts = []Mount{{Type: "bind", Source: c.source, Destination: "/x", Propagation: c.mode}}
			}))
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, s.Linux.RootfsPropagation, c.root)
		})
	}
}

func TestExecProcess(t *testing.T) {
	config := &container.Config{Env: []string{"A=1"}, WorkingDir: "/w", Tty: true}
	own := build(t, func(in *Input) {
		in.Config = config
		in.HostConfig.SecurityOpt = []string{"no-new-privileges"}
		in.User = specs.User{UID: 7}
	}).Process
	p := ExecProcess(own, ExecInput{Args: []string{"id"}, Env: []string{"B=2"}, Hostname: "c1", Config: config, Host: testHost()})
	assert.DeepEqual(t, p.Env, []string{"PATH=" + defaultPath, "HOSTNAME=c1", "A=1", "B=2"})
	assert.Equal(t, p.Cwd, "/w")
	assert.Equal(t, p.Terminal, false)
	assert.Equal(t, p.User.UID, uint32(7))
	assert.Equal(t, p.NoNewPrivileges, true)
	assert.DeepEqual(t, p.Capabilities, own.Capabilities)
	q := ExecProcess(own, ExecInput{
		Args: []string{"id"}, Tty: true, Privileged: true, Dir: "/d", User: &specs.User{UID: 8}, ConsoleSize: [2]uint{1, 2},
		Config: config, Host: testHost(),
	})
	assert.Equal(t, q.Cwd, "/d")
	assert.Equal(t, q.User.UID, uint32(8))
	assert.DeepEqual(t, q.Capabilities.Bounding, testHost().Capabilities)
	assert.DeepEqual(t, *q.ConsoleSize, specs.Box{Height: 1, Width: 2})
	assert.Assert(t, slices.Contains(q.Env, "TERM=xterm"))
	assert.DeepEqual(t, own.Args, []string{"sh", "-c", "true"})
}
