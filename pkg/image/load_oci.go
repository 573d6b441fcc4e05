package image

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// oci loads what an OCI image layout's index lists. Entries of one name are one image for several platforms.
func (l *loader) oci() ([]*Loaded, error) {
	var index ocispec.Index
	if err := l.decode(ociIndex, &index); err != nil {
		return nil, err
	}
	groups, order := map[string][]ocispec.Descriptor{}, []string{}
	for _, d := range index.Manifests {
		key := nameOf(d)
		if key == "" && d.Platform == nil {
			key = "@" + d.Digest.String() // nameless, and nothing says that it is one of several
		}
		if _, ok := groups[key]; !ok {
			order = append(order, key)
		}
		groups[key] = append(groups[key], d)
	}
	var loaded []*Loaded
	for _, key := range order {
		images, err := l.ociImages(key, groups[key])
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, images...)
	}
	return loaded, nil
}

// severalPlatforms tells of an archive whose layout says more than its manifest.json can: that images are of an index. An
// archive that names them in manifest.json alone is taken by that.
func (l *loader) severalPlatforms() bool {
	var index ocispec.Index
	if !l.has(ociIndex) || l.decode(ociIndex, &index) != nil {
		return false
	}
	nameless := func(d ocispec.Descriptor) bool { return nameOf(d) == "" }
	return slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return isIndex(d.MediaType) }) &&
		!slices.ContainsFunc(index.Manifests, nameless)
}

// nameOf is the image's name in an index entry: the full one that containerd writes, or the reference name when it is
// more than a bare tag, which names nothing by itself.
func nameOf(d ocispec.Descriptor) string {
	if n := d.Annotations[images.AnnotationImageName]; n != "" {
		return n
	}
	if n := d.Annotations[ocispec.AnnotationRefName]; strings.ContainsAny(n, ":/") {
		return n
	}
	return ""
}

// ociImages are the platforms of one image, the one that has its names first.
func (l *loader) ociImages(key string, entries []ocispec.Descriptor) ([]*Loaded, error) {
	var tags []reference.NamedTagged
	if key != "" && key[0] != '@' {
		named, err := reference.ParseNormalizedNamed(key)
		if err != nil {
			return nil, invalid(fmt.Errorf("image name %q: %w", key, err))
		}
		if t, ok := reference.TagNameOnly(named).(reference.NamedTagged); ok {
			tags = append(tags, t)
		}
	}
	target, d, raw, err := l.chooseOCI(entries)
	if err != nil {
		return nil, err
	}
	held, err := l.ociManifest(d, raw)
	if err != nil {
		return nil, err
	}
	held.Target, held.Digest = target, target.Digest
	loaded := []*Loaded{{Held: *held, Tags: tags}}
	others, err := l.beside(target, d)
	if err != nil {
		return nil, err
	}
	for _, o := range others {
		raw, err := l.ociBlob(o)
		if err != nil {
			return nil, err
		}
		if err := l.store.writeBlob(l.hold.ctx, plain(o), raw); err != nil {
			return nil, err
		}
		held, err := l.ociManifest(o, raw)
		if err != nil {
			return nil, err
		}
		held.Target, held.Digest = target, target.Digest
		loaded = append(loaded, &Loaded{Held: *held, Beside: true})
	}
	return loaded, nil
}

// beside are the manifests of other platforms that an index lists, the layout holds and the user wants. Those of other
// operating systems are passed over: no host of a fleet can run them.
func (l *loader) beside(target, chosen ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !isIndex(target.MediaType) {
		return nil, nil
	}
	all, err := l.listed(target)
	return slices.DeleteFunc(all, func(d ocispec.Descriptor) bool {
		return d.Digest == chosen.Digest || !l.ours(d) || !l.wants(*d.Platform)
	}), err
}

// runnable tells whether a manifest of an index is an image of a platform, and here.
func (l *loader) runnable(d ocispec.Descriptor) bool {
	return images.IsManifestType(d.MediaType) && d.Platform != nil && d.Platform.OS != "unknown" && l.holds(d)
}

// ours tells whether a runnable manifest is of an operating system that a host of a fleet can have.
func (l *loader) ours(d ocispec.Descriptor) bool { return l.runnable(d) && d.Platform.OS == "linux" }

func (l *loader) listed(index ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	raw, err := l.ociBlob(index)
	if err != nil {
		return nil, err
	}
	_, doc, err := kindOf(raw, index.MediaType)
	if err != nil {
		return nil, err
	}
	return doc.Manifests, nil
}

