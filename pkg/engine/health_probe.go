package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

const (
	// probeOutputLimit bounds what is kept of a probe's output, as Docker does.
	probeOutputLimit = 4096
	// probeStartTimeout bounds the start of a probe, which does not count as the probe's time; Docker's.
	probeStartTimeout = 30 * time.Second
	// probeOutputWait is how long after its end a probe's last output may take to arrive.
	probeOutputWait = 2 * time.Second
)

// errWentAlong: a probe's process ended with those of its container, which nobody told the exit code of.
var errWentAlong = errdefs.ErrInternal.WithMessage("health check has no exit code")

// tooLate is the failure of a probe whose container has no process any more: it is one of errWentAlong, in its own words.
type tooLate struct{ error }

func (tooLate) Is(target error) bool { return target == errWentAlong }

// newProbe is the exec of one probe. It is in the table of execs, so that a later daemon knows what the process is, but
// is not listed as the user's.
func newProbe(host nereid.Host, r *state.Container) execRecord {
	return execRecord{
		ID: nereid.NewExecID(host), Account: r.Account, Container: r.ID, Run: r.Starts, Running: true, Probe: true,
		Options: container.ExecOptions{Cmd: probeCommand(r.Config), AttachStdout: true, AttachStderr: true},
	}
}

// probe runs a probe to its end or its time limit. Died is the exit code of its process, nil when that is not known. The
// error tells that it could not be run, or that the context ended first; its process is killed then.
func (c *Containers) probe(ctx context.Context, r *state.Container, e execRecord) (result *container.HealthcheckResult, died *int, err error) {
	if len(e.Options.Cmd) == 0 {
		return nil, nil, errInvalid("No exec command specified")
	}
	if err := c.execs.add(e); err != nil {
		return nil, nil, err
	}
	defer c.execs.drop(func(o execRecord) bool { return o.ID == e.ID })
	out := &probeOutput{}
	drained, err := c.startProbe(ctx, r, e, out)
	if err != nil {
		return nil, nil, err
	}
	limit := orElse(r.Config.Healthcheck.Timeout, defaultProbeTimeout)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.execs.ended(e.ID):
	case <-timer.C:
		c.killProbe(r, e)
		ended, _ := c.execs.get(e.Account, e.ID)
		return overdue(limit, out), ended.ExitCode, nil
	case <-ctx.Done():
		c.killProbe(r, e)
		return nil, nil, ctx.Err()
	}
	ended, _ := c.execs.get(e.Account, e.ID)
	if ended.ExitCode == nil {
		return nil, nil, errWentAlong
	}
	timer.Reset(probeOutputWait)
	select {
	case <-drained:
	case <-timer.C:
	}
	return &container.HealthcheckResult{End: time.Now(), ExitCode: *ended.ExitCode, Output: out.String()}, ended.ExitCode, nil
}

func overdue(limit time.Duration, out *probeOutput) *container.HealthcheckResult {
	words := fmt.Sprintf("Health check exceeded timeout (%v)", limit)
	if said := out.String(); said != "" {
		words += ": " + said
	}
	return &container.HealthcheckResult{End: time.Now(), ExitCode: -1, Output: words}
}

// startProbe starts the process. A start under way is not cut: half a start is a process that nobody knows.
func (c *Containers) startProbe(ctx context.Context, r *state.Container, e execRecord, out *probeOutput) (<-chan error, error) {
	select {
	case c.health.starting <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-c.health.starting }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeStartTimeout)
	defer cancel()
	_, drained, err := c.Runtime.Exec(ctx, keyOf(r), process(r, e, container.ExecStartOptions{}), &runtime.Streams{Stdout: out, Stderr: out})
	if ctx.Err() != nil {
		return nil, errInternal("timed out starting health check for container %s", r.ID)
	}
	if err != nil {
		gone := processGone(err)
		if _, err = startExitCode(asTaskError(err)); gone {
			err = tooLate{err}
		}
		return nil, err
	}
	return drained, nil
}

// killProbe kills a probe's process and waits for its end, so that probes that do not end do not pile up.
func (c *Containers) killProbe(r *state.Container, e execRecord) {
	ctx, cancel := context.WithTimeout(context.Background(), killWait)
	defer cancel()
	if err := c.Runtime.ExecKill(ctx, keyOf(r), e.ID, int(syscall.SIGKILL)); err != nil && !processGone(err) {
		c.logger(keyOf(r)).Warn("overdue health check not killed", zap.Error(err))
	}
	select {
	case <-c.execs.ended(e.ID):
	case <-c.down: // nobody tells of ends any more
	case <-ctx.Done():
	}
}

// endLostProbes kills what probes of an earlier daemon have left running: nobody bounds their time any more.
func (c *Containers) endLostProbes(ctx context.Context, probes []execRecord) {
	for _, e := range probes {
		if err := c.Runtime.ExecKill(ctx, e.key(), e.ID, sigKill); err != nil && !processGone(err) {
			c.logger(e.key()).Warn("health check of an earlier daemon not killed", zap.Error(err))
		}
	}
}

// probeOutput keeps the beginning of what a probe says, standard output and error as they come.
type probeOutput struct {
	mu   sync.Mutex
	text strings.Builder
	more bool // something was left out
}

func (o *probeOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	room := probeOutputLimit - o.text.Len()
	o.text.Write(p[:min(room, len(p))])
	o.more = o.more || len(p) > room
	return len(p), nil
}

func (o *probeOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more {
		return o.text.String() + "..."
	}
	return o.text.String()
}
