package engine

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/state"
)

// runcNotRunning are runc's words for a container whose process is ending, which comes through as nothing but them.
const runcNotRunning = "container not running"

// meanwhile gives what failed because the container's process had ended by then, or its record was gone, the words of
// that: whoever asks a moment later hears the same. Other failures stay as they are.
func (c *Containers) meanwhile(r *state.Container, err error) error {
	switch {
	case err == nil:
		return nil
	case errdefs.IsFailedPrecondition(err), errdefs.IsNotFound(err), errors.Is(err, fs.ErrNotExist),
		strings.Contains(err.Error(), runcNotRunning), r.State.Pid > 0 && !c.alive(r.State.Pid):
		return errNotRunning(r.ID)
	}
	return err
}
