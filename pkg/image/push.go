package image

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// pushes is how many layers one push sends at once; as Docker's.
const pushes = 5

func noContent(id nereid.ImageID) error {
	return fmt.Errorf("content of image %q is not on this host: %w", id, errdefs.ErrNotFound)
}

// Push sends an image to the repository under a tag and returns the digest of its manifest there. Layers that are kept
// as they were loaded, uncompressed, are compressed first: it is their manifest that goes. A tag that is a digest has the
// manifest sent by that, and nothing sent when it is another's.
func (s *Store) Push(ctx context.Context, a nereid.Account, r *Repository, tag string, id nereid.ImageID, p *Progress) (_ digest.Digest, retErr error) {
	defer func() {
		if errors.Is(retErr, errNoBasicAuth) {
			retErr = errNoBasicAuth // whatever was asked for: Docker does not say either
		}
	}()
	h, err := s.hold(inNamespace(ctx, a), "")
	if err != nil {
		return "", err
	}
	defer h.release()
	img := s.known(h, id)
	if img == nil {
		return "", noContent(id)
	}
	d, raw, m, err := s.pushable(h, img)
	if err != nil {
		return "", err
	}
	if strings.Contains(tag, ":") && tag != d.Digest.String() {
		return d.Digest, nil // not what is wanted under that digest
	}
	cfg, err := decodeConfig(img.Config)
	if err != nil {
		return "", err
	}
	layers, err := layersOf(m.Layers, cfg.RootFS.DiffIDs)
	if err != nil {
		return "", err
	}
	if err := s.pushLayers(h, r, layers, p); err != nil {
		return "", err
	}
	if _, err := s.pushBlob(h.ctx, r, m.Config, "", nil, ""); err != nil {
		return "", err
	}
	if err := r.putManifest(h.ctx, tag, d.MediaType, raw); err != nil {
		return "", err
	}
	pushed(p, tag, d)
	return d.Digest, nil
}

// pushed tells what a tag is now; what is pushed by its digest is only a part of something.
func pushed(p *Progress, tag string, d ocispec.Descriptor) {
	if tag == d.Digest.String() {
		return
	}
	p.Message("", fmt.Sprintf("%s: digest: %s size: %d", tag, d.Digest, d.Size))
	p.Aux(types.PushResult{Tag: tag, Digest: d.Digest.String(), Size: int(d.Size)})
}

// PushIndex sends an index whose manifests are there already.
func (s *Store) PushIndex(ctx context.Context, a nereid.Account, r *Repository, tag string, target ocispec.Descriptor, p *Progress) error {
	raw, err := content.ReadBlob(inNamespace(ctx, a), s.content(), target)
	if err != nil {
		return fmt.Errorf("index %s: %w", target.Digest, err)
	}
	if err := r.putManifest(ctx, tag, target.MediaType, raw); err != nil {
		return err
	}
	pushed(p, tag, target)
	return nil
}

// pushable is the manifest to send.
func (s *Store) pushable(h *hold, img *Image) (ocispec.Descriptor, []byte, *manifest, error) {
	raw, err := content.ReadBlob(h.ctx, s.content(), img.Manifest)
	if err != nil {
		return img.Manifest, nil, nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return img.Manifest, nil, nil, err
	}
	changed := false
	for i, l := range m.Layers {
		if l.MediaType != mediaTypeLayer && l.MediaType != ocispec.MediaTypeImageLayer {
			continue
		}
		if m.Layers[i], err = s.compress(h, l); err != nil {
			return img.Manifest, nil, nil, err
		}
		changed = true
	}
	if !changed {
		return img.Manifest, raw, m, nil
	}
	if raw, err = marshal(m); err != nil {
		return img.Manifest, nil, nil, err
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw, m, nil
}

// compress makes the compressed form of a layer, the same each time.
func (s *Store) compress(h *hold, l ocispec.Descriptor) (ocispec.Descriptor, error) {
	ra, err := s.content().ReaderAt(h.ctx, l)
	if err != nil {
		return l, err
	}
	defer ra.Close()
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		z := gzip.NewWriter(pw)
		_, err := io.Copy(z, &ctxReader{h.ctx, content.NewReader(ra)})
		if err == nil {
			err = z.Close()
		}
		pw.CloseWithError(err)
	}()
	d, err := s.ingest(h.ctx, pr)
	pr.CloseWithError(err) // ends the goroutine when ingest ended first
	<-done
	if err != nil {
		return l, fmt.Errorf("compress layer %s: %w", l.Digest, err)
	}
	if d.MediaType = mediaTypeLayerGzip; l.MediaType == ocispec.MediaTypeImageLayer {
		d.MediaType = ocispec.MediaTypeImageLayerGzip
	}
	return d, nil
}

func (s *Store) pushLayers(h *hold, r *Repository, layers []layer, p *Progress) error {
	for _, l := range layers {
		p.Action(shortID(l.diffID.String()), "Preparing")
	}
	slots := make(chan struct{}, pushes)
	eg, ctx := errgroup.WithContext(h.ctx)
	sent := map[digest.Digest]bool{}
	for _, l := range layers {
		if sent[l.blob.Digest] {
			continue
		}
		sent[l.blob.Digest] = true
		eg.Go(func() error {
			id := shortID(l.diffID.String())
			if err := takeSlot(ctx, slots, p, id); err != nil {
				return err
			}
			defer func() { <-slots }()
			done, err := s.pushBlob(ctx, r, l.blob, l.diffID, p, id)
			if err != nil {
				return err
			}
			p.Action(id, done)
			return nil
		})
	}
	return eg.Wait()
}

