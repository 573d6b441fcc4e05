package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/trace"
)

const (
	snapshotter = "overlayfs"
	// gcRoot keeps a snapshot, and with it the layers below it, from containerd's collector until it is removed.
	gcRoot = "containerd.io/gc.root"
)

// rootfsStore keeps the containers' root file systems: a snapshot each, mounted at one place as long as anybody needs
// it. An overlay must not be mounted twice at a time, so a running container and who copies files out of it share
// the mount.
type rootfsStore struct {
	client *containerd.Client
	base   string
	unpack singleflight.Group

	mu     sync.Mutex
	held   map[Key]*holding
	chains map[digest.Digest]digest.Digest // manifest → chain id of its layers; as small as the catalogue
}

// holding is one mount and how many need it.
type holding struct {
	users int // who look at it now; guarded by the store's mutex

	mu    sync.Mutex // held while mounting and unmounting
	count int
}

func newRootfsStore(client *containerd.Client, base string) *rootfsStore {
	return &rootfsStore{client: client, base: base, held: map[Key]*holding{}, chains: map[digest.Digest]digest.Digest{}}
}

func (s *rootfsStore) dir(key Key) string {
	return filepath.Join(s.base, string(key.Account), string(key.ID))
}

func (s *rootfsStore) snapshots() snapshots.Snapshotter { return s.client.SnapshotService(snapshotter) }

// Prepare makes the container's writable root file system over its image, unpacking the image when this host has not yet.
// Already there is no error; an option that cannot be honoured is errdefs.ErrInvalidArgument.
func (r *Runtime) Prepare(ctx context.Context, s Spec) error {
	ctx, span := trace.Start(inNamespace(ctx, s.Key), "snapshot")
	defer span.End()
	var parent string
	if s.Image.Digest != "" {
		chain, err := r.rootfs.chain(ctx, s.Image)
		if err != nil {
			return err
		}
		parent = chain.String()
	}
	mounts, err := r.rootfs.prepare(ctx, s.Key, parent, s.IDMap)
	if errdefs.IsNotFound(err) {
		if err := r.rootfs.unpackImage(ctx, s.Account, s.Image); err != nil {
			return fmt.Errorf("unpack image %s: %w", s.Image.Digest, err)
		}
		mounts, err = r.rootfs.prepare(ctx, s.Key, parent, s.IDMap)
	}
	if err != nil || mounts == nil {
		return err
	}
	return r.rootfs.limit(s, mounts)
}

// prepare tries at once: the image is nearly always unpacked already.
func (s *rootfsStore) prepare(ctx context.Context, key Key, parent string, ids nereid.IDMap) ([]mount.Mount, error) {
	mounts, err := s.snapshots().Prepare(ctx, string(key.ID), parent, snapshots.WithLabels(snapshotLabels(ids)))
	if errdefs.IsAlreadyExists(err) {
		return nil, nil
	}
	return mounts, err
}

