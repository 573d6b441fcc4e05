// Package image routes what the Engine API says about images and registries.
package image

import (
	"context"
	"io"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Backend is what the image routes need. Methods that write progress write Docker's JSON lines to out; what goes
// wrong before the first line is their error, what goes wrong after it is a line of its own and a nil error.
type Backend interface {
	catalogue
	transfer
}

type catalogue interface {
	List(ctx context.Context, opts image.ListOptions) ([]*image.Summary, error)
	Inspect(ctx context.Context, ref string, opts backend.ImageInspectOpts) (*image.InspectResponse, error)
	History(ctx context.Context, ref string, platform *ocispec.Platform) ([]*image.HistoryResponseItem, error)
	Tag(ctx context.Context, ref, newRef string) error
	Remove(ctx context.Context, ref string, opts image.RemoveOptions) ([]image.DeleteResponse, error)
	Prune(ctx context.Context, f filters.Args) (*image.PruneReport, error)
}

type transfer interface {
	// Pull takes a reference without tag or digest as ":latest", unless all tags are asked for.
	Pull(ctx context.Context, ref string, all bool, platform *ocispec.Platform, auth *registry.AuthConfig, out io.Writer) error
	Push(ctx context.Context, ref string, platform *ocispec.Platform, auth *registry.AuthConfig, out io.Writer) error
	Load(ctx context.Context, in io.Reader, platforms []ocispec.Platform, quiet bool, out io.Writer) error
	Save(ctx context.Context, refs []string, platforms []ocispec.Platform, out io.Writer) error
	// Import makes an image of a tar of a root file system. ref may be empty.
	Import(ctx context.Context, ref string, platform *ocispec.Platform, message string, changes []string, in io.Reader, out io.Writer) error
	Search(ctx context.Context, term string, limit int, f filters.Args, auth *registry.AuthConfig) ([]registry.SearchResult, error)
	Distribution(ctx context.Context, ref string, auth *registry.AuthConfig) (*registry.DistributionInspect, error)
}
