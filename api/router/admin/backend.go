// Package admin routes what administrators ask of nereid itself, under /nereid/v1 beside Docker's API.
package admin

import (
	"context"
	"time"

	"github.com/docker/docker/api/types"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Hosts is what the routes of hosts need.
type Hosts interface {
	// List is every host of the fleet by name, reachable or not.
	List(ctx context.Context) ([]nereid.HostStatus, error)
	// Inspect is one of them. None of that name is errdefs.ErrNotFound.
	Inspect(ctx context.Context, name nereid.Host) (nereid.HostStatus, error)
	// Self is the host that answers.
	Self() nereid.Host
	Label(ctx context.Context, name nereid.Host, labels map[string]string) (nereid.HostStatus, error)
	Drain(ctx context.Context, name nereid.Host) (nereid.Drained, error)
	Resume(ctx context.Context, name nereid.Host) error
	// Remove takes a host out of the fleet; one that is alive and not empty only by force.
	Remove(ctx context.Context, name nereid.Host, force bool) error
	// Token makes a join token; a life of 0 is the usual one.
	Token(ctx context.Context, server bool, life time.Duration, rotate bool) (nereid.JoinToken, error)
}

// System is what the version needs.
type System interface {
	Version(ctx context.Context) types.Version
}
