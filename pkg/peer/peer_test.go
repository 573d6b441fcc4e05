package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = net.IPv4(127, 0, 0, 1)

// fakeFleet admits who knows the secret.
type fakeFleet struct {
	secret string
	mu     sync.Mutex
	keys   map[nereid.Host]string
}

func (f *fakeFleet) Admit(_ context.Context, a Application) (Admission, error) {
	if a.Secret != f.secret {
		return Admission{}, errdefs.ErrPermissionDenied.WithMessage("the join token is not known")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[a.Host] = a.Fingerprint
	return Admission{Servers: []ServerAddress{{Host: "h1", Peer: "https://127.0.0.1:1"}}, Others: []string{"127.0.0.1:2"}}, nil
}

func (f *fakeFleet) Admitted(h nereid.Host, key string) (server, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return false, f.keys[h] == key
}

// running is a host's server on a port of its own.
type running struct {
	*Server
	id    *Identity
	fleet *fakeFleet
	addr  string
}

// first founds a fleet and serves it until the test ends.
func first(t *testing.T) *running {
	t.Helper()
	id, err := Found(filepath.Join(t.TempDir(), "fleet"), "h1", loopback)
	assert.NilError(t, err)
	key, err := id.Fingerprint()
	assert.NilError(t, err)
	r := &running{id: id, fleet: &fakeFleet{secret: NewSecret(), keys: map[nereid.Host]string{"h1": key}}}
	r.Server = NewServer(id, zap.NewNop())
	r.ServeFleet(r.fleet, func() []string { return nil })
	r.serve(t)
	return r
}

func (r *running) serve(t *testing.T) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); assert.Check(t, <-done) })
}

func (r *running) token() string { return r.id.Token(r.fleet.secret) }

func (r *running) join(t *testing.T, dir string, host nereid.Host) *Identity {
	t.Helper()
	id, err := Join(testContext(t), dir, r.addr, r.token(), Application{Host: host, Peer: "127.0.0.1:3"})
	assert.NilError(t, err)
	return id
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestJoin(t *testing.T) {
	h1 := first(t)
	dir := filepath.Join(t.TempDir(), "fleet")
	h2 := h1.join(t, dir, "h2")
	assert.DeepEqual(t, h2.GossipKey(), h1.id.GossipKey())
	assert.Assert(t, h2.authority.key == nil, "only servers have the authority's key")
	assert.DeepEqual(t, h2.Standing(), Standing{Joined: true, Endpoints: []string{"https://127.0.0.1:1"}, Open: true, Others: []string{"127.0.0.1:2"}})

	again, err := Load(dir, "h2")
	assert.NilError(t, err)
	assert.DeepEqual(t, again.Standing(), h2.Standing())
	_, err = Load(dir, "h3")
	assert.ErrorContains(t, err, `this host joined the fleet as "h2"`)
	info, err := os.Stat(filepath.Join(dir, fileKey))
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o600))

	// A server gets the authority's key, and lets others in.
	sdir := filepath.Join(t.TempDir(), "fleet")
	s, err := Join(testContext(t), sdir, h1.addr, h1.token(), Application{Host: "h3", Server: true, Peer: "127.0.0.1:4"})
	assert.NilError(t, err)
	assert.Assert(t, s.authority.key != nil)

	// A host without the key asks a server.
	r := &running{Server: NewServer(h2, zap.NewNop()), id: h2, fleet: h1.fleet}
	r.ServeFleet(h1.fleet, func() []string { return []string{"127.0.0.1:1", h1.addr} })
	r.serve(t)
	id, err := Join(testContext(t), filepath.Join(t.TempDir(), "f"), r.addr, h1.token(), Application{Host: "h4", Peer: "127.0.0.1:5"})
	assert.NilError(t, err)
	assert.Equal(t, id.leaf.Subject.CommonName, "h4")
}

