package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Headers that hosts add to what they forward. A client's are dropped.
const (
	accountHeader  = "Nereid-Account"
	revisionHeader = "Nereid-Revision"
)

type forwarderKey struct{}

func withForwarder(ctx context.Context, h nereid.Host) context.Context {
	return context.WithValue(ctx, forwarderKey{}, h)
}

// Forwarded tells on whose behalf another host forwarded a request. It is for the handler given to ServeAPI alone:
// the header counts only where a certificate came with it.
func Forwarded(r *http.Request) (nereid.Account, error) {
	_, ok := r.Context().Value(forwarderKey{}).(nereid.Host)
	a := nereid.Account(r.Header.Get(accountHeader))
	if !ok || a == "" {
		return "", errdefs.ErrUnauthenticated.WithMessage("not a forwarded request")
	}
	return a, nil
}

// Shown is how far a host's view of the state is: what a client did at one host must be seen by the next it is sent to,
// and by the first again when the answer comes.
type Shown interface {
	Shown() int64
	WaitShown(ctx context.Context, revision int64) error
}

// Directory tells where hosts are and how they do.
type Directory interface {
	// Find a host, as ADDR:PORT. errdefs.ErrUnavailable: it has no address now, or is known not to answer.
	Find(h nereid.Host) (addr string, err error)
	// Gone returns a channel that is closed when a host is found not to answer any more.
	Gone(h nereid.Host) <-chan struct{}
}

// Forwarder sends requests to other hosts. All methods may be called at once.
type Forwarder struct {
	id    *Identity
	dir   Directory
	shown Shown
	pool  *http.Transport
}

const (
	// reachTimeout bounds the time to reach a host: one that hangs takes the connection and says nothing.
	reachTimeout = 3 * time.Second
	// idleTimeout is how long connections wait for the next request.
	idleTimeout = 30 * time.Second
	idlePerHost = 32
	// showTimeout bounds the wait for a view to catch up: milliseconds, unless the state does not answer.
	showTimeout = 5 * time.Second
)

// NewForwarder makes a forwarder.
func NewForwarder(id *Identity, dir Directory, shown Shown) *Forwarder {
	f := &Forwarder{id: id, dir: dir, shown: shown}
	f.pool = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			return f.reach(ctx, nereid.Host(host))
		},
		IdleConnTimeout: idleTimeout, MaxIdleConnsPerHost: idlePerHost, DisableCompression: true,
	}
	return f
}

// Close lets go of idle connections.
func (f *Forwarder) Close() { f.pool.CloseIdleConnections() }

// reach connects to a host and makes sure that it is the one.
func (f *Forwarder) reach(ctx context.Context, h nereid.Host) (*tls.Conn, error) {
	addr, err := f.dir.Find(h)
	if err != nil {
		return nil, &Unreached{err}
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	d := tls.Dialer{Config: f.id.hostTLS(h)}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, &Unreached{errUnreachable(h, err)}
	}
	return c.(*tls.Conn), nil
}

// Unreached says that a host was not reached: nothing was asked of it. It has the class of its cause.
type Unreached struct{ cause error }

func (u *Unreached) Error() string { return u.cause.Error() }

// Unwrap gives the cause.
func (u *Unreached) Unwrap() error { return u.cause }

func errUnreachable(h nereid.Host, why error) error {
	if errdefs.IsUnavailable(why) {
		return why
	}
	return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("host %s is unreachable: %v", h, why)) // a timeout is a class of its own
}

