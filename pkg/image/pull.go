package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Held is an image whose content is whole on this host and held there until Release.
type Held struct {
	Image
	// Digest is what the reference resolved to: an index's or a manifest's.
	Digest digest.Digest

	store  *Store
	hold   *hold
	resume string // what leftovers of earlier tries are called
}

// Keep makes the image last beyond Release. It may be called again.
func (h *Held) Keep() error { return h.store.keep(h.hold.ctx, &h.Image) }

// Release gives up the hold; an image that was not kept is garbage from then on. It may be called twice.
func (h *Held) Release() {
	if h.resume != "" {
		h.store.forgetRetries(h.hold.ctx, h.resume)
	}
	h.hold.release()
}

// Pull brings the image that a tag or digest of the repository names here, unpacked, and reports Docker's lines. The
// caller keeps and releases it. Errors have Docker's words and class; after one the host has nothing but what a new
// try within the hour can go on from.
func (s *Store) Pull(ctx context.Context, a nereid.Account, r *Repository, ref reference.Named, platform *ocispec.Platform, p *Progress) (_ *Held, retErr error) {
	h, err := s.hold(inNamespace(ctx, a), r.name.Name())
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			h.keepForRetry()
			retErr = pullError(retErr, ref)
		}
	}()
	target, raw, err := r.fetchTop(h, ref)
	if err != nil {
		return nil, err
	}
	if target.MediaType == mediaTypeSchema1 {
		return nil, schema1Error(ref)
	}
	p.Message(tagOrDigest(ref), "Pulling from "+reference.FamiliarName(reference.TrimNamed(repoPath(ref))))
	img, err := s.pullTarget(h, r, target, raw, platform, p)
	if err != nil {
		return nil, err
	}
	p.Message("", "Digest: "+target.Digest.String())
	return &Held{Image: *img, Digest: target.Digest, store: s, hold: h, resume: r.name.Name()}, nil
}

// repoPath is the name as progress lines have it: without the registry.
func repoPath(ref reference.Named) reference.Named {
	if path, err := reference.WithName(reference.Path(ref)); err == nil {
		return path
	}
	return ref
}

func tagOrDigest(ref reference.Named) string {
	if c, ok := ref.(reference.Canonical); ok {
		return c.String()
	}
	if t, ok := ref.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// fetchTop resolves the reference and reads what it names, from here when it is here.
func (r *Repository) fetchTop(h *hold, ref reference.Named) (ocispec.Descriptor, []byte, error) {
	name := ""
	if c, ok := ref.(reference.Canonical); ok {
		name = c.Digest().String()
	} else if t, ok := ref.(reference.Tagged); ok {
		name = t.Tag()
	} else {
		return ocispec.Descriptor{}, nil, fmt.Errorf("reference %q has neither tag nor digest", ref)
	}
	d, raw, err := r.resolve(h.ctx, name)
	if err != nil {
		return d, nil, err
	}
	return h.store.fetchManifest(h, r, d, raw)
}

// fetchManifest stores a manifest of the repository and returns it with its true media type.
func (s *Store) fetchManifest(h *hold, r *Repository, d ocispec.Descriptor, raw []byte) (ocispec.Descriptor, []byte, error) {
	here, err := s.present(h, d)
	if err != nil {
		return d, nil, err
	}
	switch {
	case raw != nil:
	case here:
		raw, err = content.ReadBlob(h.ctx, s.content(), d)
	default:
		var served ocispec.Descriptor
		served, raw, err = r.manifest(h.ctx, d.Digest.String())
		d.Size = served.Size
		if d.MediaType == "" {
			d.MediaType = served.MediaType
		}
	}
	if err != nil {
		return d, nil, err
	}
	kind, _, err := kindOf(raw, d.MediaType)
	if err != nil {
		return d, nil, err
	}
	d.MediaType = kind
	if !here {
		err = s.writeBlob(h.ctx, plain(d), raw)
	}
	return d, raw, err
}

// maxNesting bounds indexes that list indexes.
const maxNesting = 4

// pullTarget goes from what was named to the platform's manifest and pulls that.
func (s *Store) pullTarget(h *hold, r *Repository, target ocispec.Descriptor, raw []byte, platform *ocispec.Platform, p *Progress) (*Image, error) {
	d, raw, err := s.choose(h, r, target, raw, platform, maxNesting)
	if err != nil {
		return nil, err
	}
	img, err := s.pullManifest(h, r, d, raw, p)
	if err != nil {
		return nil, err
	}
	if img.Target.Digest == "" {
		img.Target = plain(target)
	}
	return img, nil
}

func (s *Store) choose(h *hold, r *Repository, d ocispec.Descriptor, raw []byte, platform *ocispec.Platform, depth int) (ocispec.Descriptor, []byte, error) {
	kind, doc, err := kindOf(raw, d.MediaType)
	if err != nil || !isIndex(kind) {
		return d, raw, err
	}
	if depth == 0 {
		return d, nil, noMatch(platform)
	}
	for _, m := range matches(doc.Manifests, platform) {
		if err := m.Digest.Validate(); err != nil {
			return d, nil, invalid(fmt.Errorf("manifest digest %q: %w", m.Digest, err))
		}
		child, raw, err := s.fetchManifest(h, r, m, nil)
		if err != nil {
			return d, nil, err
		}
		if found, raw, err := s.choose(h, r, child, raw, platform, depth-1); !errors.Is(err, errNoMatch) {
			return found, raw, err
		}
	}
	return d, nil, noMatch(platform)
}

// pullManifest fetches configuration and layers and unpacks them.
func (s *Store) pullManifest(h *hold, r *Repository, d ocispec.Descriptor, raw []byte, p *Progress) (*Image, error) {
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	if err := m.checkKinds(); err != nil {
		return nil, err
	}
	if img := s.known(h, nereid.ImageID(m.Config.Digest)); img != nil {
		return img, nil
	}
	rawConfig, err := s.fetchConfig(h, r, m.Config)
	if err != nil {
		return nil, err
	}
	cfg, err := decodeConfig(rawConfig)
	if err != nil {
		return nil, err
	}
	layers, err := layersOf(m.Layers, cfg.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	sizes, err := s.pullLayers(h, r, layers, p)
	if err != nil {
		return nil, err
	}
	img := &Image{ID: nereid.ImageID(m.Config.Digest), Manifest: plain(d), Config: rawConfig, Layers: m.Layers, Sizes: sizes}
	if cfg.Created != nil {
		img.Created = *cfg.Created
	}
	return img, nil
}

// known returns an image that this host keeps already, whatever manifest it came by, now held too; nil when it does
// not keep it whole.
func (s *Store) known(h *hold, id nereid.ImageID) *Image {
	img, err := s.open(h.ctx, id)
	if err != nil {
		return nil
	}
	if err := h.image(img); err != nil {
		return nil
	}
	img, err = s.open(h.ctx, id) // it may have gone before it was held
	if err != nil {
		return nil
	}
	return img
}

func (s *Store) fetchConfig(h *hold, r *Repository, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxConfig {
		return nil, invalid(fmt.Errorf("image configuration of %d bytes is over the limit of %d", d.Size, maxConfig))
	}
	here, err := s.present(h, d)
	if err != nil {
		return nil, err
	}
	if here {
		return content.ReadBlob(h.ctx, s.content(), d)
	}
	raw, err := r.config(h.ctx, d)
	if err != nil {
		return nil, fmt.Errorf("error pulling image configuration: %w", err)
	}
	return raw, s.writeBlob(h.ctx, d, raw)
}

func (r *Repository) config(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	body, _, err := r.blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, d.Size+1))
	if err != nil {
		return nil, err
	}
	if d.Digest.Algorithm().FromBytes(raw) != d.Digest {
		return nil, invalid(fmt.Errorf("image config verification failed for digest %s", d.Digest))
	}
	return raw, nil
}