func TestJoinIsRefused(t *testing.T) {
	h1, other := first(t), first(t)
	for _, c := range []struct {
		name, token, want string
		class             error
	}{
		{"another secret", h1.id.Token("guess"), "the join token is not known", errdefs.ErrPermissionDenied},
		{"another fleet", other.token(), "is not of the fleet that the token is for", errdefs.ErrPermissionDenied},
		{"no token", "x", "not a join token", errdefs.ErrInvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Join(testContext(t), t.TempDir(), h1.addr, c.token, Application{Host: "h2", Peer: "127.0.0.1:3"})
			assert.ErrorContains(t, err, c.want)
			assert.ErrorIs(t, err, c.class)
		})
	}
}

// TestAJoinCutShortIsTheSameHost: the answer to the first try was lost; the second shows the same key.
func TestAJoinCutShortIsTheSameHost(t *testing.T) {
	h1 := first(t)
	dir := filepath.Join(t.TempDir(), "fleet")
	one := h1.join(t, dir, "h2")
	assert.NilError(t, os.Remove(filepath.Join(dir, fileStanding)))
	_, err := Load(dir, "h2")
	assert.ErrorIs(t, err, os.ErrNotExist)
	two := h1.join(t, dir, "h2")
	a, _ := one.Fingerprint()
	b, _ := two.Fingerprint()
	assert.Equal(t, a, b)
}

func TestOnlyHostsOfTheFleetAreServed(t *testing.T) {
	h1, other := first(t), first(t)
	h1.ServeAPI(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	h1.ServeState(http.NotFoundHandler(), http.NotFoundHandler())
	h2 := h1.join(t, filepath.Join(t.TempDir(), "fleet"), "h2")
	get := func(cfg *tls.Config, path string) (int, string, error) {
		tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
		req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, "https://"+h1.addr+path, nil)
		assert.NilError(t, err)
		res, err := tr.RoundTrip(req)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body), nil
	}
	code, body, err := get(h2.hostTLS("h1"), "/containers/json")
	assert.NilError(t, err)
	assert.Equal(t, code, 200)
	assert.Equal(t, body, "hello")

	code, body, err = get(h2.hostTLS("h1"), "/raft/probing")
	assert.NilError(t, err)
	assert.Equal(t, code, 403, body) // no server's certificate

	_, _, err = get(h2.hostTLS("h3"), "/containers/json")
	var name x509.HostnameError
	assert.Assert(t, errors.As(err, &name), "who answers must be the host that was called: %v", err)

	anybody := h2.hostTLS("h1")
	anybody.GetClientCertificate = nil
	code, _, err = get(anybody, "/containers/json")
	assert.NilError(t, err)
	assert.Equal(t, code, 403)

	stranger := other.id.hostTLS("h1")
	stranger.RootCAs = h2.pool()
	_, _, err = get(stranger, "/containers/json")
	assert.Assert(t, err != nil)

	h1.fleet.mu.Lock()
	delete(h1.fleet.keys, "h2")
	h1.fleet.mu.Unlock()
	code, body, err = get(h2.hostTLS("h1"), "/containers/json")
	assert.NilError(t, err)
	assert.Equal(t, code, 403)
	assert.Assert(t, strings.Contains(body, "host h2 is not of the fleet any more"), body)
}

// TestMessagesOfRaftWaitForTheState: one that is refused while its receiver starts has the sender take it for dead, and for
// ever when the refusal comes to its notice after all else is well.
func TestMessagesOfRaftWaitForTheState(t *testing.T) {
	h1 := first(t)
	ask := func(path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, path, nil)
		r.TLS = &tls.ConnectionState{
			PeerCertificates: []*x509.Certificate{h1.id.leaf}, VerifiedChains: [][]*x509.Certificate{{h1.id.leaf}},
		}
		w := httptest.NewRecorder()
		h1.ServeHTTP(w, r)
		return w
	}
	assert.Equal(t, ask("/raft/probing").Code, http.StatusServiceUnavailable, "the rest hears at once that the host is starting")
	answer := make(chan int, 1)
	go func() { answer <- ask("/raft").Code }()
	select {
	case code := <-answer:
		t.Fatal("answered before there is a state: ", code)
	case <-time.After(50 * time.Millisecond):
	}
	h1.ServeState(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), http.NotFoundHandler())
	assert.Equal(t, <-answer, http.StatusNoContent)
	assert.Equal(t, ask("/raft").Code, http.StatusNoContent)
}

