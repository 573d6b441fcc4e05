package spec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/containerd/v2/contrib/apparmor"
	hostapparmor "github.com/containerd/containerd/v2/pkg/apparmor"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Sharing tells how a mount passes on what is mounted below it.
type Sharing int

// The values of Sharing.
const (
	notShared Sharing = iota
	slave
	shared
)

// Host is what a specification depends on outside of the container. LocalHost gathers it.
type Host struct {
	Unified           bool // cgroup v2
	SwapLimit         bool
	Seccomp           bool
	RecursiveReadOnly bool
	// X32 tells whether the kernel has the x32 system calls; nil: it may.
	X32               func() bool
	Capabilities      []string // available
	KnownCapabilities []string
	MaskedPaths       []string
	// AppArmor loads the default profile where it is not and names it; nil where the host has no AppArmor.
	AppArmor     func() (string, error)
	SysctlExists func(name string) bool
	// AllDevices of the host.
	AllDevices func() ([]specs.LinuxDevice, error)
	// Devices are the device, or all below the directory, at a path of the host, as they appear in the container.
	Devices      func(onHost, inContainer string) ([]specs.LinuxDevice, error)
	DeviceNumber func(path string) (major, minor int64, err error)
	MountShared  func(path string) Sharing
	MountPoint   func(path string) string

	Runtimes map[string]string // programs that can take runc's place, and runc, by the name users know them by
	IDMap    nereid.IDMap      // of containers in user namespaces; the zero value: there are none
	CDI      *CDI              // nil: no directories of specifications
	Quota    func() bool       // whether writable layers can be limited; nil: they cannot
}

// LocalHost looks at the machine.
func LocalHost() (Host, error) {
	available, err := cap.Current()
	if err != nil {
		return Host{}, fmt.Errorf("capabilities of the daemon: %w", err)
	}
	h := Host{
		Unified:           cgroups.Mode() == cgroups.Unified,
		Seccomp:           seccompEnabled(),
		RecursiveReadOnly: mountSetattr(),
		X32:               sync.OnceValue(func() bool { return kernelHasX32("/proc/kallsyms") }),
		Capabilities:      available,
		KnownCapabilities: cap.Known(),
		MaskedPaths:       maskedPaths(),
		SysctlExists:      sysctlExists,
		AllDevices:        oci.HostDevices,
		Devices:           devicesAt,
		DeviceNumber:      numberOf,
		MountShared:       func(path string) Sharing { return sharing(mountOf(path)) },
		MountPoint:        func(path string) string { return mountOf(path).Mountpoint },
	}
	h.SwapLimit = swapLimit(h.Unified)
	if hostapparmor.HostSupports() {
		h.AppArmor = sync.OnceValues(loadAppArmor)
	}
	return h, nil
}

const appArmorProfile = "nereid-default"

func loadAppArmor() (string, error) {
	return appArmorProfile, apparmor.LoadDefaultProfile(appArmorProfile)
}

func seccompEnabled() bool {
	// No filter is given: anything but EINVAL comes from a kernel that knows the mode.
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0)
	return !errors.Is(err, unix.EINVAL)
}

// kernelHasX32 looks for the table of the x32 system calls among the kernel's symbols. They cannot be tried out: where this
// process is confined, that would be its end. What cannot be read is taken for a yes.
func kernelHasX32(symbols string) bool {
	f, err := os.Open(symbols)
	if err != nil {
		return true
	}
	defer f.Close()
	complete := false
	in := bufio.NewScanner(f)
	for in.Scan() {
		if bytes.Contains(in.Bytes(), []byte(" x32_sys_call")) {
			return true
		}
		complete = complete || bytes.HasSuffix(in.Bytes(), []byte(" do_syscall_64"))
	}
	return in.Err() != nil || !complete
}

// mountSetattr probes with a file descriptor that is none: EBADF comes only from kernels that know the call.
func mountSetattr() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{})
	return !errors.Is(err, unix.ENOSYS)
}

func swapLimit(unified bool) bool {
	if unified {
		return true
	}
	_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	return err == nil
}

func sysctlExists(name string) bool {
	_, err := os.Stat(filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")))
	return err == nil
}

// maskedPaths are hidden from a container that is not privileged: they tell of, or reach into, the host.
func maskedPaths() []string {
	paths := []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	throttles, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle") // the pattern is well-formed
	return append(paths, throttles...)
}

func devicesAt(onHost, inContainer string) ([]specs.LinuxDevice, error) {
	resolved := onHost
	if target, err := filepath.EvalSymlinks(onHost); err == nil {
		resolved = target
	}
	d, err := oci.DeviceFromPath(resolved)
	if err == nil {
		d.Path = inContainer
		return []specs.LinuxDevice{*d}, nil
	}
	devs := devicesBelow(resolved, inContainer)
	if len(devs) == 0 {
		return nil, fmt.Errorf("error gathering device information while adding custom device %q: %w", onHost, err)
	}
	return devs, nil
}

func devicesBelow(dir, inContainer string) []specs.LinuxDevice {
	var devs []specs.LinuxDevice
	// What cannot be read or is no device is left out, as Docker does.
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if d, err := oci.DeviceFromPath(path); err == nil {
			d.Path = inContainer + strings.TrimPrefix(path, dir)
			devs = append(devs, *d)
		}
		return nil
	})
	return devs
}

func numberOf(path string) (int64, int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// mountOf is the mount a path lies on; the zero value when it is unknown.
func mountOf(path string) mountinfo.Info {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	var best mountinfo.Info
	infos, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return best
	}
	for _, i := range infos {
		if len(i.Mountpoint) >= len(best.Mountpoint) {
			best = *i
		}
	}
	return best
}

func sharing(m mountinfo.Info) Sharing {
	kind := notShared
	for _, field := range strings.Fields(m.Optional) {
		switch {
		case strings.HasPrefix(field, "shared:"):
			return shared
		case strings.HasPrefix(field, "master:"):
			kind = slave
		}
	}
	return kind
}
