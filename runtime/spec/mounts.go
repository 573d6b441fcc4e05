package spec

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/containerd/errdefs"
	sysmount "github.com/moby/sys/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Mount is one mount of a container, its source already there.
type Mount struct {
	Type        string // bind, tmpfs
	Source      string
	Destination string
	ReadOnly    bool
	ReadOnlyTop bool // a read-only bind leaves what is mounted below as it is
	ReadOnlyAll bool // a read-only bind that is not made where the kernel cannot have what is mounted below read-only
	Recursive   bool // a bind shows what is mounted below its source
	Propagation string
	Options     []string // of a tmpfs
	IDMapped    bool     // a bind whose files have the ids of the container, where it has ids of its own
}

func setMounts(s *specs.Spec, in *Input, sec *SecurityOpts) error {
	mounts := sorted(withTmpfs(in))
	taken := map[string]bool{}
	for _, m := range mounts {
		taken[filepath.Clean(m.Destination)] = true
	}
	for _, m := range defaultMounts(in) {
		below := strings.HasPrefix(m.Destination, "/dev/")
		if !taken[m.Destination] && !(below && taken["/dev"]) {
			s.Mounts = append(s.Mounts, m)
		}
	}
	// The init, put there by setProcess, must come after the file systems it is mounted in.
	if len(s.Mounts) > 0 && s.Mounts[0].Destination == initTarget {
		s.Mounts = append(s.Mounts[1:], s.Mounts[0])
	}
	for _, m := range mounts {
		om, err := userMount(s, in, m)
		if err != nil {
			return err
		}
		s.Mounts = append(s.Mounts, om)
	}
	protectRoot(s, taken)
	return openSysfs(s, in, sec)
}

func defaultMounts(in *Input) []specs.Mount {
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if shm, ok := shmMount(in); ok {
		mounts = append(mounts, shm)
	}
	return mounts
}

// defaultShmSize is Docker's, in bytes.
const defaultShmSize = 64 << 20

func shmMount(in *Input) (specs.Mount, bool) {
	ipc := in.HostConfig.IpcMode
	bind := func(source string) (specs.Mount, bool) {
		return specs.Mount{Destination: "/dev/shm", Type: "bind", Source: source, Options: []string{"rbind", "rprivate"}}, true
	}
	switch {
	case ipc.IsNone():
		return specs.Mount{}, false
	case in.ShmPath != "":
		return bind(in.ShmPath)
	case ipc.IsHost():
		return bind("/dev/shm")
	}
	size := in.HostConfig.ShmSize
	if size == 0 {
		size = defaultShmSize
	}
	return specs.Mount{
		Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", size)},
	}, true
}

// withTmpfs adds HostConfig.Tmpfs where the caller has not made mounts of it.
func withTmpfs(in *Input) []Mount {
	mounts := slices.Clone(in.Mounts)
	for dest, options := range in.HostConfig.Tmpfs {
		if slices.ContainsFunc(mounts, func(m Mount) bool { return m.Destination == dest }) {
			continue
		}
		m := Mount{Type: "tmpfs", Destination: dest}
		if options != "" {
			m.Options = strings.Split(options, ",")
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// sorted puts parents before what is mounted below them.
func sorted(mounts []Mount) []Mount {
	depth := func(m Mount) int { return strings.Count(filepath.Clean(m.Destination), "/") }
	sort.SliceStable(mounts, func(i, j int) bool { return depth(mounts[i]) < depth(mounts[j]) })
	return mounts
}

func userMount(s *specs.Spec, in *Input, m Mount) (specs.Mount, error) {
	if m.Type == "tmpfs" {
		options, err := sysmount.MergeTmpfsOptions(append([]string{"noexec", "nosuid", "nodev", "rprivate"}, m.Options...))
		if err != nil {
			return specs.Mount{}, invalid("%s", err)
		}
		if m.ReadOnly {
			options = append(options, "ro")
		}
		return specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: options}, nil
	}
	options := []string{"bind"}
	if m.Recursive {
		options[0] = "rbind"
	}
	if m.ReadOnly {
		ro, err := readOnlyOption(in, m)
		if err != nil {
			return specs.Mount{}, err
		}
		options = append(options, ro)
	}
	propagation, err := propagate(s, in, m)
	if err != nil {
		return specs.Mount{}, err
	}
	options = append(options, propagation)
	if m.IDMapped && in.Userns != "" {
		options = append(options, "idmap")
	}
	return specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source, Options: options}, nil
}

// readOnlyOption makes what is mounted below read-only too, where the kernel can and the user did not say otherwise.
func readOnlyOption(in *Input, m Mount) (string, error) {
	switch {
	case m.ReadOnlyAll && !in.Host.RecursiveReadOnly:
		return "", errdefs.ErrNotImplemented.WithMessage("rro is not supported: kernel older than 5.12")
	case m.ReadOnlyTop, !m.Recursive, !in.Host.RecursiveReadOnly:
		return "ro", nil
	}
	return "rro", nil
}

// propagate chooses a bind's propagation and raises that of the root to what it needs. A bind that holds one of our
// own roots is a slave, so that what we unmount there does not live on in the container.
func propagate(s *specs.Spec, in *Input, m Mount) (string, error) {
	mode := m.Propagation
	if mode == "" {
		mode = "rprivate"
		if holdsOwnRoot(in, m.Source) && in.Host.MountShared(m.Source) != notShared {
			mode = "rslave"
		}
	}
	root := s.Linux.RootfsPropagation
	switch mode {
	case "private", "rprivate":
	case "shared", "rshared":
		if in.Host.MountShared(m.Source) != shared {
			return "", invalid("path %s is mounted on %s but it is not a shared mount", m.Source, in.Host.MountPoint(m.Source))
		}
		s.Linux.RootfsPropagation = "shared"
	case "slave", "rslave":
		if in.Host.MountShared(m.Source) == notShared {
			return "", invalid("path %s is mounted on %s but it is not a shared or slave mount", m.Source, in.Host.MountPoint(m.Source))
		}
		if root == "" {
			s.Linux.RootfsPropagation = "rslave"
		}
	default:
		return "", invalid("invalid propagation mode: %q", mode)
	}
	return mode, nil
}

func holdsOwnRoot(in *Input, source string) bool {
	return slices.ContainsFunc(in.OwnRoots, func(root string) bool {
		return root != "" && strings.HasPrefix(root+"/", strings.TrimSuffix(source, "/")+"/")
	})
}

// protectRoot makes the file systems of a read-only container read-only too, but those it cannot live without.
func protectRoot(s *specs.Spec, taken map[string]bool) {
	if !s.Root.Readonly {
		return
	}
	for i, m := range s.Mounts {
		switch m.Destination {
		case "/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev":
			continue
		}
		if !taken[filepath.Clean(m.Destination)] && !slices.Contains(m.Options, "ro") {
			s.Mounts[i].Options = append(m.Options, "ro")
		}
	}
}

// openSysfs lets a privileged container write to /sys. In a user namespace nothing can be remounted, and so not read-only.
func openSysfs(s *specs.Spec, in *Input, sec *SecurityOpts) error {
	hc := in.HostConfig
	cgroups := hc.Privileged || in.Userns != ""
	if sec.WritableCgroups != nil {
		if in.Userns != "" {
			return invalid("option WritableCgroups conflicts with user namespaces and rootless mode")
		}
		cgroups = *sec.WritableCgroups
	}
	for i, m := range s.Mounts {
		if hc.Privileged && m.Destination == "/sys" || cgroups && m.Type == "cgroup" {
			s.Mounts[i].Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
		}
	}
	return nil
}