func TestCertificatesAreRenewed(t *testing.T) {
	h1 := first(t)
	h2 := h1.join(t, filepath.Join(t.TempDir(), "fleet"), "h2")
	before := h2.leaf.SerialNumber
	assert.NilError(t, h2.Refresh(testContext(t), loopback, []string{h1.addr}))
	assert.Equal(t, h2.leaf.SerialNumber, before, "it is good for a while")
	moved := net.IPv4(127, 0, 0, 9)
	assert.NilError(t, h2.Refresh(testContext(t), moved, []string{"127.0.0.1:1", h1.addr}))
	assert.Assert(t, h2.leaf.IPAddresses[0].Equal(moved))
	assert.NilError(t, h1.id.Refresh(testContext(t), moved, nil))
	assert.Assert(t, h1.id.leaf.IPAddresses[0].Equal(moved), "a server signs its own")
	for _, c := range []struct {
		age  time.Duration
		want bool
	}{{0, false}, {certificateLife / 2, false}, {certificateLife * 3 / 4, true}} {
		assert.Equal(t, due(h2.leaf, moved, time.Now().Add(c.age)), c.want)
	}
}

// map of where hosts are.
type directory struct {
	addrs map[nereid.Host]string
	gone  chan struct{}
}

func (d directory) Find(h nereid.Host) (string, error) {
	if a, ok := d.addrs[h]; ok {
		return a, nil
	}
	return "", errdefs.ErrUnavailable.WithMessage("host " + string(h) + " is unreachable")
}
func (d directory) Gone(nereid.Host) <-chan struct{} { return d.gone }

// steps counts revisions.
type steps struct {
	mu     sync.Mutex
	at     int64
	waited []int64
}

func (s *steps) Shown() int64 { return s.at }
func (s *steps) WaitShown(_ context.Context, rev int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited = append(s.waited, rev)
	if rev > 1000 {
		return context.DeadlineExceeded
	}
	return nil
}

// rig is an endpoint, h1, that forwards all it is asked to a host, h2, whose API is a handler of the test.
type rig struct {
	endpoint string
	dir      directory
	h1, h2   *steps
}

func newRig(t *testing.T, api http.HandlerFunc) *rig {
	t.Helper()
	h1 := first(t)
	id := h1.join(t, filepath.Join(t.TempDir(), "fleet"), "h2")
	r := &rig{dir: directory{map[nereid.Host]string{}, make(chan struct{})}, h1: &steps{at: 7}, h2: &steps{at: 9}}
	h2 := &running{Server: NewServer(id, zap.NewNop()), id: id, fleet: h1.fleet}
	h2.ServeFleet(h1.fleet, func() []string { return nil })
	h2.ServeAPI(InStep(api, r.h2))
	h2.serve(t)
	r.dir.addrs["h2"] = h2.addr
	f := NewForwarder(h1.id, r.dir, r.h1)
	t.Cleanup(f.Close)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := nereid.Host("h2")
		if r.URL.Path == "/nowhere" {
			to = "h9"
		}
		r = r.WithContext(nereid.WithAccount(r.Context(), "alice"))
		if err := f.Forward(w, r, to); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable) // too late for an answer that began
			fmt.Fprint(w, err)
		}
	}))
	t.Cleanup(srv.Close)
	r.endpoint = srv.Listener.Addr().String()
	return r
}

