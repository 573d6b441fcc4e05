package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An image that a container has mounted is a read-only snapshot of its layers, which is there as long as the container. A
// file below pins, named after the image, tells of it to Discard. It is mounted while somebody copies the mount: what a
// container has of it outlives that.

func (r *Runtime) pinDir(key Key) string {
	return filepath.Join(r.cfg.Root, "image-mounts", string(key.Account), string(key.ID))
}

func viewKey(key Key, image string) string { return string(key.ID) + "-" + image }

// PinImage keeps the unpacked layers of an image for a container until Discard, unpacking them when this host has not yet.
// Done already is no error.
func (r *Runtime) PinImage(ctx context.Context, key Key, manifest ocispec.Descriptor) error {
	ctx = inNamespace(ctx, key)
	dir := r.pinDir(key)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := manifest.Digest.Encoded()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
		return err
	}
	chain, err := r.rootfs.chain(ctx, manifest)
	if err != nil {
		return err
	}
	err = r.rootfs.view(ctx, viewKey(key, name), chain.String())
	if errdefs.IsNotFound(err) {
		if err := r.rootfs.unpackImage(ctx, key.Account, manifest); err != nil {
			return fmt.Errorf("unpack image %s: %w", manifest.Digest, err)
		}
		err = r.rootfs.view(ctx, viewKey(key, name), chain.String())
	}
	return err
}

func (s *rootfsStore) view(ctx context.Context, key, parent string) error {
	_, err := s.snapshots().View(ctx, key, parent, snapshots.WithLabels(map[string]string{gcRoot: "true"}))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// MountImage gives a pinned image as a directory on the host until release is called. Release may be called twice.
func (r *Runtime) MountImage(ctx context.Context, key Key, manifest ocispec.Descriptor) (dir string, release func() error, err error) {
	if err := r.PinImage(ctx, key, manifest); err != nil {
		return "", nil, err
	}
	mounts, err := r.rootfs.snapshots().Mounts(inNamespace(ctx, key), viewKey(key, manifest.Digest.Encoded()))
	if err != nil {
		return "", nil, err
	}
	if dir, release, err = r.place(mounts); err != nil {
		return "", nil, fmt.Errorf("mount image %s: %w", manifest.Digest, err)
	}
	return dir, release, nil
}

// unpinImages lets go of what a container has pinned.
func (r *Runtime) unpinImages(ctx context.Context, key Key) error {
	pins, err := os.ReadDir(r.pinDir(key))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range pins {
		err := r.rootfs.snapshots().Remove(inNamespace(ctx, key), viewKey(key, p.Name()))
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return os.RemoveAll(r.pinDir(key))
}