// arrival is a layer's blob on its way. done is closed by the goroutine that fetches it.
type arrival struct {
	done chan struct{}
	err  error // set before done
}

// pullLayers fetches several layers at once and unpacks each as soon as it and all below it are here.
func (s *Store) pullLayers(h *hold, r *Repository, layers []layer, p *Progress) ([]int64, error) {
	have, err := s.announce(h, layers, p)
	if err != nil {
		return nil, err
	}
	eg, ctx := errgroup.WithContext(h.ctx)
	fetching := *h
	fetching.ctx = ctx
	slots := make(chan struct{}, s.cfg.Concurrency)
	arrivals := map[digest.Digest]*arrival{}
	for i, l := range layers {
		if have[i] || arrivals[l.blob.Digest] != nil {
			continue
		}
		on := &arrival{done: make(chan struct{})}
		arrivals[l.blob.Digest] = on
		eg.Go(func() error {
			defer close(on.done)
			on.err = s.pullBlob(&fetching, r, l.blob, slots, p)
			return on.err
		})
	}
	sizes := make([]int64, len(layers))
	eg.Go(func() error { return s.unpackAll(&fetching, layers, have, arrivals, sizes, p) })
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	return sizes, nil
}

// announce finds out which layers are here, unpacked, and says of each what will happen to it.
func (s *Store) announce(h *hold, layers []layer, p *Progress) ([]bool, error) {
	have := make([]bool, len(layers))
	said := map[digest.Digest]bool{}
	for i, l := range layers {
		if err := h.snapshot(l.chain); err != nil {
			return nil, err
		}
		blob, err := s.present(h, l.blob)
		if err != nil {
			return nil, err
		}
		_, unpacked, err := s.unpacked(h.ctx, l.chain)
		if err != nil {
			return nil, err
		}
		have[i] = blob && unpacked
		if said[l.blob.Digest] {
			continue
		}
		said[l.blob.Digest] = true
		if have[i] {
			p.Action(shortID(l.blob.Digest.String()), "Already exists")
		} else {
			p.Action(shortID(l.blob.Digest.String()), "Pulling fs layer")
		}
	}
	return have, nil
}

func (s *Store) pullBlob(h *hold, r *Repository, d ocispec.Descriptor, slots chan struct{}, p *Progress) error {
	if err := takeSlot(h.ctx, slots, p, shortID(d.Digest.String())); err != nil {
		return err
	}
	defer func() { <-slots }()
	here, err := s.present(h, d)
	if err != nil {
		return err
	}
	if !here {
		return s.fetch(h, r, d, p)
	}
	p.Action(shortID(d.Digest.String()), "Download complete")
	return nil
}

func (s *Store) unpackAll(h *hold, layers []layer, have []bool, arrivals map[digest.Digest]*arrival, sizes []int64, p *Progress) error {
	for i, l := range layers {
		if on := arrivals[l.blob.Digest]; on != nil && !have[i] {
			select {
			case <-on.done:
			case <-h.ctx.Done():
				return h.ctx.Err()
			}
			if on.err != nil {
				return on.err
			}
		}
		id := shortID(l.blob.Digest.String())
		size, err := s.unpack(h, l, p, id, "Extracting")
		if bad := (*diffIDError)(nil); errors.As(err, &bad) {
			return errLayersMismatch
		}
		if err != nil {
			return err
		}
		if sizes[i] = size; !have[i] {
			p.Action(id, "Pull complete")
		}
	}
	return nil
}
