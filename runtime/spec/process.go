package spec

import (
	"os/exec"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	initTarget  = "/sbin/docker-init"
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

func setProcess(s *specs.Spec, in *Input, _ *SecurityOpts) error {
	p := s.Process
	p.Args = append([]string{in.Path}, in.Args...)
	p.Cwd = workingDir(in.Config)
	p.Env = Env(in.Hostname, in.LinkEnv, in.Config, in.Config.Tty, nil)
	p.Terminal = in.Config.Tty
	if size := in.HostConfig.ConsoleSize; p.Terminal && (size[0] > 0 || size[1] > 0) {
		p.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	p.OOMScoreAdj = &in.HostConfig.OomScoreAdj
	p.Rlimits = rlimits(in.HostConfig)
	return setInit(s, in)
}

// setInit puts the init in front, but not where the container shares someone else's process namespace: there is an
// init already.
func setInit(s *specs.Spec, in *Input) error {
	if in.HostConfig.Init == nil || !*in.HostConfig.Init || !in.HostConfig.PidMode.IsPrivate() {
		return nil
	}
	if in.InitPath == "" {
		return &exec.Error{Name: "docker-init", Err: exec.ErrNotFound}
	}
	s.Process.Args = append([]string{initTarget, "--"}, s.Process.Args...)
	s.Mounts = append(s.Mounts, specs.Mount{
		Destination: initTarget, Type: "bind", Source: in.InitPath, Options: []string{"bind", "ro"},
	})
	return nil
}

func workingDir(c *container.Config) string {
	if c.WorkingDir == "" {
		return "/"
	}
	return c.WorkingDir
}

// Env is the environment of a process: Docker's defaults and what tells of linked containers, overridden in place by the
// container's and then by extra values; a name without "=" removes the variable. HOME is left to runc, which reads it from
// the passwd file.
func Env(hostname string, links []string, c *container.Config, tty bool, extra []string) []string {
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	return overrideEnv(overrideEnv(append(env, links...), c.Env), extra)
}

func overrideEnv(env, with []string) []string {
	at := make(map[string]int, len(env))
	for i, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		at[name] = i
	}
	removed := map[int]bool{}
	for _, kv := range with {
		name, _, valued := strings.Cut(kv, "=")
		i, known := at[name]
		switch {
		case known && !valued:
			removed[i] = true
		case known:
			env[i] = kv
			delete(removed, i)
		case valued:
			at[name] = len(env)
			env = append(env, kv)
		}
	}
	return without(env, removed)
}

func without(env []string, removed map[int]bool) []string {
	if len(removed) == 0 {
		return env
	}
	kept := make([]string, 0, len(env))
	for i, kv := range env {
		if !removed[i] {
			kept = append(kept, kv)
		}
	}
	return kept
}

func rlimits(hc *container.HostConfig) []specs.POSIXRlimit {
	var limits []specs.POSIXRlimit
	for _, u := range hc.Ulimits {
		limits = append(limits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard),
		})
	}
	return limits
}
