package image_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// giving serves the rig's content as hosts serve theirs to each other, through a handler of the test's if any, and
// returns the client that finds it whatever the host.
func (r *rig) giving(wrap func(http.Handler) http.Handler) *http.Client {
	r.t.Helper()
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		parts := strings.Split(req.URL.Path, "/")
		b, err := r.Blob(r.ctx, nereid.Admin, nereid.Host(req.Header.Get(nereid.AskerHeader)), parts[len(parts)-1], parts[len(parts)-2] == "manifests")
		var busy *image.BusyError
		switch {
		case errors.As(err, &busy):
			w.WriteHeader(http.StatusTooManyRequests)
			return
		case err != nil:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		defer b.Close()
		w.Header().Set("Content-Type", b.MediaType)
		http.ServeContent(w, req, "", time.Time{}, b)
	})
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	r.t.Cleanup(srv.Close)
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// take takes an image of another rig.
func (r *rig) take(client *http.Client, img image.Image) (*image.Held, error) {
	r.t.Helper()
	repo, _, err := r.Peer(img.ID, url.URL{Scheme: "http", Host: "h1"}, client)
	assert.NilError(r.t, err)
	held, err := r.Take(r.ctx, nereid.Admin, repo, img.Target, img.Manifest)
	if err != nil {
		return nil, err
	}
	defer held.Release()
	return held, held.Keep()
}

// requests counts what is asked for, by "METHOD path".
type requests struct {
	mu sync.Mutex
	n  map[string]int
}

func (q *requests) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.mu.Lock()
		if q.n == nil {
			q.n = map[string]int{}
		}
		q.n[r.Method+" "+r.URL.Path]++
		q.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// TestTakeFromAnotherHost: what a host took is the image whole, as if it had been pulled, and can be given on.
func TestTakeFromAnotherHost(t *testing.T) {
	a, b, c := newRig(t), newRig(t), newRig(t)
	img := twoLayers(t)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	imagetest.Push(t, a.registry.Host()+"/index", index)
	for name, ref := range map[string]string{"one platform": a.pushed("plain", img), "an index": a.registry.Host() + "/index"} {
		t.Run(name, func(t *testing.T) {
			pulled, err := a.pull(ref)
			assert.NilError(t, err)
			taken, err := b.take(a.giving(nil), pulled.Image)
			assert.NilError(t, err)
			assert.DeepEqual(t, taken.Image, pulled.Image)
			opened, err := b.Open(b.ctx, nereid.Admin, taken.ID)
			assert.NilError(t, err)
			assert.DeepEqual(t, *opened, pulled.Image)
			_, err = c.take(b.giving(nil), taken.Image)
			assert.NilError(t, err)
			assert.Equal(t, b.leases()+c.leases(), 0)
			for _, r := range []*rig{a, b, c} {
				assert.NilError(t, r.Drop(r.ctx, nereid.Admin, taken.ID))
			}
			assert.Equal(t, len(b.blobs())+len(b.snapshots()), 0)
		})
	}
}

// TestTakeFetchesWhatIsMissing: layers that are here already are not asked for, nor what an earlier try fetched.
func TestTakeFetchesWhatIsMissing(t *testing.T) {
	a, b := newRig(t), newRig(t)
	base := twoLayers(t)
	more, err := mutate.AppendLayers(base, imagetest.Layer(t, imagetest.Tar(t, [2]string{"c", "three"})))
	assert.NilError(t, err)
	one, err := a.pull(a.pushed("base", base))
	assert.NilError(t, err)
	two, err := a.pull(a.pushed("more", more))
	assert.NilError(t, err)
	var q requests
	tr := a.giving(q.counting)
	_, err = b.take(tr, one.Image)
	assert.NilError(t, err)
	_, err = b.take(tr, two.Image)
	assert.NilError(t, err)
	for path, n := range q.n {
		assert.Equal(t, n, 1, path)
	}
}

