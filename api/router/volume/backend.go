// Package volume routes what the Engine API says about volumes.
package volume

import (
	"context"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
)

// Backend is what the volume routes need.
type Backend interface {
	List(ctx context.Context, f filters.Args) (*volume.ListResponse, error)
	Inspect(ctx context.Context, name string) (*volume.Volume, error)
	Create(ctx context.Context, opts volume.CreateOptions) (*volume.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, f filters.Args) (*volume.PruneReport, error)
}
