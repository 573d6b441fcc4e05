package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"gotest.tools/v3/assert"

	content "github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// imageFleet is several hosts with content of their own and one catalogue. It is the road between them.
type imageFleet struct {
	hosts   []*imageRig
	servers map[string]*httptest.Server
	tr      *http.Transport

	mu    sync.Mutex
	given map[string]int64 // bytes of bodies, by host
	down  map[nereid.Host]bool
	// meddle may answer in place of a host, or change what it sends; nil: it does not.
	meddle func(r *http.Request) *http.Response
}

// smallBuffer has a host not be done with giving long before the other is with taking.
const smallBuffer = 64 << 10

func newImageFleet(t *testing.T, hosts int) *imageFleet {
	t.Helper()
	f := &imageFleet{servers: map[string]*httptest.Server{}, given: map[string]int64{}, down: map[nereid.Host]bool{}}
	f.tr = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		c, err := (&net.Dialer{}).DialContext(ctx, network, f.servers[host].Listener.Addr().String())
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(smallBuffer)
		}
		return c, err
	}}
	t.Cleanup(f.tr.CloseIdleConnections)
	store := openTestState(t)
	for n := range hosts {
		c := imagetest.NewContainerd(t)
		s := content.New(content.Config{Client: func() *containerd.Client { return c.Client }, RetryDelay: 1, Attempts: 1, LargeBlob: 1 << 20})
		name := nereid.Host(fmt.Sprintf("h%d", n+1))
		deps := Deps{Host: name, State: store, Log: zap.NewNop(), Road: f}
		rig := &imageRig{Images: NewImages(deps, s), ctx: nereid.WithAccount(context.Background(), nereid.Admin), containerd: c, content: s}
		f.hosts = append(f.hosts, rig)
		srv := httptest.NewUnstartedServer(rig.contentHandler(t))
		srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			assert.Check(t, c.(*net.TCPConn).SetWriteBuffer(smallBuffer))
			return ctx
		}
		srv.Start()
		t.Cleanup(srv.Close)
		f.servers[string(name)] = srv
		ctx, cancel := context.WithCancel(context.Background())
		var g errgroup.Group
		g.Go(func() error { return rig.Run(ctx) })
		t.Cleanup(func() { cancel(); assert.Check(t, g.Wait()) })
	}
	return f
}

// RoundTrip implements http.RoundTripper.
func (f *imageFleet) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	down := f.down[nereid.Host(r.URL.Host)]
	f.mu.Unlock()
	if down {
		return nil, fmt.Errorf("host %s is unreachable: %w", r.URL.Host, errdefs.ErrUnavailable)
	}
	if f.meddle != nil {
		if resp := f.meddle(r); resp != nil {
			return resp, nil
		}
	}
	resp, err := f.tr.RoundTrip(r)
	if err == nil {
		resp.Body = &counted{resp.Body, f, r.URL.Host}
	}
	return resp, err
}

type counted struct {
	io.ReadCloser
	f    *imageFleet
	host string
}

// Read is as slow as a network, where giving takes longer than all else.
func (c *counted) Read(b []byte) (int, error) {
	<-time.After(2 * time.Millisecond)
	n, err := c.ReadCloser.Read(b[:min(len(b), 32<<10)])
	c.f.mu.Lock()
	c.f.given[c.host] += int64(n)
	c.f.mu.Unlock()
	return n, err
}

// bring brings an image to the rig's host.
func (r *imageRig) bring(id nereid.ImageID) error {
	img, ok := r.State.View().Image(nereid.Admin, id)
	if !ok {
		return noSuchImage(string(id))
	}
	_, err := r.Bring(r.ctx, img)
	return err
}

// contentHandler serves the rig's content as hosts serve theirs to each other.
func (r *imageRig) contentHandler(t *testing.T) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		parts := strings.Split(req.URL.Path, "/")
		kind, digest := parts[len(parts)-2], parts[len(parts)-1]
		body, closer, media, err := r.Blob(r.ctx, nereid.Host(req.Header.Get(nereid.AskerHeader)), digest, kind == "manifests")
		var busy *content.BusyError
		switch {
		case errors.As(err, &busy):
			for _, h := range busy.GivenTo() {
				w.Header().Set(nereid.GivenHeader, w.Header().Get(nereid.GivenHeader)+","+string(h))
			}
			w.WriteHeader(http.StatusTooManyRequests)
			return
		case err != nil:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		defer closer.Close()
		w.Header().Set("Content-Type", media)
		http.ServeContent(w, req, "", time.Time{}, body)
	})
}

