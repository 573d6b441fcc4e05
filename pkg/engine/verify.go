package engine

import (
	"errors"
	"path"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/oci/caps"
	"github.com/docker/docker/opts"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/docker/go-connections/nat"
	"github.com/moby/sys/signal"
)

// verifier is one for a new container.
func (c *Containers) verifier() verifier {
	return verifier{sys: c.features(), check: c.Runtime.Check, runtime: orElse(c.DefaultRuntime, defaultRuntime)}
}

// defaultRuntime is the name Docker gives runc.
const defaultRuntime = "runc"

// verifier checks what a user asks of a container against what Docker allows and this host's kernel can do. Where
// Docker discards an option with a warning, so does it; where it refuses, the words are Docker's.
type verifier struct {
	sys      *sysinfo.SysInfo
	check    func(*container.HostConfig) (warnings []string, err error) // what the host's runtime says
	runtime  string                                                     // the default one's name
	update   bool                                                       // of an existing container's resources, which may be given in part
	warnings []string
}

func (v *verifier) warn(w string) { v.warnings = append(v.warnings, w) }

// verify checks a create (cfg not nil), a start (update false, cfg nil) or an update. It may change the settings: to
// discard what the kernel lacks and to fill in names Docker fills in. Its errors are ErrInvalidArgument.
func (v *verifier) verify(cfg *container.Config, hc *container.HostConfig) error {
	var steps []func() error
	if cfg != nil {
		steps = append(steps, func() error { return checkConfig(cfg) })
	}
	if hc != nil {
		steps = append(steps,
			func() error { return checkNulls(&hc.Resources) },
			func() error { return v.checkHostConfig(hc) },
			func() error { return v.checkResources(&hc.Resources) },
			func() error { return v.checkPlatform(hc) },
			func() error { return v.checkUnsupported(hc) },
			func() error { return v.checkHost(hc) },
		)
	}
	return asInvalid(runChecks(steps))
}

// runChecks runs the checks in order up to the first that fails.
func runChecks(steps []func() error) error {
	for _, s := range steps {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

// asInvalid keeps an error's words and makes it an ErrInvalidArgument.
func asInvalid(err error) error {
	if err == nil {
		return nil
	}
	return errInvalid("%s", err)
}

func checkConfig(cfg *container.Config) error {
	if err := checkWorkingDir(cfg); err != nil {
		return err
	}
	if cfg.StopSignal != "" {
		if _, err := signal.ParseSignal(cfg.StopSignal); err != nil {
			return err
		}
	}
	for _, env := range cfg.Env {
		if k, _, _ := strings.Cut(env, "="); k == "" {
			return errInvalid("invalid environment variable: %s", env)
		}
	}
	return checkHealth(cfg.Healthcheck)
}

func checkWorkingDir(cfg *container.Config) error {
	if cfg.WorkingDir == "" {
		return nil
	}
	if !path.IsAbs(cfg.WorkingDir) {
		return errInvalid("the working directory '%s' is invalid, it needs to be an absolute path", cfg.WorkingDir)
	}
	cfg.WorkingDir = path.Clean(cfg.WorkingDir)
	return nil
}

func checkHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	least := container.MinimumDuration
	switch {
	case h.Interval != 0 && h.Interval < least:
		return errInvalid("Interval in Healthcheck cannot be less than %s", least)
	case h.Timeout != 0 && h.Timeout < least:
		return errInvalid("Timeout in Healthcheck cannot be less than %s", least)
	case h.Retries < 0:
		return errors.New("Retries in Healthcheck cannot be negative")
	case h.StartPeriod != 0 && h.StartPeriod < least:
		return errInvalid("StartPeriod in Healthcheck cannot be less than %s", least)
	case h.StartInterval != 0 && h.StartInterval < least:
		return errInvalid("StartInterval in Healthcheck cannot be less than %s", least)
	}
	return nil
}

func (v *verifier) checkHostConfig(hc *container.HostConfig) error {
	if hc.AutoRemove && !hc.RestartPolicy.IsNone() {
		return errInvalid("can't create 'AutoRemove' container with restart policy")
	}
	for _, m := range hc.Mounts {
		if m.Type == mount.TypeImage {
			v.warn("Image mount is an experimental feature")
		}
	}
	for _, h := range hc.ExtraHosts {
		if _, err := opts.ValidateExtraHost(h); err != nil {
			return err
		}
	}
	if err := checkPortBindings(hc.PortBindings); err != nil {
		return err
	}
	if err := container.ValidateRestartPolicy(hc.RestartPolicy); err != nil {
		return err
	}
	if err := checkCapabilities(hc); err != nil {
		return err
	}
	if !hc.Isolation.IsValid() {
		return errInvalid("invalid isolation '%s' on linux", hc.Isolation)
	}
	if _, ok := hc.Annotations[""]; ok {
		return errInvalid("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	return nil
}

func checkPortBindings(ports nat.PortMap) error {
	for port, bindings := range ports {
		_, number := nat.SplitProtoPort(string(port))
		if _, err := nat.ParsePort(number); err != nil {
			return errInvalid("invalid port specification: %q", number)
		}
		for _, b := range bindings {
			if b.HostPort == "" {
				continue // any
			}
			if _, err := nat.NewPort(nat.SplitProtoPort(b.HostPort)); err != nil {
				return errInvalid("invalid port specification: %q", b.HostPort)
			}
		}
	}
	return nil
}

func checkCapabilities(hc *container.HostConfig) error {
	if _, err := caps.NormalizeLegacyCapabilities(hc.CapAdd); err != nil {
		return errInvalid("invalid CapAdd: %s", err)
	}
	if _, err := caps.NormalizeLegacyCapabilities(hc.CapDrop); err != nil {
		return errInvalid("invalid CapDrop: %s", err)
	}
	return nil
}

func (v *verifier) checkPlatform(hc *container.HostConfig) error {
	switch {
	case !hc.IpcMode.Valid():
		return errInvalid("invalid IPC mode: %v", hc.IpcMode)
	case !hc.PidMode.Valid():
		return errInvalid("invalid PID mode: %v", hc.PidMode)
	case hc.ShmSize < 0:
		return errInvalid("SHM size can not be less than 0")
	case !hc.UTSMode.Valid():
		return errInvalid("invalid UTS mode: %v", hc.UTSMode)
	case hc.OomScoreAdj < -1000 || hc.OomScoreAdj > 1000:
		return errInvalid("Invalid value %d, range for oom score adj is [-1000, 1000]", hc.OomScoreAdj)
	case !hc.CgroupnsMode.Valid():
		return errInvalid("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	}
	v.warnPlatform(hc)
	if hc.Runtime == "" {
		hc.Runtime = v.runtime
	}
	return nil
}

func (v *verifier) warnPlatform(hc *container.HostConfig) {
	if hc.NetworkMode.IsHost() && len(hc.PortBindings) > 0 {
		v.warn("Published ports are discarded when using host network mode")
	}
	if hc.CgroupnsMode.IsPrivate() && !v.sys.CgroupNamespaces {
		v.warn("Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
	}
}

func (v *verifier) checkHost(hc *container.HostConfig) error {
	warnings, err := v.check(hc)
	v.warnings = append(v.warnings, warnings...)
	return err
}
