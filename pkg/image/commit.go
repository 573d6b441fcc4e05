package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// CommitOptions say what a container is made an image of.
type CommitOptions struct {
	Parent          nereid.ImageID // what the container was made from; empty: nothing
	Config          *container.Config
	ContainerConfig *container.Config
	ContainerID     nereid.ContainerID
	Author, Comment string
	// Write writes a layer of what the container's files are over those below a directory. When it fails it may be called
	// again: a container that is not paused changes them meanwhile.
	Write func(ctx context.Context, lower string, w io.Writer) error
}

// Commit makes an image of what a container changed over its image. The caller keeps and releases it. It is NotFound
// when this host does not hold the container's image.
func (s *Store) Commit(ctx context.Context, a nereid.Account, opts CommitOptions) (_ *Held, retErr error) {
	h, err := s.hold(inNamespace(ctx, a), "")
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			h.release()
		}
	}()
	cfg, m, err := s.commitBase(h, opts.Parent)
	if err != nil {
		return nil, err
	}
	d, err := s.diff(h, chainID(cfg.RootFS.DiffIDs), opts)
	if err != nil {
		return nil, fmt.Errorf("find the changes of container %q: %w", opts.ContainerID, err)
	}
	m.Layers = append(m.Layers, d)
	cfg.extend(opts, d.Digest, s.cfg.Version)
	raw, err := marshal(cfg)
	if err != nil {
		return nil, err
	}
	l := &loader{archive: &archive{store: s, hold: h}}
	return l.assemble(m, raw, cfg)
}

// commitBase is the configuration and manifest to add a layer to.
func (s *Store) commitBase(h *hold, parent nereid.ImageID) (*ImageConfig, *manifest, error) {
	m := &manifest{SchemaVersion: 2, MediaType: mediaTypeManifest}
	if parent == "" {
		return &ImageConfig{
			Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
			RootFS:   &ocispec.RootFS{Type: "layers"},
		}, m, nil
	}
	img := s.known(h, parent)
	if img == nil {
		return nil, nil, noContent(parent)
	}
	cfg, err := decodeConfig(img.Config)
	m.Layers = slices.Clone(img.Layers)
	return cfg, m, err
}

// extend makes the configuration of the next image of a parent's.
func (c *ImageConfig) extend(opts CommitOptions, diff digest.Digest, version string) {
	now := time.Now().UTC()
	step := ocispec.History{Created: &now, Author: opts.Author, Comment: opts.Comment}
	if opts.ContainerConfig != nil {
		step.CreatedBy = strings.Join(opts.ContainerConfig.Cmd, " ")
	}
	c.Created, c.Author, c.Comment, c.DockerVersion = &now, opts.Author, "", version
	c.Container, c.ContainerConfig, c.Config = string(opts.ContainerID), opts.ContainerConfig, opts.Config
	c.RootFS.DiffIDs = append(slices.Clone(c.RootFS.DiffIDs), diff)
	c.History = append(slices.Clone(c.History), step)
}

// diff stores what a container's root file system has over a snapshot, as a layer.
func (s *Store) diff(h *hold, lower string, opts CommitOptions) (_ ocispec.Descriptor, retErr error) {
	key := "nereid-diff-" + uuid.NewString()
	mounts, err := s.snaps().View(h.ctx, key, lower)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), cleanupTime)
		defer cancel()
		if err := s.snaps().Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
			retErr = errors.Join(retErr, err)
		}
	}()
	var d ocispec.Descriptor
	err = mount.WithReadonlyTempMount(h.ctx, mounts, func(root string) error {
		for range writeTries {
			failed := false
			d, failed, err = s.writeLayer(h.ctx, root, opts)
			if !failed || h.ctx.Err() != nil {
				break
			}
		}
		return err
	})
	d.MediaType = mediaTypeLayer
	return d, err
}

// writeTries is how often a layer is written before what fails it is taken for lasting.
const writeTries = 5

// writeLayer stores a layer. It has failed when writing it did, rather than storing.
func (s *Store) writeLayer(ctx context.Context, lower string, opts CommitOptions) (_ ocispec.Descriptor, failed bool, _ error) {
	pr, pw := io.Pipe()
	done := make(chan error)
	go func() {
		err := opts.Write(ctx, lower, pw)
		pw.CloseWithError(err)
		done <- err
	}()
	d, err := s.ingest(ctx, pr)
	pr.CloseWithError(err) // ends the goroutine when ingest ended first
	wrote := <-done
	return d, wrote != nil && errors.Is(err, wrote), err
}
