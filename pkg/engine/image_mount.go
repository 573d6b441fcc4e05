package engine

import (
	"context"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
	"github.com/nereid-paas/nereid/runtime"
)

// imageMount is a mount of an image, as the user names it: withImages says which one that is.
func imageMount(s volume.Spec) state.Mount {
	m := state.Mount{Type: string(s.Type), Name: s.Source, Destination: s.Target}
	if o := s.ImageOptions; o != nil {
		m.Subpath = o.Subpath
	}
	return m
}

// withImages looks up the images that are mounted, and brings them here. Another one under the same name later does not change the mount.
func (c *Containers) withImages(ctx context.Context, mounts []state.Mount) ([]state.Mount, error) {
	for i, m := range mounts {
		if m.Type != string(mount.TypeImage) || m.Image != nil {
			continue
		}
		img, err := c.images.ResolvePlatform(ctx, m.Name, nil)
		if err != nil {
			return nil, err
		}
		if img, err = c.images.Bring(ctx, img); err != nil {
			return nil, err
		}
		manifest := img.Manifest
		mounts[i].Image, mounts[i].Source = &manifest, string(img.ID)
	}
	return mounts, nil
}

// bringMounted brings the images that a new container mounts to this host. One that is not in the catalogue is told of
// when the mounts are made.
func (c *Containers) bringMounted(ctx context.Context, hc *container.HostConfig) error {
	for _, m := range hc.Mounts {
		if m.Type != mount.TypeImage {
			continue
		}
		img, err := c.images.ResolvePlatform(ctx, m.Source, nil)
		if err != nil {
			continue
		}
		if _, err := c.images.Bring(ctx, img); err != nil {
			return err
		}
	}
	return nil
}

// imageSource mounts an image, until what it returns is called.
func (v *Volumes) imageSource(ctx context.Context, c *state.Container, m state.Mount, rm *runtime.Mount) (func(), error) {
	dir, unmount, err := v.Runtime.MountImage(ctx, keyOf(c), *m.Image)
	if err != nil {
		return nil, err
	}
	release := func() {
		if err := unmount(); err != nil {
			v.Log.Warn("mounted image not unmounted", zap.String("container", string(c.ID)), zap.Error(err))
		}
	}
	rm.Source, rm.ReadOnly = dir, true
	if m.Subpath == "" {
		return release, nil
	}
	part, letGo, err := v.Volumes.Part(dir, m.Subpath)
	if err != nil {
		release()
		return nil, err
	}
	rm.Source = part
	return func() { letGo(); release() }, nil
}