func (f *imageFleet) hostsOf(id nereid.ImageID) []nereid.Host {
	img, ok := f.hosts[0].State.View().Image(nereid.Admin, id)
	if !ok {
		return nil
	}
	return img.Hosts
}

// incompressible is content of a size that no compression makes smaller.
func incompressible(size int) string {
	b, x := make([]byte, size), uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return string(b)
}

// TestImageSpreads: ten hosts that want one image at the same time, several times each, fetch it once each, and not all
// from the one that had it first.
func TestImageSpreads(t *testing.T) {
	const size = 4 << 20
	f := newImageFleet(t, 10)
	id := f.hosts[0].put(t, imagetest.Image(t, 1, nil, [2]string{"f", incompressible(size)}), "app:1")
	assert.DeepEqual(t, f.hostsOf(id), []nereid.Host{"h1"})
	var g errgroup.Group
	for _, h := range f.hosts {
		for range 3 {
			g.Go(func() error { return h.bring(id) })
		}
	}
	assert.NilError(t, g.Wait())
	assert.Equal(t, len(f.hostsOf(id)), 10)
	var total int64
	for _, n := range f.given {
		total += n
	}
	assert.Check(t, total < 9*(size+size/8), "%d bytes for nine hosts: %v", total, f.given)
	assert.Check(t, f.given["h1"] < 8*size, "h1 gave nearly all: %v", f.given)
	for _, h := range f.hosts {
		_, err := h.content.Open(h.ctx, nereid.Admin, id)
		assert.NilError(t, err)
		leases, err := h.containerd.Client.LeasesService().List(h.namespaced())
		assert.NilError(t, err)
		assert.Equal(t, len(leases), 0)
	}
}

// TestABurstLeavesTheFirstHostAFewTimes: of an image of several layers that nine hosts want at once, the first sends each
// layer about as often as it takes all to double, for who has a layer passes it on before it has the image.
func TestABurstLeavesTheFirstHostAFewTimes(t *testing.T) {
	const size, layers = 2 << 20, 4
	f := newImageFleet(t, 10)
	var files [layers][2]string
	for n := range files {
		files[n] = [2]string{fmt.Sprintf("f%d", n), incompressible(size + n)}
	}
	id := f.hosts[0].put(t, imagetest.Image(t, 1, nil, files[:]...), "app:1")
	var g errgroup.Group
	for _, h := range f.hosts {
		g.Go(func() error { return h.bring(id) })
	}
	began := time.Now()
	assert.NilError(t, g.Wait())
	t.Logf("%v: %v, in images: %.1f", time.Since(began), f.given, float64(f.given["h1"])/(size*layers))
	assert.Check(t, f.given["h1"] < 5*layers*size, "%v", f.given)
}

// TestALayerIsPassedOnBeforeTheImageIsWhole: a host that is refused a layer takes it from one that was given it, though
// the catalogue does not say yet that that one has anything.
func TestALayerIsPassedOnBeforeTheImageIsWhole(t *testing.T) {
	f := newImageFleet(t, 3)
	id := f.hosts[0].put(t, imagetest.Image(t, 1, nil, [2]string{"f", "one"}, [2]string{"g", "two"}), "app:1")
	img, _ := f.hosts[0].State.View().Image(nereid.Admin, id)
	one, two := img.Layers[0].Digest.String(), img.Layers[1].Digest.String()
	wait := make(chan struct{})
	var passed atomic.Int64
	f.meddle = func(r *http.Request) *http.Response {
		asker := r.Header.Get(nereid.AskerHeader)
		switch {
		case asker == "h2" && strings.HasSuffix(r.URL.Path, two):
			<-wait
		case asker == "h3" && strings.HasSuffix(r.URL.Path, one) && r.URL.Host == "h1":
			return &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{nereid.GivenHeader: {"h2"}}, Body: http.NoBody, Request: r}
		case asker == "h3" && strings.HasSuffix(r.URL.Path, one):
			passed.Add(1)
		}
		return nil
	}
	var g errgroup.Group
	g.Go(func() error { return f.hosts[1].bring(id) })
	var cancel context.CancelFunc
	f.hosts[2].ctx, cancel = context.WithTimeout(f.hosts[2].ctx, time.Minute)
	defer cancel()
	assert.NilError(t, f.hosts[2].bring(id))
	assert.Check(t, passed.Load() > 0)
	assert.DeepEqual(t, f.hostsOf(id), []nereid.Host{"h1", "h3"})
	close(wait)
	assert.NilError(t, g.Wait())
}