// chooseOCI finds the platform's manifest among entries, and what of them named it. A single image of another platform
// is loaded when none was asked for, as from a docker archive.
func (l *loader) chooseOCI(entries []ocispec.Descriptor) (target, d ocispec.Descriptor, raw []byte, err error) {
	candidates := matches(entries, l.platform())
	if len(candidates) == 0 && len(entries) == 1 && len(l.want) == 0 {
		candidates = entries
	}
	for _, c := range candidates {
		d, raw, err = l.descend(c, maxNesting)
		if err == nil || !errors.Is(err, errNoMatch) {
			c.MediaType = cmp.Or(c.MediaType, d.MediaType)
			return plain(c), d, raw, err
		}
	}
	if len(l.want) == 0 {
		if target, d, raw, err := l.firstOCI(entries); err != nil || raw != nil {
			return target, d, raw, err
		}
	}
	return target, d, nil, noMatch(l.platform())
}

// firstOCI is the first platform that is there, for an archive without this host's; raw is nil when there is none.
func (l *loader) firstOCI(entries []ocispec.Descriptor) (target, d ocispec.Descriptor, raw []byte, err error) {
	for _, c := range entries {
		if !isIndex(c.MediaType) {
			continue
		}
		all, err := l.listed(c)
		if err != nil {
			return target, d, nil, err
		}
		n := slices.IndexFunc(all, l.ours)
		if n < 0 {
			n = slices.IndexFunc(all, l.runnable) // to be refused by its name
		}
		if n < 0 {
			continue
		}
		d, raw, err = l.descend(all[n], 0)
		return plain(c), d, raw, err
	}
	return target, d, nil, nil
}

func (l *loader) descend(d ocispec.Descriptor, depth int) (ocispec.Descriptor, []byte, error) {
	raw, err := l.ociBlob(d)
	if err != nil {
		return d, nil, err
	}
	kind, doc, err := kindOf(raw, d.MediaType)
	if err != nil {
		return d, nil, err
	}
	if kind == mediaTypeSchema1 {
		return d, nil, invalid(errors.New("unsupported manifest format"))
	}
	d.MediaType = kind
	if err := l.store.writeBlob(l.hold.ctx, plain(d), raw); err != nil {
		return d, nil, err
	}
	if !isIndex(kind) {
		return d, raw, nil
	}
	if depth == 0 {
		return d, nil, noMatch(l.platform())
	}
	for _, m := range matches(doc.Manifests, l.platform()) {
		if !l.holds(m) {
			continue // a layout may hold some platforms of an index only
		}
		if found, raw, err := l.descend(m, depth-1); !errors.Is(err, errNoMatch) {
			return found, raw, err
		}
	}
	return d, nil, noMatch(l.platform())
}

// holds tells whether the layout has a blob. It has none whose digest is no digest.
func (l *loader) holds(d ocispec.Descriptor) bool {
	return d.Digest.Validate() == nil && l.has(blobPath(d))
}

// blobPath is where a layout has a blob. The digest must be valid.
func blobPath(d ocispec.Descriptor) string {
	return ocispec.ImageBlobsDir + "/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
}

// ociBlob reads a document of the layout and checks that it is what its name says.
func (l *loader) ociBlob(d ocispec.Descriptor) ([]byte, error) {
	if err := l.checkBlob(d); err != nil {
		return nil, err
	}
	return l.read(blobPath(d))
}

func (l *loader) checkBlob(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return invalid(fmt.Errorf("digest %q: %w", d.Digest, err))
	}
	f, err := l.find(blobPath(d))
	if err != nil {
		return err
	}
	if f.digest != d.Digest {
		return invalid(fmt.Errorf("blob %s is damaged: its digest is %s", d.Digest, f.digest))
	}
	return nil
}

func (l *loader) ociManifest(d ocispec.Descriptor, raw []byte) (*Held, error) {
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, invalid(err)
	}
	if err := m.checkKinds(); err != nil {
		return nil, err
	}
	config, err := l.ociBlob(m.Config)
	if err != nil {
		return nil, err
	}
	cfg, err := loadable(config)
	if err != nil {
		return nil, err
	}
	if err := l.store.writeBlob(l.hold.ctx, m.Config, config); err != nil {
		return nil, err
	}
	for _, ly := range m.Layers {
		if err := l.checkBlob(ly); err != nil {
			return nil, err
		}
		if _, err := l.blob(blobPath(ly)); err != nil {
			return nil, err
		}
	}
	return l.unpackImage(&m, plain(d), config, cfg)
}
