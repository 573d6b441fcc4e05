package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/container"
	"github.com/moby/go-archive/compression"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// ImportOptions say what an imported root file system is to be.
type ImportOptions struct {
	Platform *ocispec.Platform // nil: this host's
	Message  string
	Config   *container.Config
}

// Import makes an image of one layer of a tar stream, compressed or not. The caller keeps and releases it.
func (s *Store) Import(ctx context.Context, a nereid.Account, in io.Reader, opts ImportOptions) (_ *Held, retErr error) {
	platform := platforms.DefaultSpec()
	if opts.Platform != nil {
		platform = *opts.Platform
	}
	if platform.OS != "linux" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("operating system is not supported")
	}
	h, err := s.hold(inNamespace(ctx, a), "")
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			h.release()
		}
	}()
	layer, err := s.importLayer(h, in)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	cfg := &ImageConfig{
		Platform:      platform,
		Created:       &now,
		Comment:       opts.Message,
		DockerVersion: s.cfg.Version,
		Config:        opts.Config,
		RootFS:        &ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
		History:       []ocispec.History{{Created: &now, Comment: opts.Message}},
	}
	raw, err := marshal(cfg)
	if err != nil {
		return nil, err
	}
	l := &loader{archive: &archive{store: s, hold: h}}
	m := &manifest{SchemaVersion: 2, MediaType: mediaTypeManifest, Layers: []ocispec.Descriptor{layer}}
	return l.assemble(m, raw, cfg)
}

func (s *Store) importLayer(h *hold, in io.Reader) (ocispec.Descriptor, error) {
	plain, err := compression.DecompressStream(&ctxReader{h.ctx, in})
	if err != nil {
		return ocispec.Descriptor{}, archiveError(h.ctx, err)
	}
	defer plain.Close()
	d, err := s.ingest(h.ctx, plain)
	if h.ctx.Err() != nil {
		return d, context.Cause(h.ctx)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return d, invalid(fmt.Errorf("the archive ends too early: %w", err))
	}
	d.MediaType = mediaTypeLayer
	return d, err
}
