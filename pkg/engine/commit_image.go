package engine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
)

// Commit is not served yet.
func (c *Containers) Commit(context.Context, string, *backend.CreateImageConfig) (string, error) {
	return "", errdefs.ErrNotImplemented.WithMessage("commit is not implemented yet")
}
