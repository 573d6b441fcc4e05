package image

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Labels of the containerd image object. All that an image needs hangs on the object itself rather than on labels of
// shared blobs, so that removing the object frees exactly what no other image needs.
const (
	labelContent  = "containerd.io/gc.ref.content."
	labelSnapshot = "containerd.io/gc.ref.snapshot."
	labelTarget   = "nereid.io/target" // the descriptor of Image.Target, as JSON, when it is not the manifest
)

// keep makes, or makes again, the object that holds an image. The content must be held meanwhile.
func (s *Store) keep(ctx context.Context, img *Image) error {
	obj, err := s.root(img)
	if err != nil {
		return err
	}
	if _, err = s.images().Create(ctx, obj); errdefs.IsAlreadyExists(err) {
		_, err = s.images().Update(ctx, obj)
	}
	if err != nil {
		return fmt.Errorf("keep image %q: %w", img.ID, err)
	}
	return nil
}

func (s *Store) root(img *Image) (images.Image, error) {
	cfg, err := decodeConfig(img.Config)
	if err != nil {
		return images.Image{}, err
	}
	labels := map[string]string{labelContent + "config": string(img.ID)}
	for i, l := range img.Layers {
		labels[labelContent+"l."+strconv.Itoa(i)] = l.Digest.String()
	}
	if top := chainID(cfg.RootFS.DiffIDs); top != "" {
		labels[labelSnapshot+s.cfg.Snapshotter] = top
	}
	if img.Target.Digest != img.Manifest.Digest {
		target, err := json.Marshal(img.Target)
		if err != nil {
			return images.Image{}, err
		}
		labels[labelContent+"index"] = img.Target.Digest.String()
		labels[labelTarget] = string(target)
	}
	return images.Image{Name: string(img.ID), Target: plain(img.Manifest), Labels: labels}, nil
}

// plain is a descriptor without what only its index says of it.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// Drop removes the object that holds an image; containerd collects what nothing else needs. Not there is no error.
func (s *Store) Drop(ctx context.Context, a nereid.Account, id nereid.ImageID) error {
	err := s.images().Delete(inNamespace(ctx, a), string(id))
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("drop image %q: %w", id, err)
	}
	return nil
}

// Collect frees at once what was let go of. containerd does so by itself only after a good deal of changes, and people
// who remove images want the room now.
func (s *Store) Collect(ctx context.Context, a nereid.Account) error {
	ctx = inNamespace(ctx, a)
	l, err := s.leases().Create(ctx, leases.WithRandomID(), leases.WithExpiration(cleanupTime))
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	if err := s.leases().Delete(ctx, l, leases.SynchronousDelete); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

// Kept lists the images of an account that this host holds.
func (s *Store) Kept(ctx context.Context, a nereid.Account) ([]nereid.ImageID, error) {
	objs, err := s.images().List(inNamespace(ctx, a))
	if err != nil {
		return nil, fmt.Errorf("list images held for %q: %w", a, err)
	}
	var ids []nereid.ImageID
	for _, o := range objs {
		if strings.HasPrefix(o.Name, digest.Canonical.String()+":") {
			ids = append(ids, nereid.ImageID(o.Name))
		}
	}
	return ids, nil
}

// Accounts lists the namespaces of containerd: whoever may hold something here.
func (s *Store) Accounts(ctx context.Context) ([]nereid.Account, error) {
	names, err := s.cfg.Client().NamespaceService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containerd namespaces: %w", err)
	}
	accounts := make([]nereid.Account, len(names))
	for i, n := range names {
		accounts[i] = nereid.Account(n)
	}
	return accounts, nil
}

// Open reads an image this host holds back from its content. It is NotFound when the host does not hold it whole.
func (s *Store) Open(ctx context.Context, a nereid.Account, id nereid.ImageID) (*Image, error) {
	return s.open(inNamespace(ctx, a), id)
}

func (s *Store) open(ctx context.Context, id nereid.ImageID) (*Image, error) {
	obj, err := s.images().Get(ctx, string(id))
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", id, err)
	}
	target := obj.Target
	if t, ok := obj.Labels[labelTarget]; ok {
		if err := json.Unmarshal([]byte(t), &target); err != nil {
			return nil, fmt.Errorf("image %q: target %q: %w", id, t, err)
		}
	}
	if _, err := s.content().Info(ctx, target.Digest); err != nil {
		return nil, fmt.Errorf("image %q: index %s: %w", id, target.Digest, err)
	}
	return s.describe(ctx, target, obj.Target)
}

// describe reads an image whose content and snapshots are here.
func (s *Store) describe(ctx context.Context, target, manifest ocispec.Descriptor) (*Image, error) {
	m, err := s.readManifest(ctx, manifest)
	if err != nil {
		return nil, err
	}
	raw, err := content.ReadBlob(ctx, s.content(), m.Config)
	if err != nil {
		return nil, err
	}
	cfg, err := decodeConfig(raw)
	if err != nil {
		return nil, err
	}
	img := &Image{ID: nereid.ImageID(m.Config.Digest), Target: target, Manifest: manifest, Config: raw, Layers: m.Layers}
	if cfg.Created != nil {
		img.Created = *cfg.Created
	}
	for i, l := range m.Layers {
		if _, err := s.content().Info(ctx, l.Digest); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		if i >= len(cfg.RootFS.DiffIDs) {
			return nil, errLayersMismatch
		}
		size, err := s.unpackedSize(ctx, chainID(cfg.RootFS.DiffIDs[:i+1]))
		if err != nil {
			return nil, err
		}
		img.Sizes = append(img.Sizes, size)
	}
	return img, nil
}

// chainID names the snapshot of layers applied one over the other; "" when there is none.
func chainID(diffIDs []digest.Digest) string {
	if len(diffIDs) == 0 {
		return ""
	}
	return identity.ChainID(diffIDs).String()
}
