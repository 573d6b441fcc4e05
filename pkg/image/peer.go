package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// peerDomain stands for a registry in the names of images that come from other hosts. It is shown nowhere.
const peerDomain = "host.nereid"

// Peer is what another host has of an image, as a repository to pull from by digest. base is where its distribution
// endpoint is, and client how that is reached; the account is its to know.
func (s *Store) Peer(id nereid.ImageID, base url.URL, client *http.Client) (*Repository, reference.Named, error) {
	// A name of its own for each image, by which a try that was cut short is taken up again.
	name, err := reference.WithName(peerDomain + "/" + strings.TrimPrefix(string(id), "sha256:"))
	if err != nil {
		return nil, nil, fmt.Errorf("image %q: %w: %w", id, err, errdefs.ErrInvalidArgument)
	}
	a := &authorizer{client: client, agent: s.cfg.UserAgent}
	return &Repository{name: name, base: base, client: client, auth: a, agent: s.cfg.UserAgent, once: true}, name, nil
}

// Blob is one piece of content that this host has, open to be read at any place. Close it after use.
type Blob struct {
	io.ReadSeeker
	io.Closer
	Digest    digest.Digest
	MediaType string // of a manifest or index; empty of anything else
}

// maxManifest bounds what is looked into to find out whether it is a manifest.
const maxManifest = maxAnswer

// Blob opens content of the account by its digest, for a host; "": nobody knows which. manifest tells that it is asked
// for as one, and wants its type. A large blob that is given to another host just now is a *BusyError.
func (s *Store) Blob(ctx context.Context, a nereid.Account, to nereid.Host, d string, manifest bool) (*Blob, error) {
	dig, err := digest.Parse(d)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q is no digest", d))
	}
	ctx = inNamespace(ctx, a)
	ra, err := s.content().ReaderAt(ctx, ocispec.Descriptor{Digest: dig})
	if err != nil {
		return nil, fmt.Errorf("content %s: %w", dig, err)
	}
	if ra.Size() >= s.cfg.LargeBlob && !manifest {
		g, told, ok := s.giving.begin(dig, to, time.Now())
		if !ok {
			ra.Close()
			return nil, &BusyError{dig, told}
		}
		closer := &counted{close: ra.Close, end: func() { s.giving.end(dig, g) }}
		return &Blob{ReadSeeker: given{io.NewSectionReader(ra, 0, ra.Size()), g}, Closer: closer, Digest: dig}, nil
	}
	b := &Blob{ReadSeeker: io.NewSectionReader(ra, 0, ra.Size()), Closer: ra, Digest: dig}
	if manifest {
		if b.MediaType, err = manifestType(ra); err != nil {
			ra.Close()
			return nil, err
		}
	}
	return b, nil
}

func manifestType(ra content.ReaderAt) (string, error) {
	if ra.Size() > maxManifest {
		return "", errdefs.ErrNotFound.WithMessage("no manifest")
	}
	raw := make([]byte, ra.Size())
	if _, err := io.ReadFull(io.NewSectionReader(ra, 0, ra.Size()), raw); err != nil {
		return "", err
	}
	kind, _, err := kindOf(raw, "")
	if err != nil {
		return "", errdefs.ErrNotFound.WithMessage("no manifest")
	}
	return kind, nil
}
