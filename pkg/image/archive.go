package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/google/uuid"
	"github.com/moby/go-archive/compression"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxFiles bounds the entries of an image archive. Real ones have a few per layer.
	maxFiles = 100_000
	// smallFile is what is kept in memory rather than in the content store: documents, not layers.
	smallFile = 256 << 10
	// maxSmall bounds all small files together; beyond it they go to the content store as well.
	maxSmall = 16 << 20
	// maxLinks bounds how many links are followed from one name.
	maxLinks = 16
)

// archive is what an image archive held, read once from end to end: its order says nothing of what its files are, so
// large ones wait in the content store, where layers belong anyway.
type archive struct {
	store *Store
	hold  *hold
	files map[string]*file
	links map[string]string
	small int64
}

type file struct {
	digest digest.Digest
	size   int64
	data   []byte // nil: in the content store
}

// readArchive reads a tar, compressed or not, to its end.
func (s *Store) readArchive(h *hold, in io.Reader) (*archive, error) {
	plain, err := compression.DecompressStream(&ctxReader{h.ctx, in})
	if err != nil {
		return nil, archiveError(h.ctx, err)
	}
	defer plain.Close()
	a := &archive{store: s, hold: h, files: map[string]*file{}, links: map[string]string{}}
	for tr := tar.NewReader(plain); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err == nil {
			err = a.add(hdr, tr)
		}
		if err != nil {
			return nil, archiveError(h.ctx, err)
		}
	}
}

func archiveError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return invalid(fmt.Errorf("Error processing tar file: %w", err))
}

func (a *archive) add(hdr *tar.Header, r io.Reader) error {
	if len(a.files)+len(a.links) >= maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	name, err := inside(hdr.Name)
	if err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		f, err := a.keep(hdr.Size, r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		a.files[name] = f
	case tar.TypeSymlink:
		target := hdr.Linkname
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		a.links[name], err = inside(target)
	case tar.TypeLink:
		a.links[name], err = inside(hdr.Linkname)
	}
	return err
}

// inside cleans a name and refuses one that leads out of the archive.
func inside(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("path %q leads out of the archive", name)
	}
	return clean, nil
}

func (a *archive) keep(size int64, r io.Reader) (*file, error) {
	if size <= smallFile && a.small+size <= maxSmall {
		data, err := io.ReadAll(r)
		if err == nil && int64(len(data)) < size {
			err = io.ErrUnexpectedEOF
		}
		a.small += int64(len(data))
		return &file{digest.FromBytes(data), int64(len(data)), data}, err
	}
	d, err := a.store.ingest(a.hold.ctx, r)
	return &file{digest: d.Digest, size: d.Size}, err
}

// ingest stores a stream of unknown digest.
func (s *Store) ingest(ctx context.Context, r io.Reader) (_ ocispec.Descriptor, retErr error) {
	key := "nereid-ingest-" + uuid.NewString()
	w, err := content.OpenWriter(ctx, s.content(), content.WithRef(key))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("store content: %w", err)
	}
	defer w.Close()
	defer func() {
		if retErr != nil {
			s.abort(ctx, w, key)
		}
	}()
	size, err := io.CopyBuffer(w, r, make([]byte, copySize))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{Digest: w.Digest(), Size: size}
	if err := w.Commit(ctx, size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, fmt.Errorf("store content: %w", err)
	}
	return d, nil
}

// find follows links to a file. What is not there is fs.ErrNotExist.
func (a *archive) find(name string) (*file, error) {
	at, err := inside(name)
	if err != nil {
		return nil, invalid(err)
	}
	for range maxLinks {
		if f, ok := a.files[at]; ok {
			return f, nil
		}
		to, ok := a.links[at]
		if !ok {
			return nil, invalid(&fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist})
		}
		at = to
	}
	return nil, invalid(fmt.Errorf("open %s: too many links", name))
}

func (a *archive) has(name string) bool {
	_, err := a.find(name)
	return err == nil
}

// read returns a document.
func (a *archive) read(name string) ([]byte, error) {
	f, err := a.find(name)
	if err != nil {
		return nil, err
	}
	if f.data != nil {
		return f.data, nil
	}
	if f.size > maxAnswer {
		return nil, invalid(fmt.Errorf("%s is larger than %d bytes", name, maxAnswer))
	}
	return content.ReadBlob(a.hold.ctx, a.store.content(), ocispec.Descriptor{Digest: f.digest, Size: f.size})
}

func (a *archive) decode(name string, into any) error {
	raw, err := a.read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return invalid(fmt.Errorf("%s: %w", name, err))
	}
	return nil
}

// blob makes sure that a file is in the content store and describes it, as a layer.
func (a *archive) blob(name string) (ocispec.Descriptor, error) {
	f, err := a.find(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{Digest: f.digest, Size: f.size}
	if f.data != nil {
		d.MediaType = layerType(f.data)
		return d, a.store.writeBlob(a.hold.ctx, d, f.data)
	}
	head := make([]byte, min(f.size, 512))
	ra, err := a.store.content().ReaderAt(a.hold.ctx, d)
	if err != nil {
		return d, err
	}
	defer ra.Close()
	if _, err := ra.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return d, err
	}
	d.MediaType = layerType(head)
	return d, nil
}

// layerType tells from its first bytes how a layer is compressed.
func layerType(head []byte) string {
	switch compression.Detect(head) {
	case compression.Gzip:
		return mediaTypeLayerGzip
	case compression.Zstd:
		return mediaTypeLayerZstd
	}
	return mediaTypeLayer
}

// diffID is the digest of a layer's tar.
func (a *archive) diffID(d ocispec.Descriptor) (digest.Digest, error) {
	ra, err := a.store.content().ReaderAt(a.hold.ctx, d)
	if err != nil {
		return "", err
	}
	defer ra.Close()
	plain, err := compression.DecompressStream(&ctxReader{a.hold.ctx, bufio.NewReaderSize(content.NewReader(ra), copySize)})
	if err != nil {
		return "", invalid(err)
	}
	defer plain.Close()
	sum := digest.Canonical.Digester()
	if _, err := io.Copy(sum.Hash(), plain); err != nil {
		return "", archiveError(a.hold.ctx, err)
	}
	return sum.Digest(), nil
}

// marshal is JSON without the escapes that Go adds for HTML: digests are made of it.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
