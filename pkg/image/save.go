package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Saved is an image to save with the names it is saved by.
type Saved struct {
	ID     nereid.ImageID
	Tags   []reference.NamedTagged
	Parent nereid.ImageID // kept in the archive when it is saved along
}

// Save writes images as one archive that is both what docker save writes and an OCI layout. Blobs are written as they
// are kept, compressed or not, each once. An image this host does not hold whole is NotFound, before anything is
// written.
func (s *Store) Save(ctx context.Context, a nereid.Account, list []Saved, w io.Writer) error {
	h, err := s.hold(inNamespace(ctx, a), "")
	if err != nil {
		return err
	}
	defer h.release()
	sv := &saver{blobs: map[digest.Digest]int64{}}
	var all []*Image
	for _, item := range list {
		img := s.known(h, item.ID)
		if img == nil {
			return noContent(item.ID)
		}
		sv.add(item, img)
		all = append(all, img)
	}
	if err := sv.join(h, list, all); err != nil {
		return err
	}
	sv.keepParents(list)
	return sv.write(h, w)
}

// saver collects what goes into an archive.
type saver struct {
	blobs map[digest.Digest]int64
	items []dockerItem
	index []ocispec.Descriptor
}

func blobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func (sv *saver) add(item Saved, img *Image) {
	id := digest.Digest(img.ID)
	sv.blobs[id] = int64(len(img.Config))
	sv.blobs[img.Manifest.Digest] = img.Manifest.Size
	it := dockerItem{Config: blobName(id)}
	for _, l := range img.Layers {
		sv.blobs[l.Digest] = l.Size
		it.Layers = append(it.Layers, blobName(l.Digest))
	}
	for _, t := range item.Tags {
		it.RepoTags = append(it.RepoTags, reference.FamiliarString(t))
	}
	sv.list(img.Manifest, item.Tags)
	sv.items = append(sv.items, it)
}

// join puts the index in the place of its manifests, for images of several platforms of which more than one is saved.
func (sv *saver) join(h *hold, list []Saved, all []*Image) error {
	of := map[digest.Digest][]int{}
	for n, img := range all {
		if isIndex(img.Target.MediaType) {
			of[img.Target.Digest] = append(of[img.Target.Digest], n)
		}
	}
	for _, members := range of {
		target := all[members[0]].Target
		if len(members) < 2 {
			continue
		}
		raw, err := content.ReadBlob(h.ctx, h.store.content(), target)
		if err != nil {
			return fmt.Errorf("index %s: %w", target.Digest, err)
		}
		_, doc, err := kindOf(raw, target.MediaType)
		if err != nil {
			return err
		}
		inIndex := map[digest.Digest]bool{}
		for _, d := range doc.Manifests {
			inIndex[d.Digest] = true
		}
		if slices.ContainsFunc(members, func(n int) bool { return !inIndex[all[n].Manifest.Digest] }) {
			continue // some are in an index of the index
		}
		sv.blobs[target.Digest] = target.Size
		var tags []reference.NamedTagged
		for _, n := range members {
			tags = append(tags, list[n].Tags...)
			sv.index = slices.DeleteFunc(sv.index, func(d ocispec.Descriptor) bool { return d.Digest == all[n].Manifest.Digest })
		}
		sv.list(target, tags)
	}
	return nil
}

// list enters what an image is into the layout's index, under its names.
func (sv *saver) list(what ocispec.Descriptor, tags []reference.NamedTagged) {
	for _, t := range tags {
		d := plain(what)
		d.Annotations = map[string]string{images.AnnotationImageName: t.String(), ocispec.AnnotationRefName: t.Tag()}
		sv.index = append(sv.index, d)
	}
	if len(tags) == 0 {
		sv.index = append(sv.index, plain(what))
	}
}

func (sv *saver) keepParents(list []Saved) {
	for i, item := range list {
		for _, other := range list {
			if other.ID == item.Parent && other.ID != item.ID {
				sv.items[i].Parent = item.Parent
			}
		}
	}
}

// write writes the archive, in an order that does not change from one time to the next.
func (sv *saver) write(h *hold, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, dir := range []string{ocispec.ImageBlobsDir, ocispec.ImageBlobsDir + "/sha256"} {
		if err := tw.WriteHeader(entry(tar.TypeDir, dir+"/", 0, 0o755)); err != nil {
			return err
		}
	}
	all := make([]digest.Digest, 0, len(sv.blobs))
	for d := range sv.blobs {
		all = append(all, d)
	}
	slices.Sort(all)
	for _, d := range all {
		if err := writeBlobEntry(h, tw, d, sv.blobs[d]); err != nil {
			return fmt.Errorf("save %s: %w", d, err)
		}
	}
	docs := []struct {
		name string
		doc  any
	}{
		{ocispec.ImageIndexFile, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: sv.index}},
		{dockerManifest, sv.items},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
	}
	for _, d := range docs {
		raw, err := json.Marshal(d.doc)
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(entry(tar.TypeReg, d.name, int64(len(raw)), 0o644)); err != nil {
			return err
		}
		if _, err := tw.Write(raw); err != nil {
			return err
		}
	}
	return tw.Close()
}

func entry(kind byte, name string, size, mode int64) *tar.Header {
	return &tar.Header{Typeflag: kind, Name: name, Size: size, Mode: mode, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

func writeBlobEntry(h *hold, tw *tar.Writer, d digest.Digest, size int64) error {
	ra, err := h.store.content().ReaderAt(h.ctx, ocispec.Descriptor{Digest: d, Size: size})
	if err != nil {
		return err
	}
	defer ra.Close()
	if err := tw.WriteHeader(entry(tar.TypeReg, blobName(d), ra.Size(), 0o644)); err != nil {
		return err
	}
	_, err = io.CopyBuffer(tw, &ctxReader{h.ctx, content.NewReader(ra)}, make([]byte, copySize))
	return err
}
