package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Loaded is an image of an archive with the names the archive gives it.
type Loaded struct {
	Held
	Tags   []reference.NamedTagged
	Parent nereid.ImageID // as the archive says, of an image that came along; else empty
	// Beside is set for the other platforms of the image before it, which has the names.
	Beside bool
}

// Names of the documents that tell the kinds of archive apart.
const (
	dockerManifest = "manifest.json"
	ociIndex       = ocispec.ImageIndexFile
	legacyRepos    = "repositories"
)

// Load reads an archive as docker save writes it, old or new, or an OCI image layout, and calls enter with its images,
// whole and unpacked, to be kept; they are held until it returns. Nothing is entered of an archive with any fault.
// With platforms only images of those are loaded. Errors are InvalidArgument for what is wrong with the archive.
func (s *Store) Load(ctx context.Context, a nereid.Account, in io.Reader, want []ocispec.Platform, p *Progress, enter func([]*Loaded) error) error {
	h, err := s.hold(inNamespace(ctx, a), "")
	if err != nil {
		return err
	}
	defer h.release()
	ar, err := s.readArchive(h, in)
	if err != nil {
		return err
	}
	l := &loader{archive: ar, want: want, progress: p}
	var images []*Loaded
	switch {
	case ar.has(dockerManifest) && !l.severalPlatforms():
		images, err = l.docker()
	case ar.has(ociIndex):
		images, err = l.oci()
	case ar.has(legacyRepos):
		images, err = l.legacy()
	default:
		err = errdefs.ErrInvalidArgument.WithMessage("invalid archive: it has none of manifest.json, index.json and repositories")
	}
	if err != nil {
		return err
	}
	if len(images) == 0 && len(want) > 0 {
		return errdefs.ErrNotFound.WithMessage("no images providing the requested platform " + platforms.FormatAll(want[0]) + " found")
	}
	return enter(images)
}

// loader makes images of an archive's files.
type loader struct {
	*archive
	want     []ocispec.Platform
	progress *Progress
}

func (l *loader) wants(p ocispec.Platform) bool {
	if len(l.want) == 0 {
		return true
	}
	for _, w := range l.want {
		if platforms.OnlyStrict(w).Match(p) {
			return true
		}
	}
	return false
}

// platform is the one to choose from an index; nil: this host's.
func (l *loader) platform() *ocispec.Platform {
	if len(l.want) == 0 {
		return nil
	}
	return &l.want[0]
}

// dockerItem is one image in manifest.json.
type dockerItem struct {
	Config   string
	RepoTags []string
	Layers   []string
	Parent   nereid.ImageID `json:",omitempty"`
}

func (l *loader) docker() ([]*Loaded, error) {
	var items []dockerItem
	if err := l.decode(dockerManifest, &items); err != nil {
		return nil, err
	}
	if items == nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid manifest, manifest cannot be null (but can be [])")
	}
	var images []*Loaded
	for _, it := range items {
		img, err := l.dockerImage(it)
		if err != nil {
			return nil, err
		}
		if img != nil {
			images = append(images, img)
		}
	}
	keepParents(images)
	return images, nil
}

// dockerImage makes one image; nil when its platform is not wanted.
func (l *loader) dockerImage(it dockerItem) (*Loaded, error) {
	tags, err := parseTags(it.RepoTags)
	if err != nil {
		return nil, err
	}
	raw, err := l.read(it.Config)
	if err != nil {
		return nil, err
	}
	cfg, err := loadable(raw)
	if err != nil || !l.wants(cfg.Platform) {
		return nil, err
	}
	if want, got := len(it.Layers), len(cfg.RootFS.DiffIDs); want != got {
		return nil, errdefs.ErrInvalidArgument.WithMessage(
			fmt.Sprintf("invalid manifest, layers length mismatch: expected %d, got %d", want, got))
	}
	m := &manifest{SchemaVersion: 2, MediaType: mediaTypeManifest, Layers: []ocispec.Descriptor{}}
	for _, name := range it.Layers {
		d, err := l.blob(name)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, d)
	}
	img, err := l.assemble(m, raw, cfg)
	if err != nil {
		return nil, err
	}
	return &Loaded{Held: *img, Tags: tags, Parent: it.Parent}, nil
}

// loadable reads an image's configuration and refuses what this engine cannot run at all.
func loadable(raw []byte) (*ImageConfig, error) {
	cfg, err := decodeConfig(raw)
	if err != nil {
		return nil, err
	}
	if cfg.OS == "" {
		cfg.OS = "linux"
	}
	if cfg.OS != "linux" {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("cannot load %s image on linux", cfg.OS))
	}
	return cfg, nil
}

func parseTags(names []string) ([]reference.NamedTagged, error) {
	var tags []reference.NamedTagged
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, invalid(err)
		}
		t, ok := named.(reference.NamedTagged)
		if !ok {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid tag %q", n))
		}
		if !slices.ContainsFunc(tags, func(have reference.NamedTagged) bool { return have.String() == t.String() }) {
			tags = append(tags, t)
		}
	}
	return tags, nil
}

// assemble writes an image's manifest and configuration and unpacks its layers, which are in the content store.
func (l *loader) assemble(m *manifest, config []byte, cfg *ImageConfig) (*Held, error) {
	m.Config = ocispec.Descriptor{MediaType: mediaTypeConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	if err := l.store.writeBlob(l.hold.ctx, m.Config, config); err != nil {
		return nil, err
	}
	raw, err := marshal(m)
	if err != nil {
		return nil, err
	}
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := l.store.writeBlob(l.hold.ctx, d, raw); err != nil {
		return nil, err
	}
	return l.unpackImage(m, d, config, cfg)
}

func (l *loader) unpackImage(m *manifest, d ocispec.Descriptor, config []byte, cfg *ImageConfig) (*Held, error) {
	layers, err := layersOf(m.Layers, cfg.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	img := Image{ID: nereid.ImageID(m.Config.Digest), Target: d, Manifest: d, Config: config, Layers: m.Layers}
	if cfg.Created != nil {
		img.Created = *cfg.Created
	}
	for n, ly := range layers {
		size, err := l.store.unpack(l.hold, ly, l.progress, shortID(ly.diffID.String()), "Loading layer")
		if bad := (*diffIDError)(nil); errors.As(err, &bad) {
			return nil, errdefs.ErrInvalidArgument.WithMessage(
				fmt.Sprintf("invalid diffID for layer %d: expected %q, got %q", n, bad.want, bad.got))
		}
		if err != nil {
			return nil, err
		}
		img.Sizes = append(img.Sizes, size)
	}
	return &Held{Image: img, Digest: d.Digest, store: l.store, hold: l.hold}, nil
}

// keepParents forgets parents that did not come along.
func keepParents(images []*Loaded) {
	ids := map[nereid.ImageID]bool{}
	for _, img := range images {
		ids[img.ID] = true
	}
	for _, img := range images {
		if !ids[img.Parent] || img.Parent == img.ID {
			img.Parent = ""
		}
	}
}
