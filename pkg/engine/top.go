package engine

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Top lists a container's processes as the host's ps sees them.
func (c *Containers) Top(ctx context.Context, ref, psArgs string) (*container.TopResponse, error) {
	if psArgs == "" {
		psArgs = "-ef"
	}
	if err := checkPsArgs(psArgs); err != nil {
		return nil, err
	}
	r, err := c.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if r.State.Status == state.StatusRestarting {
		return nil, errRestarting(r.ID)
	}
	if !r.State.Running() {
		return nil, errNotRunning(r.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	pids, err := c.Runtime.Pids(ctx, keyOf(r))
	if err != nil {
		return nil, c.meanwhile(r, err)
	}
	out, err := ps(ctx, strings.Split(psArgs, " "), pids)
	if err != nil {
		return nil, err
	}
	top, err := parsePs(string(out), pids)
	if err != nil {
		return nil, err
	}
	_, err = c.State.Commit(ctx, tell(r, events.ActionTop))
	return top, err
}

// psColumn finds a column renamed in ps arguments: one called PID that is not the pid would show other processes.
var psColumn = regexp.MustCompile(`\s+([^\s]*)=\s*(PID[^\s]*)`)

func checkPsArgs(args string) error {
	for _, m := range psColumn.FindAllStringSubmatch(args, -1) {
		if m[1] != "pid" {
			return errInvalid(`specifying "%s=%s" is not allowed`, m[1], m[2])
		}
	}
	return nil
}

// ps runs the host's ps for the pids. Some of its options exclude naming pids: then it runs for all.
func ps(ctx context.Context, args []string, pids []int) ([]byte, error) {
	out, err := exec.CommandContext(ctx, "ps", append(slices.Clone(args), pidsArg(pids))...).Output()
	if err == nil {
		return out, nil
	}
	out, err = exec.CommandContext(ctx, "ps", args...).Output()
	if err == nil {
		return out, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if line, _, _ := bytes.Cut(exit.Stderr, []byte("\n")); len(line) > 0 {
			return nil, errInternal("ps: %s", line)
		}
	}
	return nil, errInternal("ps: %s", err)
}

func pidsArg(pids []int) string {
	all := make([]string, len(pids))
	for i, p := range pids {
		all[i] = strconv.Itoa(p)
	}
	return "-q" + strings.Join(all, ",")
}

// parsePs keeps the lines of the pids, and lines of their threads, which ps marks with "-" and lists behind them.
func parsePs(out string, pids []int) (*container.TopResponse, error) {
	lines := strings.Split(out, "\n")
	top := &container.TopResponse{Titles: psFields(lines[0])}
	column := slices.Index(top.Titles, "PID")
	if column < 0 {
		return nil, errInternal("Couldn't find PID field in ps output")
	}
	ours := false
	for _, line := range lines[1:] {
		fields := psFields(line)
		if len(fields) <= column {
			continue
		}
		if fields[column] != "-" {
			pid, err := strconv.Atoi(fields[column])
			if err != nil {
				return nil, errInternal("Unexpected pid '%s': %s", fields[column], err)
			}
			ours = slices.Contains(pids, pid)
		}
		if ours {
			top.Processes = append(top.Processes, psRow(fields, len(top.Titles)))
		}
	}
	return top, nil
}

// psFields splits at ASCII blanks alone: a command line may hold others.
func psFields(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune("\t\n\f\r ", r) })
}

// psRow gives a row as many fields as there are titles: the last, the command, takes the rest.
func psRow(fields []string, width int) []string {
	if len(fields) < width {
		return fields
	}
	return append(slices.Clone(fields[:width-1]), strings.Join(fields[width-1:], " "))
}