// watched is a context that ends when the host is found to be gone.
func (f *Forwarder) watched(ctx context.Context, h nereid.Host) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	gone := f.dir.Gone(h)
	go func() {
		select {
		case <-gone:
			cancel(errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("host %s is unreachable", h)))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Forward sends a request as it came to a host and its answer back, connections taken over included. An error before
// the first byte of the answer is errdefs.ErrUnavailable; one after it only ends the answer.
func (f *Forwarder) Forward(w http.ResponseWriter, r *http.Request, to nereid.Host) error {
	ctx, cancel := f.watched(r.Context(), to)
	defer cancel()
	out, err := f.outgoing(ctx, r, to)
	if err != nil {
		return err
	}
	if mayHijack(r) {
		return f.hijack(w, out, to)
	}
	res, err := f.pool.RoundTrip(out)
	if err != nil {
		return f.failed(ctx, to, err)
	}
	defer res.Body.Close()
	return f.copyAnswer(ctx, w, res, to)
}

// RoundTrip implements http.RoundTripper for requests of this host's own, for the account of their context, to the host
// that their URL names. It returns once this host shows what the other did, when that says so.
func (f *Forwarder) RoundTrip(r *http.Request) (*http.Response, error) {
	to := nereid.Host(r.URL.Host)
	ctx, cancel := f.watched(r.Context(), to)
	out := r.Clone(ctx)
	out.Host = "nereid"
	f.stamp(out)
	res, err := f.pool.RoundTrip(out)
	if err != nil {
		err = f.failed(ctx, to, err)
		cancel()
		return nil, err
	}
	f.catchUp(ctx, res)
	res.Body = &lasting{res.Body, cancel}
	return res, nil
}

// lasting is a body with what must last as long.
type lasting struct {
	io.ReadCloser
	end context.CancelFunc
}

// Close implements io.Closer.
func (l *lasting) Close() error {
	defer l.end()
	return l.ReadCloser.Close()
}

// stamp says on whose behalf, and what this host has seen.
func (f *Forwarder) stamp(out *http.Request) {
	out.Header.Set(accountHeader, string(nereid.AccountFrom(out.Context())))
	out.Header.Set(revisionHeader, strconv.FormatInt(f.shown.Shown(), 10))
}

// failed says that a host did not answer, unless it is the client that went.
func (f *Forwarder) failed(ctx context.Context, to nereid.Host, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errUnreachable(to, err)
}

// outgoing is the request as it goes out: as the client wrote it, and who that is.
func (f *Forwarder) outgoing(ctx context.Context, r *http.Request, to nereid.Host) (*http.Request, error) {
	u, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	out := r.Clone(ctx)
	out.URL = u
	out.URL.Scheme, out.URL.Host = "http", string(to) // TLS is the dialer's
	out.RequestURI, out.Host, out.Close = "", "nereid", false
	f.stamp(out)
	if !mayHijack(r) {
		out.Header.Del("Connection")
		out.Header.Del("Upgrade")
	}
	if r.ContentLength == 0 {
		out.Body = nil // nothing to send, so that a stale connection may be tried again
	}
	return out, nil
}

// copyAnswer passes an answer on as it comes.
func (f *Forwarder) copyAnswer(ctx context.Context, w http.ResponseWriter, res *http.Response, to nereid.Host) error {
	f.catchUp(ctx, res)
	h := w.Header()
	for k, vs := range res.Header {
		h[k] = vs
	}
	w.WriteHeader(res.StatusCode)
	if err := copyFlushing(w, res.Body); err != nil {
		return f.failed(ctx, to, err)
	}
	return nil
}

// catchUp waits until the client's next question here will see what it did there. A state that does not answer must not
// hold the answer back.
func (f *Forwarder) catchUp(ctx context.Context, res *http.Response) {
	revision, err := strconv.ParseInt(res.Header.Get(revisionHeader), 10, 64)
	res.Header.Del(revisionHeader)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, showTimeout)
	defer cancel()
	_ = f.shown.WaitShown(ctx, revision)
}

// copyBytes is the size of a piece of a stream.
const copyBytes = 32 << 10

// copyFlushing copies a stream and sends each piece at once.
func copyFlushing(w http.ResponseWriter, r io.Reader) error {
	rc := http.NewResponseController(w)
	buf := make([]byte, copyBytes)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
			if ferr := rc.Flush(); ferr != nil && !errors.Is(ferr, http.ErrNotSupported) {
				return ferr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// mayHijack tells which requests end in a raw stream: those that ask for an upgrade, and the two that old clients turn
// into one without asking.
func mayHijack(r *http.Request) bool {
	path := r.URL.Path
	return r.Header.Get("Upgrade") != "" ||
		r.Method == http.MethodPost && (strings.HasSuffix(path, "/attach") || strings.Contains(path, "/exec/") && strings.HasSuffix(path, "/start"))
}

// hijack forwards a request on a connection of its own, and joins that to the client's once the host made it a stream.
func (f *Forwarder) hijack(w http.ResponseWriter, out *http.Request, to nereid.Host) error {
	ctx := out.Context()
	conn, err := f.reach(ctx, to)
	if err != nil {
		return f.failed(ctx, to, err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })()
	if err := out.Write(conn); err != nil {
		return f.failed(ctx, to, err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, out)
	if err != nil {
		return f.failed(ctx, to, err)
	}
	defer res.Body.Close()
	if !becameStream(res) {
		return f.copyAnswer(ctx, w, res, to)
	}
	return splice(ctx, w, res, conn, in)
}

func becameStream(res *http.Response) bool {
	kind := res.Header.Get("Content-Type")
	raw := kind == "application/vnd.docker.raw-stream" || kind == "application/vnd.docker.multiplexed-stream"
	return res.StatusCode == http.StatusSwitchingProtocols || res.StatusCode == http.StatusOK && raw && res.ContentLength < 0 && len(res.TransferEncoding) == 0
}
