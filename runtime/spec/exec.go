package spec

import (
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ExecInput is what differs between a container's process and one exec'd beside it.
type ExecInput struct {
	Args        []string
	Env         []string // added to the container's
	Dir         string   // empty: the container's
	User        *specs.User
	Tty         bool
	Privileged  bool
	ConsoleSize [2]uint // height, width
	Hostname    string
	LinkEnv     []string
	Config      *container.Config
	Host        Host
}

// ExecProcess derives the process to exec from the container's own: limits, profiles and no-new-privileges are
// inherited, a nil User too; the environment is made anew for the exec's terminal.
func ExecProcess(own *specs.Process, in ExecInput) *specs.Process {
	p := *own
	p.Args = in.Args
	p.Env = Env(in.Hostname, in.LinkEnv, in.Config, in.Tty, in.Env)
	p.Cwd = in.Dir
	if p.Cwd == "" {
		p.Cwd = workingDir(in.Config)
	}
	p.Terminal = in.Tty
	p.ConsoleSize = nil
	if in.Tty && (in.ConsoleSize[0] > 0 || in.ConsoleSize[1] > 0) {
		p.ConsoleSize = &specs.Box{Height: in.ConsoleSize[0], Width: in.ConsoleSize[1]}
	}
	if in.User != nil {
		p.User = *in.User
	}
	if in.Privileged {
		p.Capabilities = capabilitySets(in.Host.Capabilities)
	}
	return &p
}