func TestForwardARequest(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		a, err := Forwarded(r)
		if err != nil {
			w.WriteHeader(500)
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.RequestURI, a, body)
	})
	req, err := http.NewRequestWithContext(testContext(t), http.MethodPost, "http://"+r.endpoint+"/v1.51/containers/x%2Fy/rename?name=a%20b", strings.NewReader("body"))
	assert.NilError(t, err)
	req.Header.Set(accountHeader, "mallory")
	res, err := http.DefaultTransport.RoundTrip(req)
	assert.NilError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	assert.NilError(t, err)
	assert.Equal(t, res.StatusCode, http.StatusCreated)
	assert.Equal(t, res.Header.Get("X-Answer"), "yes")
	assert.Equal(t, res.Header.Get(revisionHeader), "")
	assert.Equal(t, string(body), "POST /v1.51/containers/x%2Fy/rename?name=a%20b alice body")
	assert.DeepEqual(t, r.h2.waited, []int64{7}) // it has seen what the endpoint had
	assert.DeepEqual(t, r.h1.waited, []int64{9}) // and the endpoint what it did
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestForwardAnEmptyAnswer: a disconnect answers nothing at all, and the endpoint did not wait to see it.
func TestForwardAnEmptyAnswer(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) {})
	req, err := http.NewRequestWithContext(testContext(t), http.MethodPost, "http://"+r.endpoint+"/v1.51/networks/x/disconnect", nil)
	assert.NilError(t, err)
	res, err := http.DefaultTransport.RoundTrip(req)
	assert.NilError(t, err)
	defer res.Body.Close()
	assert.Equal(t, res.StatusCode, http.StatusOK)
	assert.DeepEqual(t, r.h1.waited, []int64{9})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestForwardAStream wants each piece as it comes, and nothing to go on when the client goes.
func TestForwardAStream(t *testing.T) {
	next, ended := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for i := 0; ; i++ {
			fmt.Fprintf(w, "line %d\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(testContext(t))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.endpoint+"/containers/x/logs", nil)
	assert.NilError(t, err)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	assert.NilError(t, err)
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := in.ReadString('\n')
		assert.NilError(t, err)
		assert.Equal(t, line, fmt.Sprintf("line %d\n", i))
		next <- struct{}{}
	}
	cancel()
	<-ended
}

// attached speaks the way docker does when it attaches: a header, and bytes behind it at once.
func attached(t *testing.T, r *rig, header string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", r.endpoint)
	assert.NilError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	assert.NilError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = io.WriteString(c, "POST /v1.51/containers/x/attach?stream=1 HTTP/1.1\r\nHost: docker\r\n"+header+"Content-Length: 0\r\n\r\npipelined ")
	assert.NilError(t, err)
	in := bufio.NewReader(c)
	var head bytes.Buffer
	for {
		line, err := in.ReadString('\n')
		assert.NilError(t, err)
		head.WriteString(line)
		if line == "\r\n" {
			break
		}
	}
	if header == "" {
		assert.Assert(t, strings.HasPrefix(head.String(), "HTTP/1.1 200 OK\r\n"), head.String())
	} else {
		assert.Assert(t, strings.HasPrefix(head.String(), "HTTP/1.1 101 UPGRADED\r\n"), head.String())
	}
	assert.Assert(t, strings.Contains(head.String(), "Content-Type: application/vnd.docker.raw-stream\r\n"), head.String())
	return c, in
}

// takeOver answers as Docker does and gives the connection, with what came behind the request.
func takeOver(t *testing.T, w http.ResponseWriter, r *http.Request) (net.Conn, io.Reader) {
	t.Helper()
	c, buf, err := http.NewResponseController(w).Hijack()
	assert.NilError(t, err)
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
	if r.Header.Get("Upgrade") == "tcp" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	_, err = io.WriteString(c, head)
	assert.NilError(t, err)
	return c, buf
}

func TestForwardAConnectionTakenOver(t *testing.T) {
	for _, c := range []struct{ name, header string }{{"upgraded", "Connection: Upgrade\r\nUpgrade: tcp\r\n"}, {"old clients", ""}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
				c, in := takeOver(t, w, r)
				defer c.Close()
				// All input first, then the output: each direction ends on its own.
				all, err := io.ReadAll(in)
				assert.Check(t, err)
				fmt.Fprintf(c, "got %d bytes, %s…", len(all), all[:14])
				assert.Check(t, c.(interface{ CloseWrite() error }).CloseWrite())
			})
			conn, in := attached(t, r, c.header)
			big := strings.Repeat("x", 1<<20)
			_, err := io.WriteString(conn, big)
			assert.NilError(t, err)
			assert.NilError(t, conn.(*net.TCPConn).CloseWrite())
			out, err := io.ReadAll(in)
			assert.NilError(t, err)
			assert.Equal(t, string(out), fmt.Sprintf("got %d bytes, pipelined xxxx…", len("pipelined ")+len(big)))
		})
	}
}