// chain names the snapshot of an image's layers.
func (s *rootfsStore) chain(ctx context.Context, manifest ocispec.Descriptor) (digest.Digest, error) {
	s.mu.Lock()
	known, ok := s.chains[manifest.Digest]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	m, err := images.Manifest(ctx, s.client.ContentStore(), manifest, platforms.All)
	if err != nil {
		return "", fmt.Errorf("manifest %s: %w", manifest.Digest, err)
	}
	blob, err := content.ReadBlob(ctx, s.client.ContentStore(), m.Config)
	if err != nil {
		return "", fmt.Errorf("configuration of manifest %s: %w", manifest.Digest, err)
	}
	var config struct { // the rest is not read: images have more forms of it than OCI's
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(blob, &config); err != nil {
		return "", fmt.Errorf("configuration of manifest %s: %w", manifest.Digest, err)
	}
	chain := identity.ChainID(config.RootFS.DiffIDs)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chains[manifest.Digest] = chain
	return chain, nil
}

// unpackImage unpacks once, whoever asks. The lease keeps the layers until the image's configuration refers to them.
func (s *rootfsStore) unpackImage(ctx context.Context, account nereid.Account, manifest ocispec.Descriptor) error {
	_, err, _ := s.unpack.Do(string(account)+"/"+manifest.Digest.String(), func() (any, error) {
		// Another request may wait for this one: its end must not be that of the client who came first.
		ctx, done, err := s.client.WithLease(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
		defer func() {
			ctx, cancel := cleanupContext(ctx)
			defer cancel()
			_ = done(ctx) // a lease left behind expires
		}()
		img := containerd.NewImageWithPlatform(s.client, images.Image{Name: manifest.Digest.String(), Target: manifest}, platforms.All)
		return nil, img.Unpack(ctx, snapshotter)
	})
	return err
}

// Discard removes the container's root file system. Not found is no error.
func (r *Runtime) Discard(ctx context.Context, key Key) error {
	ctx, span := trace.Start(ctx, "remove snapshot")
	defer span.End()
	if err := r.rootfs.unmount(key); err != nil {
		return err
	}
	if err := r.unpinImages(ctx, key); err != nil {
		return err
	}
	r.unlimit(ctx, key)
	err := r.rootfs.snapshots().Remove(inNamespace(ctx, key), string(key.ID))
	if err == nil {
		r.sweepLater()
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Mount gives the root file system as a directory on the host until release is called, running or not. Release may be
// called twice.
func (r *Runtime) Mount(ctx context.Context, key Key) (string, func() error, error) {
	dir, err := r.rootfs.hold(inNamespace(ctx, key), key)
	if err != nil {
		return "", nil, err
	}
	return dir, sync.OnceValue(func() error { return r.rootfs.release(key) }), nil
}

// locked runs do with a container's mount locked against all others; what nobody holds is forgotten.
func (s *rootfsStore) locked(key Key, do func(h *holding) error) error {
	s.mu.Lock()
	h, ok := s.held[key]
	if !ok {
		h = &holding{}
		s.held[key] = h
	}
	h.users++
	s.mu.Unlock()

	h.mu.Lock()
	err := do(h)
	count := h.count
	h.mu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	h.users--
	if h.users == 0 && count == 0 {
		delete(s.held, key)
	}
	return err
}

// hold mounts the root file system, unless it is, and keeps it mounted until release.
func (s *rootfsStore) hold(ctx context.Context, key Key) (string, error) {
	dir := s.dir(key)
	return dir, s.locked(key, func(h *holding) error {
		if h.count == 0 {
			if err := s.mount(ctx, key, dir); err != nil {
				return err
			}
		}
		h.count++
		return nil
	})
}

func (s *rootfsStore) mount(ctx context.Context, key Key, dir string) error {
	mounts, err := s.snapshots().Mounts(ctx, string(key.ID))
	if err != nil {
		return fmt.Errorf("root file system of container %s: %w", key.ID, err)
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	if err := mount.All(mounts, dir); err != nil {
		return errors.Join(fmt.Errorf("mount root file system of container %s: %w", key.ID, err), os.Remove(dir))
	}
	return nil
}

// release undoes one hold. Without a hold it does nothing.
func (s *rootfsStore) release(key Key) error {
	return s.locked(key, func(h *holding) error {
		if h.count > 1 {
			h.count--
			return nil
		}
		return s.drop(key, h)
	})
}

// unmount undoes all holds.
func (s *rootfsStore) unmount(key Key) error {
	return s.locked(key, func(h *holding) error { return s.drop(key, h) })
}

func (s *rootfsStore) drop(key Key, h *holding) error {
	if h.count == 0 {
		return nil
	}
	if err := unmountDir(s.dir(key)); err != nil {
		return err
	}
	h.count = 0
	return nil
}

// unmountDir lets go of the mounts on a directory that are in use as soon as they are not; not mounted is no error. There are
// two where ids are mapped. What somebody wrote into the directory itself, who had not seen that it is no longer the
// container's, goes with it. Nobody mounts there meanwhile.
func unmountDir(dir string) error {
	var err error
	for err == nil {
		err = unix.Unmount(dir, unix.MNT_DETACH)
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// adopt takes over the mounts an earlier runtime left, before anybody holds one: those of the tasks named are held, the
// rest unmounted.
func (s *rootfsStore) adopt(tasks map[Key]*task) error {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(s.base))
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range infos {
		rel, err := filepath.Rel(s.base, i.Mountpoint)
		account, id := filepath.Split(rel)
		key := Key{Account: nereid.Account(filepath.Clean(account)), ID: nereid.ContainerID(id)}
		if _, wanted := tasks[key]; err == nil && wanted {
			s.held[key] = &holding{count: 1}
			continue
		}
		errs = append(errs, unmountDir(i.Mountpoint))
	}
	return errors.Join(errs...)
}
