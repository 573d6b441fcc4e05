package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Fleet is who decides about hosts.
type Fleet interface {
	// Admit lets a host in. Refusals are errdefs classes; errdefs.ErrUnavailable asks to try again.
	Admit(ctx context.Context, a Application) (Admission, error)
	// Admitted tells whether a host is of the fleet with that key, and a server.
	Admitted(h nereid.Host, fingerprint string) (server, ok bool)
}

// Server answers other hosts on one port: who wants to join, the state's servers and clients, and forwarded requests
// of Docker's API. What answers is given when it is there; until then the answer is 503, but for messages of raft.
type Server struct {
	id  *Identity
	log *zap.Logger

	hasState chan struct{} // closed with the first of etcd
	tellOnce sync.Once     // closes it

	fleet atomic.Pointer[Fleet]
	etcd  atomic.Pointer[etcd]
	api   atomic.Pointer[http.Handler]
	// elsewhere is where a server of the fleet answers who wants to join, as ADDR:PORT.
	elsewhere atomic.Pointer[func() []string]
}

type etcd struct{ servers, hosts http.Handler }

// NewServer makes a server; Serve runs it.
func NewServer(id *Identity, log *zap.Logger) *Server {
	return &Server{id: id, log: log, hasState: make(chan struct{})}
}

// ServeState has the state's servers and hosts answered.
func (s *Server) ServeState(servers, hosts http.Handler) {
	s.etcd.Store(&etcd{servers, hosts})
	s.tellOnce.Do(func() { close(s.hasState) })
}

// ServeFleet has hosts that want to join answered; elsewhere are the addresses of servers, which have the authority's
// key when this host has not.
func (s *Server) ServeFleet(f Fleet, elsewhere func() []string) {
	s.fleet.Store(&f)
	s.elsewhere.Store(&elsewhere)
}

// ServeAPI has forwarded requests answered.
func (s *Server) ServeAPI(h http.Handler) { s.api.Store(&h) }

const (
	// headerTimeout bounds the handshake and the header of a request.
	headerTimeout = 10 * time.Second
	// drain is how long requests may take to end when the host stops. The API ends its own.
	drain = 2 * time.Second
)

// Serve answers until the context ends, and closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, TLSConfig: s.id.serverTLS(),
		ErrorLog: zap.NewStdLog(s.log), BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	defer context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
	})()
	if err := srv.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// caller is who is at the other end, by the certificate.
type caller struct {
	host   nereid.Host
	server bool
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == joinPath {
		s.answer(w, r, s.join)
		return
	}
	from, err := s.identify(r.TLS)
	if err != nil {
		fail(w, err)
		return
	}
	switch {
	case r.URL.Path == renewPath:
		s.answer(w, r, func(ctx context.Context, body []byte) (any, error) { return s.renew(ctx, from, body) })
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
		s.toState(w, r, func(e *etcd) http.Handler { return e.hosts })
	case ofEtcd(r.URL.Path):
		if !from.server {
			fail(w, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("host %s is no server", from.host)))
			return
		}
		s.toState(w, r, func(e *etcd) http.Handler { return e.servers })
	default:
		s.toAPI(w, r, from)
	}
}

// etcdPaths are what etcd's members ask each other. /version is Docker's too, but never forwarded.
var etcdPaths = []string{"/raft", "/members", "/leases", "/downgrade", "/hashkv", "/version"}

func ofEtcd(path string) bool {
	return slices.ContainsFunc(etcdPaths, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

func (s *Server) toState(w http.ResponseWriter, r *http.Request, which func(*etcd) http.Handler) {
	if r.URL.Path == raftPath {
		s.awaitState(r.Context())
	}
	e := s.etcd.Load()
	if e == nil {
		fail(w, errStarting)
		return
	}
	which(e).ServeHTTP(w, r)
}

const (
	// raftPath is where a member of etcd sends another single messages, as it does while there is no stream between them.
	raftPath = "/raft"
	// startWait is ample for a host to open its state.
	startWait = 10 * time.Second
)

// awaitState waits for what answers messages of raft. A member whose message was refused takes the receiver for one that
// cannot be reached until something connects anew. When it came to the refusal only after the streams were connected,
// that was never, and the fleet took no other server.
func (s *Server) awaitState(ctx context.Context) {
	late := time.NewTimer(startWait)
	defer late.Stop()
	select {
	case <-s.hasState:
	case <-late.C:
	case <-ctx.Done():
	}
}

var errStarting = errdefs.ErrUnavailable.WithMessage("the host is starting")

func (s *Server) toAPI(w http.ResponseWriter, r *http.Request, from caller) {
	api := s.api.Load()
	if api == nil {
		fail(w, errStarting)
		return
	}
	(*api).ServeHTTP(w, r.WithContext(withForwarder(r.Context(), from.host)))
}

// identify tells who calls. A host that was removed has a certificate still; the state knows better, once it is there.
func (s *Server) identify(cs *tls.ConnectionState) (caller, error) {
	if cs == nil || len(cs.VerifiedChains) == 0 {
		return caller{}, errdefs.ErrPermissionDenied.WithMessage("only hosts of the fleet are served here")
	}
	leaf := cs.PeerCertificates[0]
	c := caller{host: nereid.Host(leaf.Subject.CommonName), server: slices.Contains(leaf.Subject.OrganizationalUnit, roleServer)}
	fleet := s.fleet.Load()
	if fleet == nil {
		return c, nil
	}
	print, err := fingerprint(leaf.PublicKey)
	if err != nil {
		return caller{}, err
	}
	if _, ok := (*fleet).Admitted(c.host, print); !ok {
		return caller{}, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("host %s is not of the fleet any more", c.host))
	}
	return c, nil
}

// answer serves one message.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, do func(context.Context, []byte) (any, error)) {
	if r.Method != http.MethodPost {
		fail(w, errdefs.ErrNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		fail(w, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument))
		return
	}
	out, err := do(r.Context(), body)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // who has gone asks again
}

// fail answers with an error's words, and the status that Refusal makes its class of again.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errdefs.IsUnavailable(err):
		code = http.StatusServiceUnavailable
	case errdefs.IsNotFound(err):
		code = http.StatusNotFound
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err):
		code = http.StatusConflict
	case errdefs.IsInvalidArgument(err), errdefs.IsFailedPrecondition(err):
		code = http.StatusBadRequest
	case errdefs.IsPermissionDenied(err):
		code = http.StatusForbidden
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()})
}
