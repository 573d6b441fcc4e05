package image

import (
	"context"
	"errors"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Take brings an image here whose descriptors are known, as Pull does one by its name: what is missing of it, by digest,
// each verified. The caller keeps and releases it. What a failed one has fetched is used by the next, from whichever
// repository. An error for which Busy holds says that it is given to others just now.
func (s *Store) Take(ctx context.Context, a nereid.Account, r *Repository, target, manifest ocispec.Descriptor) (_ *Held, retErr error) {
	what := "fleet/" + manifest.Digest.String()
	h, err := s.hold(inNamespace(ctx, a), what)
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			h.keepForRetry()
		}
	}()
	if target.Digest != manifest.Digest {
		if _, _, err := s.fetchManifest(h, r, target, nil); err != nil {
			return nil, err
		}
	}
	d, raw, err := s.fetchManifest(h, r, manifest, nil)
	if err != nil {
		return nil, err
	}
	img, err := s.pullManifest(h, r, d, raw, nil)
	if err != nil {
		return nil, err
	}
	if img.Target.Digest == "" {
		img.Target = plain(target)
	}
	return &Held{Image: *img, Digest: target.Digest, store: s, hold: h, resume: what}, nil
}

// Busy tells whether who has what was asked for gives it to others just now.
func Busy(err error) bool {
	var said *registryError
	return errors.As(err, &said) && said.Code == codeTooMany
}

const (
	// largeBlob is from where a blob takes long enough to be counted.
	largeBlob = 1 << 20
	// maxGiven is how many hosts are given one large blob at a time: who comes later does better to wait for one of
	// those, so that a new image spreads like branches instead of dividing one host's bandwidth by all who want it.
	maxGiven = 2
)

// giving counts the large blobs that are open for others. The zero value is ready.
type giving struct {
	mu   sync.Mutex
	open map[digest.Digest]int
}

// begin tells whether a blob may be given to one more; end takes that back.
func (g *giving) begin(d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[d] >= maxGiven {
		return false
	}
	if g.open == nil {
		g.open = map[digest.Digest]int{}
	}
	g.open[d]++
	return true
}

func (g *giving) end(d digest.Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[d]--; g.open[d] == 0 {
		delete(g.open, d)
	}
}

// BusyError says that a blob is given to as many as is good already.
type BusyError struct{ Digest digest.Digest }

func (e *BusyError) Error() string { return e.Digest.String() + " is being given to others" }

// Busy says so to those who know no BusyError.
func (e *BusyError) Busy() bool { return true }

// Unwrap gives the class.
func (e *BusyError) Unwrap() error { return errdefs.ErrResourceExhausted }

// counted ends a blob's count with its closing.
type counted struct {
	close func() error
	end   func()
	once  sync.Once
}

// Close implements io.Closer. It may be called twice.
func (c *counted) Close() (err error) {
	c.once.Do(func() {
		c.end()
		err = c.close()
	})
	return err
}
