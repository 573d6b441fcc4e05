package engine

import (
	"context"
	"iter"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	timetypes "github.com/docker/docker/api/types/time"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// Logs yields a container's log as asked for. Following ends when the container's run does.
func (c *Containers) Logs(ctx context.Context, ref string, opts container.LogsOptions) (iter.Seq2[*backend.LogMessage, error], bool, error) {
	if !opts.ShowStdout && !opts.ShowStderr {
		return nil, false, errInvalid("Bad parameters: you must choose at least one stream")
	}
	r, err := c.find(ctx, ref)
	if err != nil {
		return nil, false, err
	}
	if r.State.Status == state.StatusRemoving || r.State.Status == state.StatusDead {
		return nil, false, errConflict("can not get logs from container which is dead or marked for removal")
	}
	selection, err := logSelection(opts)
	if err != nil {
		return nil, false, err
	}
	selection.Follow = opts.Follow && r.State.Running()
	msgs, err := c.readLog(ctx, r, selection)
	return msgs, r.Config.Tty, err
}

// logSelection reads the options that are text. A tail that is no number is all of it, as Docker has it.
func logSelection(opts container.LogsOptions) (runtime.LogOptions, error) {
	sel := runtime.LogOptions{Tail: -1, Stdout: opts.ShowStdout, Stderr: opts.ShowStderr, Details: opts.Details}
	if n, err := strconv.Atoi(opts.Tail); err == nil {
		sel.Tail = n
	}
	var err error
	if sel.Since, err = logTime(opts.Since); err != nil {
		return sel, err
	}
	if opts.Until != "0" {
		sel.Until, err = logTime(opts.Until)
	}
	return sel, err
}

func logTime(stamp string) (time.Time, error) {
	if stamp == "" {
		return time.Time{}, nil
	}
	s, n, err := timetypes.ParseTimestamps(stamp, 0)
	if err != nil {
		return time.Time{}, asInvalid(err)
	}
	return time.Unix(s, n), nil
}

// readLog reads a container's log through its driver.
func (c *Containers) readLog(ctx context.Context, r *state.Container, sel runtime.LogOptions) (iter.Seq2[*backend.LogMessage, error], error) {
	cfg := c.logConfig(r)
	if !logs.Readable(cfg.Driver, cfg.Options) {
		return nil, errdefs.ErrNotImplemented.WithMessage("configured logging driver does not support reading")
	}
	return c.Runtime.Logs(ctx, keyOf(r), cfg, sel), nil
}

// logConfig is where a container's output goes, in the runtime's terms. Only the file of json-file is one that users may
// know of.
func (c *Containers) logConfig(r *state.Container) runtime.LogConfig {
	cfg := runtime.LogConfig{Driver: r.HostConfig.LogConfig.Type, Path: r.LogPath, Options: r.HostConfig.LogConfig.Config}
	switch cfg.Driver {
	case logs.JSONFile:
	case logs.Local:
		cfg.Path = filepath.Join(c.dir(keyOf(r)), "local-logs", "container.log")
	default:
		cfg.Path = filepath.Join(c.dir(keyOf(r)), "container-cached.log")
	}
	return cfg
}