// takeSlot waits for a turn, saying so when there is none at once.
func takeSlot(ctx context.Context, slots chan struct{}, p *Progress, id string) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	p.Action(id, "Waiting")
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pushBlob sends a blob unless the repository has it, or the registry takes it from another one. It returns the words
// for what was done. diffID is the digest of a layer as it is unpacked.
func (s *Store) pushBlob(ctx context.Context, r *Repository, d ocispec.Descriptor, diffID digest.Digest, p *Progress, id string) (done string, err error) {
	if there, err := r.hasBlob(ctx, d.Digest); there || err != nil {
		return "Layer already exists", err
	}
	to, from, err := r.startUpload(ctx, d.Digest, diffID)
	if err != nil {
		return "", err
	}
	if from != "" {
		return "Mounted from " + from, nil
	}
	ra, err := s.content().ReaderAt(ctx, d)
	if err != nil {
		return "", err
	}
	defer ra.Close()
	body := func() (io.ReadCloser, error) {
		return p.reader(io.NewSectionReader(ra, 0, ra.Size()), ra.Size(), id, "Pushing"), nil
	}
	return "Pushed", r.putBlob(ctx, to, d, body)
}

func (r *Repository) hasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.url("blobs/"+d.String()), http.NoBody)
	if err != nil {
		return false, err
	}
	resp, err := r.do(req)
	if err != nil {
		return false, err
	}
	defer drain(resp)
	switch {
	case resp.StatusCode == http.StatusOK:
		return true, nil
	case resp.StatusCode == http.StatusNotFound:
		return false, nil
	}
	return false, answerError(resp)
}

// putBlob uploads a blob in one piece to where startUpload said. body opens it from its start, each time it is called.
func (r *Repository) putBlob(ctx context.Context, to string, d ocispec.Descriptor, body func() (io.ReadCloser, error)) error {
	in, err := body()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, to, in)
	if err != nil {
		in.Close()
		return err
	}
	req.ContentLength, req.GetBody = d.Size, body
	req.Header.Set("Content-Type", "application/octet-stream")
	return r.created(req)
}

// mountable is a blob of another repository of the registry, and how to ask for it: a token must be good for both.
type mountable struct {
	path string
	auth *authorizer
}

// MountFrom tells in which other repositories of the registry blobs are, each by its path: what the registry takes from
// there need not be sent. A layer that is kept as it is unpacked goes by the digest that it has here. Call it before Push.
func (r *Repository) MountFrom(paths map[digest.Digest]string) {
	r.mounts = make(map[digest.Digest]mountable, len(paths))
	auths := map[string]*authorizer{}
	for d, path := range paths {
		if auths[path] == nil {
			auths[path] = r.auth.with(scope(path, "pull"))
		}
		r.mounts[d] = mountable{path, auths[path]}
	}
}

// startUpload returns where a blob is to be sent to, or else the repository that the registry took it from.
func (r *Repository) startUpload(ctx context.Context, d, diffID digest.Digest) (to, from string, err error) {
	m, ok := r.mounts[d]
	if !ok {
		m, ok = r.mounts[diffID] // compressing it gives the same each time
	}
	if ok {
		asking := *r
		asking.auth = m.auth
		to, mounted, err := asking.askUpload(ctx, d, url.Values{"mount": {d.String()}, "from": {m.path}})
		switch {
		case mounted:
			return "", m.path, nil
		case err == nil || ctx.Err() != nil:
			return to, "", err
		} // or the user may not read there
	}
	to, _, err = r.askUpload(ctx, d, nil)
	return to, "", err
}

// askUpload begins an upload, unless the registry does at once what the query asks for.
func (r *Repository) askUpload(ctx context.Context, d digest.Digest, query url.Values) (to string, done bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url("blobs/uploads/"), http.NoBody)
	if err != nil {
		return "", false, err
	}
	req.URL.RawQuery = query.Encode()
	resp, err := r.do(req)
	if err != nil {
		return "", false, err
	}
	defer drain(resp)
	switch {
	case resp.StatusCode == http.StatusCreated && query != nil:
		return "", true, nil
	case resp.StatusCode != http.StatusAccepted:
		return "", false, answerError(resp)
	}
	at, err := req.URL.Parse(resp.Header.Get("Location"))
	if err != nil {
		return "", false, fmt.Errorf("upload location %q: %w", resp.Header.Get("Location"), err)
	}
	q := at.Query()
	q.Set("digest", d.String())
	at.RawQuery = q.Encode()
	return at.String(), false, nil
}

func (r *Repository) putManifest(ctx context.Context, tag, kind string, raw []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.url("manifests/"+url.PathEscape(tag)), strings.NewReader(string(raw)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	return r.created(req)
}

func (r *Repository) created(req *http.Request) error {
	resp, err := r.do(req)
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return answerError(resp)
	}
	return nil
}
