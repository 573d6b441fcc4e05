// Package exec routes what the Engine API says about processes run in containers.
package exec

import (
	"context"
	"io"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
)

// Backend is what the exec routes need.
type Backend interface {
	// ExecCreate gets at least one word of Cmd.
	ExecCreate(ctx context.Context, ref string, opts container.ExecOptions) (id string, err error)
	// ExecStart validates and, unless opts.Detach, calls streams exactly once (that is where the handler hijacks), and
	// returns when the process has ended or the client has gone or detached. The writers frame their output already;
	// with a tty stderr is nil. Closing stdin leaves the output open. An error after streams was called is told to the
	// client on stdout. The end of the context ends the streams, not the process.
	ExecStart(ctx context.Context, id string, opts container.ExecStartOptions, streams func() (stdin io.ReadCloser, stdout, stderr io.Writer, err error)) error
	ExecResize(ctx context.Context, id string, height, width uint32) error
	ExecInspect(ctx context.Context, id string) (*Inspect, error)
}

// Inspect is the answer of GET /exec/{id}/json.
type Inspect = backend.ExecInspect
