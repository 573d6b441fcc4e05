package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types, the elder sisters of OCI's.
const (
	mediaTypeManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeSchema1      = "application/vnd.docker.distribution.manifest.v1"
	mediaTypeConfig       = "application/vnd.docker.container.image.v1+json"
	mediaTypePlugin       = "application/vnd.docker.plugin.v1+json"
	mediaTypeLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	mediaTypeLayerGzip    = mediaTypeLayer + ".gzip"
	mediaTypeLayerZstd    = mediaTypeLayer + ".zstd"
)

// manifest is any of the documents that a reference may name.
type manifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType,omitempty"`
	Config        ocispec.Descriptor   `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
}

// document is what tells the kinds of manifest apart.
type document struct {
	MediaType string               `json:"mediaType"`
	Manifests []ocispec.Descriptor `json:"manifests"`
	Config    json.RawMessage      `json:"config"`
	Layers    json.RawMessage      `json:"layers"`
	FSLayers  json.RawMessage      `json:"fsLayers"`
}

// kindOf reads what kind of manifest a document is: by its own word, then the registry's, then its fields. It refuses
// one that says to be one kind and looks like another, a known way to smuggle.
func kindOf(raw []byte, served string) (string, *document, error) {
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return "", nil, invalid(fmt.Errorf("invalid manifest: %w", err))
	}
	kind := doc.MediaType
	if kind == "" {
		kind = served
	}
	switch {
	case strings.HasPrefix(kind, mediaTypeSchema1), doc.FSLayers != nil && doc.Config == nil && doc.Manifests == nil:
		return mediaTypeSchema1, &doc, nil
	case doc.FSLayers != nil, doc.Manifests != nil && (doc.Config != nil || doc.Layers != nil):
		return "", nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("manifest of type %q mixes the fields of several kinds", kind))
	case doc.Manifests != nil:
		return indexKind(kind), &doc, nil
	case doc.Config != nil:
		return manifestKind(kind), &doc, nil
	}
	return "", nil, errdefs.ErrInvalidArgument.WithMessage("unsupported manifest format")
}

func indexKind(kind string) string {
	if kind == mediaTypeManifestList {
		return kind
	}
	return ocispec.MediaTypeImageIndex
}

func manifestKind(kind string) string {
	if kind == mediaTypeManifest {
		return kind
	}
	return ocispec.MediaTypeImageManifest
}

func isIndex(kind string) bool {
	return kind == ocispec.MediaTypeImageIndex || kind == mediaTypeManifestList
}

// schema1Error refuses what no engine of today runs any more.
func schema1Error(ref reference.Named) error {
	return errdefs.ErrInvalidArgument.WithMessage("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed." +
		" Suggest the author of " + ref.String() + " to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2." +
		" More information at https://docs.docker.com/go/deprecated-image-specs/")
}

func parseManifest(raw []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, invalid(fmt.Errorf("invalid manifest: %w", err))
	}
	if err := m.Config.Digest.Validate(); err != nil {
		return nil, invalid(fmt.Errorf("could not validate config digest %q: %w", m.Config.Digest, err))
	}
	for _, l := range m.Layers {
		if err := l.Digest.Validate(); err != nil {
			return nil, invalid(fmt.Errorf("could not validate layer digest %q: %w", l.Digest, err))
		}
		if l.Size < 0 {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("layer %s has a negative size", l.Digest))
		}
	}
	return &m, nil
}

// checkKinds refuses what is in a registry but is no image: plugins, charts, models, artifacts.
func (m *manifest) checkKinds() error {
	if m.Config.MediaType == mediaTypePlugin {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Encountered remote %q(plugin) when fetching", mediaTypePlugin))
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		kind := strings.ToLower(d.MediaType)
		if strings.HasPrefix(kind, "application/vnd.docker.ai.") {
			return errdefs.ErrInvalidArgument.WithMessage(`AI models are not yet supported by the Engine, please use "docker model pull/run" instead`)
		}
		if !supported(kind) {
			return errdefs.ErrInvalidArgument.WithMessage("unsupported media type " + d.MediaType)
		}
	}
	return nil
}

// supported holds for the types of images, and for those that old registries gave their parts.
func supported(kind string) bool {
	switch kind {
	case "", "application/octet-stream", "application/json", "text/html":
		return true
	}
	return strings.HasPrefix(kind, "application/vnd.oci.image.") || strings.HasPrefix(kind, "application/vnd.docker.")
}

func (s *Store) readManifest(ctx context.Context, d ocispec.Descriptor) (*manifest, error) {
	raw, err := content.ReadBlob(ctx, s.content(), d)
	if err != nil {
		return nil, err
	}
	return parseManifest(raw)
}

// writeBlob stores a small blob whose bytes are at hand. It may be there already.
func (s *Store) writeBlob(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	err := content.WriteBlob(ctx, s.content(), remotes.MakeRefKey(ctx, d), bytes.NewReader(raw), d)
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("store %s: %w", d.Digest, err)
	}
	return nil
}

// errNoMatch is matched by the error of an index that has nothing for a platform.
var errNoMatch = errors.New("no matching manifest")
