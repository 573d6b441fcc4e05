package spec

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// SecurityOpts is HostConfig.SecurityOpt, parsed.
type SecurityOpts struct {
	NoNewPrivileges bool
	WritableCgroups *bool
	AppArmor        string   // empty: the default
	Labels          []string // of SELinux, which no host of ours has
	Seccomp         string   // "unconfined", "builtin", empty for the default, else a profile in JSON
}

// ParseSecurityOpts reads HostConfig.SecurityOpt. Errors have Docker's words and class errdefs.ErrInvalidArgument.
func ParseSecurityOpts(opts []string) (*SecurityOpts, error) {
	var s SecurityOpts
	for _, opt := range opts {
		if err := s.parse(opt); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

func (s *SecurityOpts) parse(opt string) error {
	switch opt {
	case "no-new-privileges":
		s.NoNewPrivileges = true
		return nil
	case "writable-cgroups":
		on := true
		s.WritableCgroups = &on
		return nil
	case "disable":
		s.Labels = append(s.Labels, opt)
		return nil
	}
	key, value, ok := strings.Cut(opt, "=")
	if !ok {
		key, value, ok = strings.Cut(opt, ":")
	}
	if !ok {
		return invalid("invalid --security-opt 1: %q", opt)
	}
	return s.parsePair(opt, key, value)
}

func (s *SecurityOpts) parsePair(opt, key, value string) error {
	switch key {
	case "label":
		s.Labels = append(s.Labels, value)
	case "apparmor":
		s.AppArmor = value
	case "seccomp":
		s.Seccomp = value
	case "no-new-privileges", "writable-cgroups":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return invalid("invalid --security-opt 2: %q", opt)
		}
		if key == "no-new-privileges" {
			s.NoNewPrivileges = on
		} else {
			s.WritableCgroups = &on
		}
	default:
		return invalid("invalid --security-opt 2: %q", opt)
	}
	return nil
}

// defaultCapabilities are those a container has when it asks for nothing.
func defaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
		"CAP_AUDIT_WRITE",
	}
}

const allCapabilities = "ALL"

// Capabilities computes a container's set from what it adds and drops, both with or without "CAP_".
func Capabilities(h Host, add, drop []string, privileged bool) ([]string, error) {
	if privileged {
		return h.Capabilities, nil
	}
	add, err := normalizeCapabilities(h, add)
	if err != nil {
		return nil, err
	}
	drop, err = normalizeCapabilities(h, drop)
	if err != nil {
		return nil, err
	}
	dropped := func(c string) bool { return slices.Contains(drop, c) }
	switch {
	case slices.Contains(add, allCapabilities):
		return slices.DeleteFunc(slices.Clone(h.Capabilities), dropped), nil
	case slices.Contains(drop, allCapabilities):
		return add, nil
	}
	return append(slices.DeleteFunc(defaultCapabilities(), dropped), add...), nil
}

func normalizeCapabilities(h Host, names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		n = strings.ToUpper(n)
		if n != allCapabilities && !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		switch {
		case n == allCapabilities, slices.Contains(h.Capabilities, n):
		case slices.Contains(h.KnownCapabilities, n):
			return nil, invalid("capability not supported by your kernel or not available in the current environment: %q", n)
		default:
			return nil, invalid("unknown capability: %q", n)
		}
		out = append(out, n)
	}
	return out, nil
}

func capabilitySets(list []string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
}

func setCapabilities(s *specs.Spec, in *Input, _ *SecurityOpts) error {
	hc := in.HostConfig
	list, err := Capabilities(in.Host, hc.CapAdd, hc.CapDrop, hc.Privileged)
	if err != nil {
		return err
	}
	s.Process.Capabilities = capabilitySets(list)
	return nil
}

func setSeccomp(s *specs.Spec, in *Input, sec *SecurityOpts) (err error) {
	profile := sec.Seccomp
	custom := profile != "" && profile != "builtin" && profile != "unconfined"
	switch {
	case profile == "unconfined", in.HostConfig.Privileged && profile == "":
		return nil
	case !in.Host.Seccomp && custom:
		return errdefs.ErrFailedPrecondition.WithMessage("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
	case !in.Host.Seccomp:
		return nil
	case custom:
		s.Linux.Seccomp, err = loadProfile(profile, s)
	default:
		s.Linux.Seccomp, err = defaultSeccomp(s, in.Host)
	}
	if err != nil {
		return invalid("%s", err)
	}
	return nil
}

// loadProfile reads a profile of the user's. The package's own reading panics at a null among the system calls.
func loadProfile(profile string, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	var p seccomp.Seccomp
	if err := json.Unmarshal([]byte(profile), &p); err == nil && slices.Contains(p.Syscalls, nil) {
		return nil, errors.New("Decoding seccomp profile failed: null is no system call")
	}
	return seccomp.LoadProfile(profile, s)
}

// defaultSeccomp is Docker's profile. Compiling it is a third of what runc takes to create a container, and x32 a third of
// that: where the kernel has no such calls, nothing can make them, and the profile is the same without.
func defaultSeccomp(s *specs.Spec, h Host) (*specs.LinuxSeccomp, error) {
	profile, err := seccomp.GetDefaultProfile(s)
	if err == nil && h.X32 != nil && !h.X32() {
		profile.Architectures = slices.DeleteFunc(profile.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	}
	return profile, err
}

func setAppArmor(s *specs.Spec, in *Input, sec *SecurityOpts) error {
	if in.Host.AppArmor == nil {
		return nil
	}
	switch {
	case sec.AppArmor != "":
		s.Process.ApparmorProfile = sec.AppArmor
	case in.HostConfig.Privileged:
		s.Process.ApparmorProfile = "unconfined"
	default:
		name, err := in.Host.AppArmor()
		if err != nil {
			return err
		}
		s.Process.ApparmorProfile = name
	}
	return nil
}

// setPaths hides and write-protects parts of /proc and /sys; an empty list of the user's is none, a nil one Docker's.
func setPaths(s *specs.Spec, in *Input, _ *SecurityOpts) error {
	hc := in.HostConfig
	if !hc.Privileged {
		s.Linux.MaskedPaths = in.Host.MaskedPaths
		s.Linux.ReadonlyPaths = DefaultReadonlyPaths()
	}
	if hc.MaskedPaths != nil {
		s.Linux.MaskedPaths = hc.MaskedPaths
	}
	if hc.ReadonlyPaths != nil {
		s.Linux.ReadonlyPaths = hc.ReadonlyPaths
	}
	return nil
}

// DefaultReadonlyPaths are write-protected in a container that is not privileged.
func DefaultReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
