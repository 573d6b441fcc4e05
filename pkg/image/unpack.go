package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	layertar "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/errdefs"
	"github.com/google/uuid"
	"github.com/moby/go-archive/compression"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// labelSize on a layer's snapshot is what its files hold, in bytes, as docker images counts: what the tar says, not
// what the file system needs.
const labelSize = "nereid.io/size"

// unpacked tells whether a layer's snapshot is there and how large it is.
func (s *Store) unpacked(ctx context.Context, chain string) (size int64, ok bool, err error) {
	info, err := s.snaps().Stat(ctx, chain)
	switch {
	case errdefs.IsNotFound(err):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("snapshot %s: %w", chain, err)
	}
	if size, err = strconv.ParseInt(info.Labels[labelSize], 10, 64); err == nil {
		return size, true, nil
	}
	use, err := s.snaps().Usage(ctx, chain) // made by somebody else
	return use.Size, err == nil, err
}

// unpackedSize is unpacked for a layer that must be there.
func (s *Store) unpackedSize(ctx context.Context, chain string) (int64, error) {
	size, ok, err := s.unpacked(ctx, chain)
	if err == nil && !ok {
		err = fmt.Errorf("snapshot %s: %w", chain, errdefs.ErrNotFound)
	}
	return size, err
}

// layer is one step of an image's root file system.
type layer struct {
	blob   ocispec.Descriptor
	diffID digest.Digest
	parent string // chain id of what is below; "" for the first
	chain  string
}

// layersOf joins a manifest's layers with the configuration's diff ids.
func layersOf(blobs []ocispec.Descriptor, diffIDs []digest.Digest) ([]layer, error) {
	if len(blobs) != len(diffIDs) {
		return nil, errLayersMismatch
	}
	layers := make([]layer, len(blobs))
	for i := range blobs {
		layers[i] = layer{blobs[i], diffIDs[i], chainID(diffIDs[:i]), chainID(diffIDs[:i+1])}
	}
	return layers, nil
}

// unpack applies a layer over its parent's snapshot and returns its size. action names what is done in the progress
// lines, under id. A layer that is there already is left alone; two that unpack the same layer do it once.
func (s *Store) unpack(h *hold, l layer, p *Progress, id, action string) (int64, error) {
	unlock, err := s.unpacking.lock(h.ctx, l.chain)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if err := h.snapshot(l.chain); err != nil {
		return 0, err
	}
	if size, ok, err := s.unpacked(h.ctx, l.chain); ok || err != nil {
		return size, err
	}
	return s.unpackNew(h.ctx, l, p, id, action)
}

func (s *Store) unpackNew(ctx context.Context, l layer, p *Progress, id, action string) (_ int64, retErr error) {
	key := "nereid-unpack-" + uuid.NewString()
	mounts, err := s.snaps().Prepare(ctx, key, l.parent)
	if err != nil {
		return 0, fmt.Errorf("prepare snapshot of layer %s: %w", l.blob.Digest, err)
	}
	defer func() {
		if retErr != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
			defer cancel()
			_ = s.snaps().Remove(clean, key) // its lease ends some time
		}
	}()
	size, err := s.applyBlob(ctx, l, mounts, p, id, action)
	if err != nil {
		return 0, err
	}
	err = s.snaps().Commit(ctx, l.chain, key, snapshots.WithLabels(map[string]string{
		labelSize:                    strconv.FormatInt(size, 10),
		"containerd.io/uncompressed": l.diffID.String(),
		"containerd.io/snapshot.ref": l.chain,
		"nereid.io/layer":            l.blob.Digest.String(),
	}))
	if err != nil {
		return 0, fmt.Errorf("commit snapshot of layer %s: %w", l.blob.Digest, err)
	}
	return size, nil
}

// applyBlob writes a layer's files and checks that what was unpacked is what the configuration says.
func (s *Store) applyBlob(ctx context.Context, l layer, mounts []mount.Mount, p *Progress, id, action string) (int64, error) {
	ra, err := s.content().ReaderAt(ctx, l.blob)
	if err != nil {
		return 0, fmt.Errorf("layer %s: %w", l.blob.Digest, err)
	}
	defer ra.Close()
	in := p.reader(&ctxReader{ctx, bufio.NewReaderSize(content.NewReader(ra), copySize)}, ra.Size(), id, action)
	plain, err := compression.DecompressStream(in)
	if err != nil {
		in.Close()
		return 0, fmt.Errorf("could not get decompression stream: %w", err)
	}
	defer func() { plain.Close(); in.Close() }()
	sum := digest.Canonical.Digester()
	size, err := apply(ctx, mounts, io.TeeReader(plain, sum.Hash()))
	if err != nil {
		return 0, registerError(ctx, err)
	}
	if sum.Digest() != l.diffID {
		return 0, &diffIDError{l.diffID, sum.Digest()}
	}
	return size, nil
}

// diffIDError tells that a layer's files are not those its image's configuration names.
type diffIDError struct{ want, got digest.Digest }

func (e *diffIDError) Error() string {
	return fmt.Sprintf("invalid diffID: expected %q, got %q", e.want, e.got)
}

func (e *diffIDError) Unwrap() error { return errdefs.ErrInvalidArgument }

// registerError gives Docker's words to a layer that is not what a layer should be.
func registerError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err = fmt.Errorf("failed to register layer: %w", err)
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return invalid(err)
	}
	return err
}

// apply unpacks a tar to its last byte into a snapshot and returns the bytes of its files. An overlay's upper
// directory is written directly: mounting it first is slower, and whiteouts are told apart either way.
func apply(ctx context.Context, mounts []mount.Mount, r io.Reader) (size int64, err error) {
	opts := []layertar.ApplyOpt{layertar.WithFilter(func(h *tar.Header) (bool, error) {
		size += h.Size
		return true, nil
	})}
	unpackTo := func(root string) error {
		if _, err := layertar.Apply(ctx, root, r, opts...); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		return syncFiles(root)
	}
	if upper, lower := overlayDirs(mounts); upper != "" {
		opts = append(opts, layertar.WithConvertWhiteout(layertar.OverlayConvertWhiteout))
		if len(lower) > 0 {
			opts = append(opts, layertar.WithParents(lower))
		}
		return size, unpackTo(upper)
	}
	if len(mounts) == 1 && mounts[0].Type == "bind" {
		return size, unpackTo(mounts[0].Source)
	}
	err = mount.WithTempMount(ctx, mounts, unpackTo)
	return size, err
}

func overlayDirs(mounts []mount.Mount) (upper string, lower []string) {
	if len(mounts) != 1 || mounts[0].Type != "overlay" {
		return "", nil
	}
	for _, o := range mounts[0].Options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			upper = dir
		} else if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
			lower = strings.Split(dirs, ":")
		}
	}
	return upper, lower
}

// syncFiles makes a layer's files last before its snapshot is said to be whole: after a power cut a snapshot on
// record with empty files would be an image that can neither run nor be pulled again.
func syncFiles(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %q: %w", dir, err)
	}
	return nil
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
