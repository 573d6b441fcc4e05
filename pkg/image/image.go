// Package image keeps the content of images on one host: it fetches, verifies, unpacks and removes them through
// containerd, and knows nothing of the catalogue that names them.
//
// Each account is a containerd namespace. A catalogue image is one containerd image object, named by the image's id,
// and that object alone holds everything the image needs: manifest, index, configuration, layers and the snapshot of
// the unpacked layers. While something is in flight a lease holds it.
package image

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Config of a Store.
type Config struct {
	// Client gives the containerd client; it is asked at each use, so containerd may start after New.
	Client func() *containerd.Client
	// Snapshotter unpacks layers. It must be the one containers are made with. Default "overlayfs".
	Snapshotter string
	// Concurrency is the number of layers one pull fetches at once. Default 3, as Docker's.
	Concurrency int
	// Attempts is how often a layer's download is tried. Default 5, as Docker's.
	Attempts int
	// RetryDelay is the wait after the first failed download; it grows by itself each time. Default 5 seconds.
	RetryDelay time.Duration
	// LargeBlob is the size in bytes from which content is given to one other host at a time. Default 8 MiB: less
	// is given to all at once.
	LargeBlob int64
	// UserAgent is what registries see. Default "nereid".
	UserAgent string
	// Version is written as docker_version into images made here.
	Version string
	// Insecure registries, as host[:port] or CIDR, may speak plain http or have unknown certificates. Loopback always may.
	Insecure []string
	// Certs holds a directory per registry with its CA (*.crt) and client (*.cert, *.key) certificates, as Docker's
	// certs.d. Empty: none.
	Certs string
	// Mirrors are URLs tried before Docker Hub.
	Mirrors []string
}

func (c Config) withDefaults() Config {
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 3
	}
	if c.Attempts <= 0 {
		c.Attempts = 5
	}
	if c.RetryDelay <= 0 {
		c.RetryDelay = 5 * time.Second
	}
	if c.LargeBlob <= 0 {
		c.LargeBlob = largeBlob
	}
	if c.UserAgent == "" {
		c.UserAgent = "nereid"
	}
	return c
}

// Store is the content of one host's images. All methods may be called at once.
type Store struct {
	cfg       Config
	unpacking keyed
	giving    giving
	transport func(*endpoint) http.RoundTripper
	lookup    func(context.Context, string) []netip.Addr
}

// New makes a Store; it touches nothing.
func New(cfg Config) *Store {
	return &Store{cfg: cfg.withDefaults(), transport: newTransport, lookup: lookupHost}
}

// Snapshotter is the name of the snapshotter that holds the unpacked layers.
func (s *Store) Snapshotter() string { return s.cfg.Snapshotter }

// Image is what is known of an image from its content.
type Image struct {
	ID nereid.ImageID
	// Target is what the reference named, an index or the manifest itself; Manifest is the one for the platform.
	Target   ocispec.Descriptor
	Manifest ocispec.Descriptor
	Config   []byte // the configuration blob, verbatim
	Created  time.Time
	Layers   []ocispec.Descriptor
	Sizes    []int64 // unpacked bytes of each layer
}

// Size is the unpacked bytes of all layers.
func (i Image) Size() int64 {
	var n int64
	for _, s := range i.Sizes {
		n += s
	}
	return n
}

func inNamespace(ctx context.Context, a nereid.Account) context.Context {
	return namespaces.WithNamespace(ctx, string(a))
}

func (s *Store) content() content.Store { return s.cfg.Client().ContentStore() }
func (s *Store) images() images.Store   { return s.cfg.Client().ImageService() }
func (s *Store) leases() leases.Manager { return s.cfg.Client().LeasesService() }
func (s *Store) snaps() snapshots.Snapshotter {
	return s.cfg.Client().SnapshotService(s.cfg.Snapshotter)
}