// TestTakeChecksWhatItGets: a host that gives something else is not believed, and what it gave does not stay.
func TestTakeChecksWhatItGets(t *testing.T) {
	a, b := newRig(t), newRig(t)
	pulled, err := a.pull(a.pushed("app", twoLayers(t)))
	assert.NilError(t, err)
	lying := func(kind string) *http.Client {
		return a.giving(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, kind) {
					next.ServeHTTP(w, r)
					return
				}
				rec := httptest.NewRecorder()
				next.ServeHTTP(rec, r)
				body := rec.Body.Bytes()
				if len(body) > 0 {
					body[len(body)/2] ^= 1
				}
				_, _ = w.Write(body)
			})
		})
	}
	_, err = b.take(lying("/manifests/"), pulled.Image)
	assert.ErrorContains(t, err, "manifest verification failed for digest")
	_, err = b.take(lying("/blobs/"+string(pulled.ID)), pulled.Image)
	assert.ErrorContains(t, err, "image config verification failed")
	_, err = b.take(lying("/blobs/"+pulled.Layers[0].Digest.String()), pulled.Image)
	assert.ErrorContains(t, err, "filesystem layer verification failed for digest")
	_, err = b.Open(b.ctx, nereid.Admin, pulled.ID)
	assert.Check(t, errdefs.IsNotFound(err))

	// The truth from another host is taken all the same.
	_, err = b.take(a.giving(nil), pulled.Image)
	assert.NilError(t, err)
}

// TestTakeGoesOnElsewhere: a transfer that breaks off is gone on with, from its middle, at another host.
func TestTakeGoesOnElsewhere(t *testing.T) {
	a, b := newRig(t), newRig(t)
	pulled, err := a.pull(a.pushed("large", imagetest.Image(t, 1, nil, [2]string{"f", random(3 << 20)})))
	assert.NilError(t, err)
	layer := pulled.Layers[0]
	half := a.giving(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			w.Header().Set("Content-Length", fmt.Sprint(rec.Body.Len()))
			_, _ = w.Write(rec.Body.Bytes()[:2<<20])
			panic(http.ErrAbortHandler)
		})
	})
	_, err = b.take(half, pulled.Image)
	assert.Check(t, err != nil)
	partial := b.partials()
	assert.Equal(t, len(partial), 1)
	var ranges []string
	whole := a.giving(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
				ranges = append(ranges, r.Header.Get("Range"))
			}
			next.ServeHTTP(w, r)
		})
	})
	_, err = b.take(whole, pulled.Image)
	assert.NilError(t, err)
	assert.DeepEqual(t, ranges, []string{fmt.Sprintf("bytes=%d-%d", partial[0].Offset, layer.Size-1)})
}

// TestLargeBlobsAreGivenToOne: a large blob is given to one host at a time; who comes meanwhile is told who has it soon.
func TestLargeBlobsAreGivenToOne(t *testing.T) {
	a, b := newRig(t), newRig(t)
	pulled, err := a.pull(a.pushed("large", imagetest.Image(t, 1, nil, [2]string{"f", random(8 << 20)})))
	assert.NilError(t, err)
	tr := a.giving(nil)
	layer := pulled.Layers[0].Digest.String()
	one, err := a.Blob(a.ctx, nereid.Admin, "h2", layer, false)
	assert.NilError(t, err)
	_, err = b.take(tr, pulled.Image)
	assert.Check(t, image.Busy(err), "%v", err)
	_, err = a.Blob(a.ctx, nereid.Admin, "h3", layer, false)
	var busy *image.BusyError
	assert.Assert(t, errors.As(err, &busy))
	assert.DeepEqual(t, busy.GivenTo(), []nereid.Host{"h2"})
	assert.NilError(t, one.Close())
	assert.NilError(t, one.Close()) // twice is once
	_, err = b.take(tr, pulled.Image)
	assert.NilError(t, err)
}
