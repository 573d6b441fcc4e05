package image

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/sys/signal"
)

// changeVerbs are the Dockerfile instructions that commit and import take as changes.
var changeVerbs = map[string]bool{
	"cmd": true, "entrypoint": true, "env": true, "expose": true, "healthcheck": true, "label": true,
	"onbuild": true, "stopsignal": true, "user": true, "volume": true, "workdir": true,
}

// ApplyChanges applies Dockerfile instructions to a copy of a configuration. Errors are InvalidArgument, with the
// parser's words.
func ApplyChanges(base *container.Config, changes []string) (*container.Config, error) {
	c := cloneConfig(base)
	if len(changes) == 0 {
		return c, nil
	}
	doc, err := parser.Parse(strings.NewReader(strings.Join(changes, "\n")))
	if err != nil {
		return nil, invalid(err)
	}
	for _, n := range doc.AST.Children {
		if !changeVerbs[strings.ToLower(n.Value)] {
			return nil, invalid(fmt.Errorf("%s is not a valid change command", n.Value))
		}
	}
	ch := &change{cfg: c, lex: shell.NewLex(doc.EscapeToken)}
	for _, n := range doc.AST.Children {
		cmd, err := instructions.ParseCommand(n)
		if err != nil {
			return nil, invalid(err)
		}
		if err := ch.apply(cmd); err != nil {
			return nil, invalid(err)
		}
	}
	return c, nil
}

// cloneConfig copies what instructions may change.
func cloneConfig(base *container.Config) *container.Config {
	c := *base
	c.Env = slices.Clone(base.Env)
	c.OnBuild = slices.Clone(base.OnBuild)
	c.Labels = maps.Clone(base.Labels)
	c.Volumes = maps.Clone(base.Volumes)
	c.ExposedPorts = maps.Clone(base.ExposedPorts)
	return &c
}

type change struct {
	cfg    *container.Config
	lex    *shell.Lex
	cmdSet bool // an ENTRYPOINT resets the base's CMD, not one given here
}

func (ch *change) apply(cmd instructions.Command) error {
	env := shell.EnvsFromSlice(ch.cfg.Env)
	if ex, ok := cmd.(instructions.SupportsSingleWordExpansion); ok {
		err := ex.Expand(func(word string) (string, error) {
			out, _, err := ch.lex.ProcessWord(word, env)
			return out, err
		})
		if err != nil {
			return err
		}
	}
	switch c := cmd.(type) {
	case *instructions.CmdCommand:
		ch.cfg.Cmd, ch.cmdSet = ch.commandLine(c.ShellDependantCmdLine), len(c.CmdLine) > 0
		ch.cfg.ArgsEscaped = false
	case *instructions.EntrypointCommand:
		ch.entrypoint(c)
	case *instructions.EnvCommand:
		for _, e := range c.Env {
			ch.setEnv(e.Key, e.String())
		}
	case *instructions.ExposeCommand:
		return ch.expose(c, env)
	case *instructions.HealthCheckCommand:
		ch.cfg.Healthcheck = c.Health
	case *instructions.LabelCommand:
		ch.label(c)
	case *instructions.OnbuildCommand:
		ch.cfg.OnBuild = append(ch.cfg.OnBuild, c.Expression)
	case *instructions.StopSignalCommand:
		if _, err := signal.ParseSignal(c.Signal); err != nil {
			return err
		}
		ch.cfg.StopSignal = c.Signal
	case *instructions.UserCommand:
		ch.cfg.User = c.User
	case *instructions.VolumeCommand:
		return ch.volume(c)
	case *instructions.WorkdirCommand:
		return ch.workdir(c)
	}
	return nil
}

// commandLine is an instruction's arguments, run by the image's shell when they were not written as a JSON list.
func (ch *change) commandLine(c instructions.ShellDependantCmdLine) []string {
	if !c.PrependShell {
		return c.CmdLine
	}
	sh := []string{"/bin/sh", "-c"}
	if len(ch.cfg.Shell) > 0 {
		sh = slices.Clone(ch.cfg.Shell)
	}
	return append(sh, c.CmdLine...)
}

func (ch *change) entrypoint(c *instructions.EntrypointCommand) {
	ch.cfg.Entrypoint = ch.commandLine(c.ShellDependantCmdLine)
	ch.cfg.ArgsEscaped = false
	if !ch.cmdSet {
		ch.cfg.Cmd = nil
	}
}

func (ch *change) setEnv(key, pair string) {
	for i, e := range ch.cfg.Env {
		if k, _, _ := strings.Cut(e, "="); k == key {
			ch.cfg.Env[i] = pair
			return
		}
	}
	ch.cfg.Env = append(ch.cfg.Env, pair)
}

func (ch *change) expose(c *instructions.ExposeCommand, env shell.EnvGetter) error {
	var ports []string
	for _, p := range c.Ports {
		words, err := ch.lex.ProcessWords(p, env)
		if err != nil {
			return err
		}
		ports = append(ports, words...)
	}
	set, _, err := nat.ParsePortSpecs(ports)
	if err != nil {
		return err
	}
	if ch.cfg.ExposedPorts == nil {
		ch.cfg.ExposedPorts = nat.PortSet{}
	}
	maps.Copy(ch.cfg.ExposedPorts, set)
	return nil
}

func (ch *change) label(c *instructions.LabelCommand) {
	if ch.cfg.Labels == nil {
		ch.cfg.Labels = map[string]string{}
	}
	for _, l := range c.Labels {
		ch.cfg.Labels[l.Key] = l.Value
	}
}

func (ch *change) volume(c *instructions.VolumeCommand) error {
	if ch.cfg.Volumes == nil {
		ch.cfg.Volumes = map[string]struct{}{}
	}
	for _, v := range c.Volumes {
		if v == "" {
			return fmt.Errorf("VOLUME specified can not be an empty string")
		}
		ch.cfg.Volumes[v] = struct{}{}
	}
	return nil
}

func (ch *change) workdir(c *instructions.WorkdirCommand) error {
	if c.Path == "" {
		return fmt.Errorf("cannot normalize nothing")
	}
	dir := c.Path
	if !path.IsAbs(dir) {
		dir = path.Join("/", ch.cfg.WorkingDir, dir)
	}
	ch.cfg.WorkingDir = path.Clean(dir)
	return nil
}
