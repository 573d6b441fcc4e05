package engine

import (
	"bufio"
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/pkg/sysinfo"
	"golang.org/x/sys/unix"
)

// hostFacts are what does not change about a host while the daemon runs.
type hostFacts struct {
	cpus         int
	memory       int64
	os           string // "Debian GNU/Linux 12 (bookworm)"
	osVersion    string // "12"
	kernel       string
	architecture string // as uname says it: x86_64
	containerd   string
	runc, init   toolVersion
	sys          *sysinfo.SysInfo
}

// toolVersion is what a program says of itself.
type toolVersion struct{ version, commit string }

func findHostFacts(cfg SystemConfig) hostFacts {
	f := hostFacts{
		cpus:       runtime.NumCPU(),
		memory:     totalMemory(),
		containerd: moduleVersion("github.com/containerd/containerd/v2"),
		runc:       parseToolVersion(askVersion(cfg.Runc)),
		init:       parseToolVersion(askVersion(cfg.Init)),
		sys:        sysinfo.New(),
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		f.kernel = unix.ByteSliceToString(u.Release[:])
		f.architecture = unix.ByteSliceToString(u.Machine[:])
	}
	release := osRelease()
	f.os, f.osVersion = release["PRETTY_NAME"], release["VERSION_ID"]
	if f.os == "" {
		f.os = "Linux"
	}
	return f
}

// totalMemory reads /proc/meminfo, in bytes; 0 when it cannot be read.
func totalMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kb, _ := strconv.ParseInt(fields[1], 10, 64)
			return kb * 1024
		}
	}
	return 0
}

// osRelease reads os-release(5).
func osRelease() map[string]string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		text, _ = os.ReadFile("/usr/lib/os-release")
	}
	return parseOSRelease(text)
}

func parseOSRelease(text []byte) map[string]string {
	vars := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		vars[name] = strings.Trim(value, `"'`)
	}
	return vars
}

// versionTimeout bounds how long a program may take to tell its version; it prints a few lines and exits.
const versionTimeout = 5 * time.Second

func askVersion(path string) string {
	if path == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// parseToolVersion reads "runc version 1.2.3\ncommit: v1.2.3-0-gabc\n…" and "tini version 0.19.0 - git.abc".
func parseToolVersion(out string) toolVersion {
	var t toolVersion
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if _, rest, ok := strings.Cut(line, " version "); ok && t.version == "" {
			version, commit, _ := strings.Cut(rest, " - ")
			t.version = strings.TrimSpace(version)
			t.commit = strings.TrimPrefix(commit, "git.")
		}
		if rest, ok := strings.CutPrefix(line, "commit: "); ok {
			t.commit = rest
		}
	}
	return t
}

// proxySetting reads the first of the variables that is set, without a password in it.
func proxySetting(names ...string) string {
	for _, n := range names {
		v := os.Getenv(n)
		if v == "" {
			continue
		}
		if u, err := url.Parse(v); err == nil && u.User != nil {
			u.User = url.UserPassword("xxxxx", "xxxxx")
			return u.String()
		}
		return v
	}
	return ""
}

// ipv4Forwarding tells whether this host forwards now; the daemon itself turns it on with the first bridge.
func ipv4Forwarding() bool {
	v, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return err == nil && strings.TrimSpace(string(v)) == "1"
}

func (f hostFacts) cgroupVersion() string {
	if f.sys.CgroupUnified {
		return "2"
	}
	return "1"
}

func (f hostFacts) securityOptions(remapped bool) []string {
	var opts []string
	if f.sys.AppArmor {
		opts = append(opts, "name=apparmor")
	}
	if f.sys.Seccomp {
		opts = append(opts, "name=seccomp,profile=builtin")
	}
	if remapped {
		opts = append(opts, "name=userns")
	}
	// Containers have their own cgroup namespace by default where Docker gives them one: with cgroup v2.
	if f.sys.CgroupNamespaces && f.sys.CgroupUnified {
		opts = append(opts, "name=cgroupns")
	}
	return opts
}

// fillCgroups says which limits this host's kernel can keep.
func (f hostFacts) fillCgroups(info *system.Info) {
	info.CgroupDriver = "cgroupfs"
	info.CgroupVersion = f.cgroupVersion()
	info.MemoryLimit = f.sys.MemoryLimit
	info.SwapLimit = f.sys.SwapLimit
	info.OomKillDisable = f.sys.OomKillDisable
	info.CPUCfsPeriod = f.sys.CPUCfs
	info.CPUCfsQuota = f.sys.CPUCfs
	info.CPUShares = f.sys.CPUShares
	info.CPUSet = f.sys.Cpuset
	info.PidsLimit = f.sys.PidsLimit
}

// warnings say which limits will not be kept, in Docker's words.
func (f hostFacts) warnings() []string {
	v2 := f.sys.CgroupUnified
	lacks := []struct {
		lacking bool
		what    string
	}{
		{!f.sys.MemoryLimit, "No memory limit support"},
		{!f.sys.SwapLimit, "No swap limit support"},
		{!f.sys.OomKillDisable && !v2, "No oom kill disable support"},
		{!f.sys.CPUCfs, "No cpu cfs quota support"},
		{!f.sys.CPUCfs, "No cpu cfs period support"},
		{!f.sys.CPUShares, "No cpu shares support"},
		{!f.sys.Cpuset, "No cpuset support"},
		{!f.sys.BlkioWeight && v2, "No io.weight support"},
		{!f.sys.BlkioWeightDevice && v2, "No io.weight (per device) support"},
		{!f.sys.BlkioReadBpsDevice && v2, "No io.max (rbps) support"},
		{!f.sys.BlkioReadBpsDevice && !v2, "No blkio throttle.read_bps_device support"},
		{!f.sys.BlkioWriteBpsDevice && v2, "No io.max (wbps) support"},
		{!f.sys.BlkioWriteBpsDevice && !v2, "No blkio throttle.write_bps_device support"},
		{!f.sys.BlkioReadIOpsDevice && v2, "No io.max (riops) support"},
		{!f.sys.BlkioReadIOpsDevice && !v2, "No blkio throttle.read_iops_device support"},
		{!f.sys.BlkioWriteIOpsDevice && v2, "No io.max (wiops) support"},
		{!f.sys.BlkioWriteIOpsDevice && !v2, "No blkio throttle.write_iops_device support"},
		{!ipv4Forwarding(), "IPv4 forwarding is disabled"},
	}
	var out []string
	for _, l := range lacks {
		if l.lacking {
			out = append(out, "WARNING: "+l.what)
		}
	}
	return out
}
