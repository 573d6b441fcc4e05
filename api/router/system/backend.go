// Package system routes ping, version, info, events, disk usage and registry logins.
package system

import (
	"context"
	"iter"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/system"
)

// Backend is what the system routes need.
type Backend interface {
	Info(ctx context.Context) (*system.Info, error)
	// Version answers without the state: it works when etcd has no quorum.
	Version(ctx context.Context) types.Version
	DiskUsage(ctx context.Context, opts backend.DiskUsageOptions) (*backend.DiskUsage, error)
	// Events validates, then yields in fleet order what happened since, and what happens until (zero: for ever).
	Events(ctx context.Context, since, until time.Time, f filters.Args) (iter.Seq2[events.Message, error], error)
	Login(ctx context.Context, auth *registry.AuthConfig) (status, token string, err error)
}
