package engine

import (
	"context"
	"time"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/storage"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Inspect answers all that is known of an image, from the view.
func (i *Images) Inspect(ctx context.Context, ref string, opts backend.ImageInspectOpts) (*imagetypes.InspectResponse, error) {
	img, err := i.find(nereid.AccountFrom(ctx), ref, opts.Platform)
	if err != nil {
		return nil, err
	}
	cfg, err := image.DecodeConfig(img.Config)
	if err != nil {
		return nil, err
	}
	tags, digests := familiar(references(i.State.View(), namedOf(i.State.View(), img)))
	target := img.Target
	if opts.Platform != nil {
		target = i.listed(ctx, img)
	}
	r := &imagetypes.InspectResponse{
		ID:              string(img.ID),
		RepoTags:        tags,
		RepoDigests:     digests,
		Parent:          string(img.Parent),
		Comment:         commentOf(cfg),
		Container:       cfg.Container,
		ContainerConfig: cfg.ContainerConfig,
		DockerVersion:   cfg.DockerVersion,
		Author:          cfg.Author,
		Config:          specConfig(cfg.Config),
		Architecture:    cfg.Architecture,
		Variant:         cfg.Variant,
		Os:              cfg.OS,
		OsVersion:       cfg.OSVersion,
		Size:            img.Size,
		GraphDriver:     storage.DriverData{Name: i.store.Snapshotter()},
		RootFS:          imagetypes.RootFS{Type: cfg.RootFS.Type},
		Metadata:        imagetypes.Metadata{LastTagTime: img.LastTagged},
		Descriptor:      &target,
	}
	if r.Os == "" {
		r.Os = "linux"
	}
	if r.ContainerConfig == nil {
		r.ContainerConfig = &container.Config{}
	}
	if cfg.Created != nil {
		r.Created = cfg.Created.Format(time.RFC3339Nano)
	}
	for _, d := range cfg.RootFS.DiffIDs {
		r.RootFS.Layers = append(r.RootFS.Layers, d.String())
	}
	if opts.Manifests {
		r.Manifests = i.manifests(ctx, img)
	}
	return r, nil
}

// commentOf is the image's own comment, or its last step's.
func commentOf(cfg *image.ImageConfig) string {
	if cfg.Comment == "" && len(cfg.History) > 0 {
		return cfg.History[len(cfg.History)-1].Comment
	}
	return cfg.Comment
}

// specConfig is what of a container's configuration belongs to an image, as the image specification names it.
func specConfig(c *container.Config) *dockerspec.DockerOCIImageConfig {
	out := &dockerspec.DockerOCIImageConfig{}
	if c == nil {
		return out
	}
	out.ImageConfig = ocispec.ImageConfig{
		User:        c.User,
		Env:         c.Env,
		Entrypoint:  c.Entrypoint,
		Cmd:         c.Cmd,
		Volumes:     c.Volumes,
		WorkingDir:  c.WorkingDir,
		Labels:      c.Labels,
		StopSignal:  c.StopSignal,
		ArgsEscaped: c.ArgsEscaped,
	}
	if len(c.ExposedPorts) > 0 {
		out.ExposedPorts = map[string]struct{}{}
		for p := range c.ExposedPorts {
			out.ExposedPorts[string(p)] = struct{}{}
		}
	}
	out.Healthcheck, out.OnBuild, out.Shell = c.Healthcheck, c.OnBuild, c.Shell
	return out
}