// TestForwardOutputEndsFirst: the container ends while the client still holds its input open.
func TestForwardOutputEndsFirst(t *testing.T) {
	closed := make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		c, in := takeOver(t, w, r)
		defer c.Close()
		fmt.Fprint(c, "bye")
		assert.Check(t, c.(interface{ CloseWrite() error }).CloseWrite())
		_, _ = io.Copy(io.Discard, in)
		close(closed)
	})
	conn, in := attached(t, r, "Connection: Upgrade\r\nUpgrade: tcp\r\n")
	out, err := io.ReadAll(in)
	assert.NilError(t, err)
	assert.Equal(t, string(out), "bye")
	assert.NilError(t, conn.Close())
	<-closed
}

func TestForwardAnErrorInsteadOfAStream(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"message":"is not running"}`)
	})
	res, err := http.Post("http://"+r.endpoint+"/exec/e/start", "application/json", strings.NewReader("{}"))
	assert.NilError(t, err)
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	assert.Equal(t, res.StatusCode, http.StatusConflict)
	assert.Equal(t, string(body), `{"message":"is not running"}`)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestForwardToAHostThatGoes ends what is under way, and refuses what comes, in words.
func TestForwardToAHostThatGoes(t *testing.T) {
	reached := make(chan struct{}, 2)
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		if strings.HasSuffix(r.URL.Path, "/attach") {
			c, in := takeOver(t, w, r)
			defer c.Close()
			_, _ = io.Copy(io.Discard, in)
			return
		}
		<-r.Context().Done()
	})
	_, in := attached(t, r, "Connection: Upgrade\r\nUpgrade: tcp\r\n")
	<-reached
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + r.endpoint + "/containers/x/top")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- fmt.Sprint(res.StatusCode, " ", string(body))
	}()
	<-reached
	close(r.dir.gone)
	assert.Equal(t, <-answer, "503 host h2 is unreachable")
	_, _ = io.ReadAll(in) // it ends

	res, err := http.Get("http://" + r.endpoint + "/nowhere")
	assert.NilError(t, err)
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	assert.Equal(t, string(body), "host h9 is unreachable")
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestForwardTooEarly: the host has not heard of what the endpoint has seen, and will not.
func TestForwardTooEarly(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) { t.Error("served all the same") })
	r.h1.at = 5000
	res, err := http.Get("http://" + r.endpoint + "/containers/x/top")
	assert.NilError(t, err)
	defer res.Body.Close()
	assert.Equal(t, res.StatusCode, http.StatusServiceUnavailable)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// TestAHostThatHangsIsGivenUp takes connections and says nothing.
func TestAHostThatHangsIsGivenUp(t *testing.T) {
	r := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer l.Close()
	r.dir.addrs["h2"] = l.Addr().String()
	res, err := http.Get("http://" + r.endpoint + "/containers/x/top")
	assert.NilError(t, err)
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	assert.Assert(t, strings.HasPrefix(string(body), "host h2 is unreachable"), string(body))
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
