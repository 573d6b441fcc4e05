package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Repository is one repository of a registry, as one user sees it. Methods may be called at once.
type Repository struct {
	name   reference.Named
	once   bool // what fails is not tried again there
	base   url.URL
	client *http.Client
	auth   *authorizer
	agent  string
	mounts map[digest.Digest]mountable
	// next connects to the places that were not tried yet; nil unless this one is a mirror.
	next func(context.Context) (*Repository, error)
}

// Connect finds out where and how the registry of a name answers, and what it wants to know of who asks. auth may be
// nil. Actions are what will be done: "pull", or "pull,push", which mirrors are left out of. Close the repository
// after use.
func (s *Store) Connect(ctx context.Context, name reference.Named, creds *registry.AuthConfig, actions string) (*Repository, error) {
	all, err := s.endpoints(ctx, reference.Domain(name))
	if err != nil {
		return nil, err
	}
	if actions != "pull" {
		all = slices.DeleteFunc(all, func(e *endpoint) bool { return e.mirror })
	}
	return s.connect(ctx, all, name, creds, actions)
}

// connect takes the first place that answers.
func (s *Store) connect(ctx context.Context, all []*endpoint, name reference.Named, creds *registry.AuthConfig, actions string) (_ *Repository, err error) {
	for n, e := range all {
		r := s.repository(e, name, creds, actions)
		if e.mirror {
			r.next = func(ctx context.Context) (*Repository, error) { return s.connect(ctx, all[n+1:], name, creds, actions) }
		}
		if err = r.ping(ctx); err == nil {
			return r, nil
		}
		r.Close()
		if gaveUp(ctx, err) {
			break
		}
	}
	return nil, err
}

// Mirror tells whether what failed here may be had elsewhere: at what Next connects to.
func (r *Repository) Mirror() bool { return r.next != nil }

// Next connects to the place to ask after a mirror. The mirror stays the caller's to close.
func (r *Repository) Next(ctx context.Context) (*Repository, error) { return r.next(ctx) }

func scope(path, actions string) string { return "repository:" + path + ":" + actions }

func (s *Store) repository(e *endpoint, name reference.Named, creds *registry.AuthConfig, actions string) *Repository {
	client := &http.Client{Transport: s.transport(e)}
	a := &authorizer{client: client, agent: s.cfg.UserAgent, scope: []string{scope(reference.Path(name), actions)}}
	if creds != nil && !e.mirror {
		a.creds = *creds
	}
	return &Repository{name: reference.TrimNamed(name), base: e.url, client: client, auth: a, agent: s.cfg.UserAgent}
}

// Close ends the repository's idle connections.
func (r *Repository) Close() { r.client.CloseIdleConnections() }

// ping asks for the API's root: whatever the answer, the registry is there, and a 401 brings its challenge.
func (r *Repository) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base.String()+"/v2/", http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", r.agent)
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		r.auth.challenged(resp)
	}
	return nil
}

func (r *Repository) url(path string) string {
	return r.base.String() + "/v2/" + reference.Path(r.name) + "/" + path
}

// do sends a request with what the registry wants, once more when it wants something new. The body of such a request
// must be empty or rewindable.
func (r *Repository) do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", r.agent)
	for again := true; ; again = false {
		if err := r.auth.authorize(req); err != nil {
			return nil, requestError(req, err)
		}
		resp, err := r.client.Do(req)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || !again || !r.auth.challenged(resp) {
			return resp, err
		}
		drain(resp)
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// drain reads a small rest of a body so that its connection can be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}

// manifestTypes are the kinds of manifest asked for. Schema 1 is among them only to be refused by name.
var manifestTypes = strings.Join([]string{
	ocispec.MediaTypeImageManifest,
	ocispec.MediaTypeImageIndex,
	mediaTypeManifest,
	mediaTypeManifestList,
	mediaTypeSchema1 + "+prettyjws",
	mediaTypeSchema1 + "+json",
}, ", ")

func (r *Repository) manifestRequest(ctx context.Context, method, ref string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.url("manifests/"+ref), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", manifestTypes)
	return r.do(req)
}

// resolve finds what a tag or digest names. The manifest itself comes along when the registry could not tell its
// digest without sending it.
func (r *Repository) resolve(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	resp, err := r.manifestRequest(ctx, http.MethodHead, ref)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	drain(resp)
	d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if resp.StatusCode == http.StatusOK && err == nil && resp.ContentLength > 0 {
		return ocispec.Descriptor{MediaType: mediaType(resp), Digest: d, Size: resp.ContentLength}, nil, nil
	}
	return r.manifest(ctx, ref)
}

// manifest fetches a manifest by tag or digest. Its digest is computed, and checked when it was asked for by one.
func (r *Repository) manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	resp, err := r.manifestRequest(ctx, http.MethodGet, ref)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return ocispec.Descriptor{}, nil, answerError(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if len(body) > maxAnswer {
		return ocispec.Descriptor{}, nil, fmt.Errorf("manifest %s is larger than %d bytes", ref, maxAnswer)
	}
	d := digest.FromBytes(body)
	if want, err := digest.Parse(ref); err == nil {
		if want.Algorithm().FromBytes(body) != want {
			return ocispec.Descriptor{}, nil, invalid(fmt.Errorf("manifest verification failed for digest %s", want))
		}
		d = want
	}
	return ocispec.Descriptor{MediaType: mediaType(resp), Digest: d, Size: int64(len(body))}, body, nil
}

func mediaType(resp *http.Response) string {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(kind)
}

// blob opens a blob at an offset, or at its start when the registry does not serve parts; from says which.
func (r *Repository) blob(ctx context.Context, d ocispec.Descriptor, offset int64) (body io.ReadCloser, from int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url("blobs/"+d.Digest.String()), http.NoBody)
	if err != nil {
		return nil, 0, err
	}
	// Layers are compressed as their digests say; a transport that unpacks them by itself would break both.
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, d.Size-1))
	}
	resp, err := r.do(req)
	if err != nil {
		return nil, 0, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, 0, nil
	case http.StatusPartialContent:
		return resp.Body, offset, nil
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && offset > 0:
		return r.blob(ctx, d, 0)
	case resp.StatusCode == http.StatusNotFound:
		return nil, 0, &registryError{Code: codeBlobUnknown, Message: "unknown blob"}
	}
	return nil, 0, answerError(resp)
}
