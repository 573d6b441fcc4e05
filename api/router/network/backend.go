// Package network routes what the Engine API says about networks.
package network

import (
	"context"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
)

// Backend is what the network routes need.
type Backend interface {
	List(ctx context.Context, f filters.Args) ([]network.Inspect, error)
	Inspect(ctx context.Context, ref, scope string, verbose bool) (*network.Inspect, error)
	Create(ctx context.Context, req network.CreateRequest) (*network.CreateResponse, error)
	Remove(ctx context.Context, ref string) error
	Connect(ctx context.Context, ref string, opts network.ConnectOptions) error
	Disconnect(ctx context.Context, ref string, opts network.DisconnectOptions) error
	Prune(ctx context.Context, f filters.Args) (*network.PruneReport, error)
}
