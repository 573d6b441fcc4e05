// Package imagetest gives tests what image tests need: a containerd in the test's own process, a registry on loopback
// that misbehaves on demand, and images for both.
package imagetest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	bolt "go.etcd.io/bbolt"
	"gotest.tools/v3/assert"
)

// Containerd is the part of containerd that keeps images: content, metadata, snapshots, leases, garbage collection.
type Containerd struct {
	Client *containerd.Client
	db     *metadata.DB
}

// NewContainerd makes one below a directory of the test's, closed with the test.
func NewContainerd(t testing.TB) *Containerd {
	t.Helper()
	dir := Dir(t)
	blobs, err := local.NewStore(filepath.Join(dir, "content"))
	assert.NilError(t, err)
	snapper, err := overlay.NewSnapshotter(filepath.Join(dir, "snapshots"))
	assert.NilError(t, err)
	t.Cleanup(func() { _ = snapper.Close() })
	file, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, &bolt.Options{NoSync: true})
	assert.NilError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	db := metadata.NewDB(file, blobs, map[string]snapshots.Snapshotter{"overlayfs": snapper})
	assert.NilError(t, db.Init(context.Background()))
	client, err := containerd.New("", containerd.WithServices(
		containerd.WithContentStore(db.ContentStore()),
		containerd.WithImageStore(metadata.NewImageStore(db)),
		containerd.WithLeasesService(collectingLeases{metadata.NewLeaseManager(db), db}),
		containerd.WithSnapshotters(db.Snapshotters()),
		containerd.WithNamespaceService(namespaceLister{Store: nil, db: db}),
	))
	assert.NilError(t, err)
	return &Containerd{Client: client, db: db}
}

// Dir is a directory of the test's in memory where the machine has such a place: images are synced to disk layer by
// layer, and tests need not wait for disks.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "images-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	return dir
}

// Collect runs the garbage collection, as containerd does from time to time.
func (c *Containerd) Collect(t testing.TB) {
	t.Helper()
	_, err := c.db.GarbageCollect(context.Background())
	assert.NilError(t, err)
}

// collectingLeases collects garbage when a lease is deleted synchronously, as containerd's lease service does.
type collectingLeases struct {
	leases.Manager
	db *metadata.DB
}

func (c collectingLeases) Delete(ctx context.Context, l leases.Lease, opts ...leases.DeleteOpt) error {
	var o leases.DeleteOptions
	for _, f := range opts {
		if err := f(ctx, &o); err != nil {
			return err
		}
	}
	if err := c.Manager.Delete(ctx, l, opts...); err != nil || !o.Synchronous {
		return err
	}
	_, err := c.db.GarbageCollect(ctx)
	return err
}

// namespaceLister lists namespaces; nothing else is asked of it.
type namespaceLister struct {
	namespaces.Store
	db *metadata.DB
}

func (n namespaceLister) List(ctx context.Context) (names []string, err error) {
	err = n.db.View(func(tx *bolt.Tx) error {
		names, err = metadata.NewNamespaceStore(tx).List(ctx)
		return err
	})
	return names, err
}
