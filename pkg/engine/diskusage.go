package engine

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// containerLister lists containers, with their sizes when asked to.
type containerLister interface {
	List(ctx context.Context, opts container.ListOptions) ([]*container.Summary, error)
}

// imageLister lists images.
type imageLister interface {
	List(ctx context.Context, opts image.ListOptions) ([]*image.Summary, error)
}

// DiskUsage measures what the account's things take on disk: those asked for, and the build cache, which is empty.
func (s *System) DiskUsage(ctx context.Context, opts backend.DiskUsageOptions) (*backend.DiskUsage, error) {
	du := &backend.DiskUsage{BuildCache: &build.CacheDiskUsage{Items: []*build.CacheRecord{}}}
	group, ctx := errgroup.WithContext(ctx)
	if opts.Containers {
		group.Go(func() (err error) { du.Containers, err = s.containerUsage(ctx); return err })
	}
	if opts.Images {
		group.Go(func() (err error) { du.Images, err = s.imageUsage(ctx); return err })
	}
	if opts.Volumes {
		group.Go(func() (err error) { du.Volumes, err = s.volumes.DiskUsage(ctx); return err })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return du, nil
}

func (s *System) containerUsage(ctx context.Context) (*container.DiskUsage, error) {
	list, err := s.containers.List(ctx, container.ListOptions{All: true, Size: true})
	if err != nil {
		return nil, fmt.Errorf("failed to retrieve container list: %w", err)
	}
	du := &container.DiskUsage{Items: list}
	for _, c := range list {
		c.ImageManifestDescriptor = nil // belongs to lists of containers only
		du.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
		default:
			du.Reclaimable += c.SizeRw
		}
	}
	return du, nil
}

// imageUsage counts a layer once however many images share it; an image that a container uses keeps its own layers
// from being reclaimable.
func (s *System) imageUsage(ctx context.Context) (*image.DiskUsage, error) {
	list, err := s.images.List(ctx, image.ListOptions{SharedSize: true})
	if err != nil {
		return nil, fmt.Errorf("failed to retrieve image list: %w", err)
	}
	du := &image.DiskUsage{Items: list, TotalSize: s.layersSize(nereid.AccountFrom(ctx))}
	du.Reclaimable = du.TotalSize
	for _, i := range list {
		if i.Containers != 0 && i.Size >= 0 && i.SharedSize >= 0 {
			du.Reclaimable -= i.Size - i.SharedSize
		}
	}
	return du, nil
}

// layersSize sums the unpacked sizes of the distinct layers of the account's images.
func (s *System) layersSize(a nereid.Account) int64 {
	var sum int64
	seen := map[string]bool{}
	for _, i := range s.State.View().Images(a) {
		for n, l := range i.Layers {
			if d := l.Digest.String(); !seen[d] && n < len(i.Sizes) {
				seen[d] = true
				sum += i.Sizes[n]
			}
		}
	}
	return sum
}