// broken is a body that ends in the midst.
type broken struct {
	io.ReadCloser
	left int
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// TestBringOutlastsACut: the only host that has an image is cut off while it gives it, and back a moment later, as hosts
// under load are: the transfer goes on where it stopped.
func TestBringOutlastsACut(t *testing.T) {
	const size, cut = 3 << 20, 2 << 20
	f := newImageFleet(t, 2)
	id := f.hosts[0].put(t, imagetest.Image(t, 1, nil, [2]string{"f", incompressible(size)}), "app:1")
	img, _ := f.hosts[0].State.View().Image(nereid.Admin, id)
	var ranges []string
	f.meddle = func(r *http.Request) *http.Response {
		if !strings.HasSuffix(r.URL.Path, img.Layers[0].Digest.String()) {
			return nil
		}
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) > 1 {
			return nil
		}
		resp, err := f.tr.RoundTrip(r)
		assert.NilError(t, err)
		resp.Body = &broken{resp.Body, cut}
		return resp
	}
	assert.NilError(t, f.hosts[1].bring(id))
	assert.DeepEqual(t, ranges, []string{"", fmt.Sprintf("bytes=%d-%d", cut, img.Layers[0].Size-1)})
}

// TestBringGoesRoundTheSlow: who does not go on sending, or sends next to nothing, is left for another host.
func TestBringGoesRoundTheSlow(t *testing.T) {
	for name, sends := range map[string]func(w io.Writer, blob []byte){
		"silent": func(io.Writer, []byte) {},
		"trickling": func(w io.Writer, blob []byte) {
			for _, b := range blob {
				if _, err := w.Write([]byte{b}); err != nil {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newImageFleet(t, 3)
			id := f.hosts[0].put(t, imagetest.Image(t, 1, nil, [2]string{"f", incompressible(1 << 20)}), "app:1")
			assert.NilError(t, f.hosts[1].bring(id))
			img, _ := f.hosts[0].State.View().Image(nereid.Admin, id)
			var asked []string
			f.meddle = func(r *http.Request) *http.Response {
				if !strings.HasSuffix(r.URL.Path, img.Layers[0].Digest.String()) {
					return nil
				}
				if asked = append(asked, r.URL.Host); len(asked) > 1 {
					return nil
				}
				resp, err := f.tr.RoundTrip(r.Clone(context.WithoutCancel(r.Context())))
				assert.NilError(t, err)
				blob, err := io.ReadAll(resp.Body)
				assert.NilError(t, err)
				assert.NilError(t, resp.Body.Close())
				var w *io.PipeWriter
				resp.Body, w = io.Pipe()
				context.AfterFunc(r.Context(), func() { w.CloseWithError(r.Context().Err()) })
				go sends(w, blob)
				return resp
			}
			from := newSources(f.hosts[2].Images, img)
			from.silence, from.trickleTime = time.Second, 2*time.Second
			ctx, cancel := context.WithTimeout(f.hosts[2].ctx, time.Minute)
			defer cancel()
			held, err := f.hosts[2].fromAnywhere(ctx, img, from)
			assert.NilError(t, err)
			held.Release()
			assert.Equal(t, len(asked), 2)
			assert.Check(t, asked[0] != asked[1], asked)
		})
	}
}

// TestBringGoesRoundTheDead: hosts that do not answer are passed over; when no host is left the error says it all.
func TestBringGoesRoundTheDead(t *testing.T) {
	f := newImageFleet(t, 4)
	id := f.hosts[0].put(t, imagetest.Image(t, 1, nil, [2]string{"f", "small"}), "app:1")
	assert.NilError(t, f.hosts[1].bring(id))
	f.down["h1"] = true
	assert.NilError(t, f.hosts[2].bring(id))
	f.down["h2"], f.down["h3"] = true, true
	err := f.hosts[3].bring(id)
	assert.Check(t, errdefs.IsUnavailable(err))
	for _, words := range []string{"cannot be brought to host h4", "from host h1: ", "from host h2: ", "from host h3: ", "it did not come from a registry"} {
		assert.ErrorContains(t, err, words)
	}
	assert.DeepEqual(t, slices.Contains(f.hostsOf(id), "h4"), false)
}

// TestBringFromTheRegistry: when the hosts that have it are gone, an image that was pulled is pulled again.
func TestBringFromTheRegistry(t *testing.T) {
	f := newImageFleet(t, 2)
	reg := imagetest.NewRegistry(t)
	ref := reg.Host() + "/app:1"
	imagetest.Push(t, ref, imagetest.Image(t, 1, nil, [2]string{"f", "x"}))
	var out bytes.Buffer
	assert.NilError(t, f.hosts[0].Pull(f.hosts[0].ctx, ref, false, nil, nil, &out))
	img, err := f.hosts[0].Resolve(f.hosts[0].ctx, ref)
	assert.NilError(t, err)
	f.down["h1"] = true
	assert.NilError(t, f.hosts[1].bring(img.ID))
	assert.DeepEqual(t, f.hostsOf(img.ID), []nereid.Host{"h1", "h2"})
}

// TestRemovalReachesAllHosts: an image removed at one host is off the disks of the others, and one that another host is
// about to bring does not come back.
func TestRemovalReachesAllHosts(t *testing.T) {
	f := newImageFleet(t, 3)
	id := f.hosts[0].put(t, imagetest.Image(t, 1, nil, [2]string{"f", "small"}), "app:1")
	for _, h := range f.hosts {
		assert.NilError(t, h.bring(id))
	}
	late, _ := f.hosts[0].State.View().Image(nereid.Admin, id)
	_, err := f.hosts[1].Remove(f.hosts[1].ctx, "app:1", image.RemoveOptions{})
	assert.NilError(t, err)
	for _, h := range f.hosts {
		eventually(t, "gone from "+string(h.Host), func() bool {
			kept, err := h.content.Kept(h.ctx, nereid.Admin)
			assert.NilError(t, err)
			return len(kept) == 0
		})
	}
	gone := *late
	gone.Hosts = []nereid.Host{"h1"}
	_, err = f.hosts[2].Bring(f.hosts[2].ctx, &gone)
	failsWith(t, err, errdefs.IsNotFound, "No such image")
}

// TestSaveAndPushBringTheContent: what has a name at an endpoint can be saved and pushed there, wherever it lies.
func TestSaveAndPushBringTheContent(t *testing.T) {
	f := newImageFleet(t, 3)
	reg := imagetest.NewRegistry(t)
	ref := reg.Host() + "/app:1"
	f.hosts[0].put(t, imagetest.Image(t, 1, nil, [2]string{"f", "x"}), ref)
	var out bytes.Buffer
	assert.NilError(t, f.hosts[1].Save(f.hosts[1].ctx, []string{ref}, nil, &out))
	assert.Check(t, out.Len() > 0)
	out.Reset()
	assert.NilError(t, f.hosts[2].Push(f.hosts[2].ctx, ref, nil, nil, &out))
	assert.Check(t, !strings.Contains(out.String(), "error"), out.String())
}

// TestBringOnceHere: what is here is not asked for.
func TestBringOnceHere(t *testing.T) {
	f := newImageFleet(t, 1)
	id := f.hosts[0].put(t, imagetest.Image(t, 1, nil, [2]string{"f", "x"}), "app:1")
	f.servers["h1"].Close()
	assert.NilError(t, f.hosts[0].bring(id))
	_, err := f.hosts[0].State.Commit(f.hosts[0].ctx, state.Put(&state.Image{Account: nereid.Admin, ID: "sha256:0", Config: []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers"}}`), Hosts: []nereid.Host{"h9"}}))
	assert.NilError(t, err)
	failsWith(t, f.hosts[0].bring("sha256:0"), errdefs.IsUnavailable, "it did not come from a registry")
}
