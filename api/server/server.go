// Package server serves the Docker Engine API: it listens, finds the route, and runs each request through recovery,
// log, version check, authentication and forwarding before its handler.
package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/api/router/admin"
	"github.com/nereid-paas/nereid/api/router/build"
	"github.com/nereid-paas/nereid/api/router/container"
	"github.com/nereid-paas/nereid/api/router/debug"
	"github.com/nereid-paas/nereid/api/router/exec"
	"github.com/nereid-paas/nereid/api/router/image"
	"github.com/nereid-paas/nereid/api/router/network"
	"github.com/nereid-paas/nereid/api/router/peer"
	"github.com/nereid-paas/nereid/api/router/plugin"
	"github.com/nereid-paas/nereid/api/router/swarm"
	"github.com/nereid-paas/nereid/api/router/system"
	"github.com/nereid-paas/nereid/api/router/volume"
)

// Config of a Server. The backends are required.
type Config struct {
	Containers container.Backend
	Exec       exec.Backend
	Images     image.Backend
	Networks   network.Backend
	Volumes    volume.Backend
	System     system.Backend
	Hosts      admin.Hosts
	Names      admin.Names

	// Placed, Content and Data are what other hosts ask for; nil: this server is not theirs.
	Placed  peer.Containers
	Content peer.Images
	Data    peer.Volumes

	// Debug serves profiles of the daemon, too.
	Debug bool
	// Version of the engine for the Server header.
	Version string
	// Cgroup2 tells that the hosts have cgroup version 2.
	Cgroup2 bool
	// Forwarder finds owners; nil: everything is home.
	Forwarder Forwarder
	// Present has refusals rest on what the fleet knows; nil: this host knows it all.
	Present Present
	// Authenticator tells who asks; nil: everybody is the administrator, as behind a unix socket.
	Authenticator Authenticator
	// Log; nil: none.
	Log *zap.Logger
	// Drain bounds how long running requests may take to end when the server stops; 0: 10 seconds.
	Drain time.Duration
}

// Routes of the whole API, in the order in which they are tried.
func Routes(cfg Config) []router.Route {
	var all []router.Route
	for _, routes := range [][]router.Route{
		container.Routes(cfg.Containers, cfg.Cgroup2),
		exec.Routes(cfg.Exec),
		image.Routes(cfg.Images),
		system.Routes(cfg.System),
		volume.Routes(cfg.Volumes),
		build.Routes(),
		swarm.Routes(),
		plugin.Routes(),
		network.Routes(cfg.Networks),
		admin.Routes(cfg.Hosts, cfg.System),
		admin.NamesRoutes(cfg.Names),
	} {
		all = append(all, routes...)
	}
	if cfg.Placed != nil {
		all = append(all, peer.Routes(cfg.Placed, cfg.Content, cfg.Data)...)
	}
	if cfg.Debug {
		all = append(all, debug.Routes()...)
	}
	return all
}

// Server of the API: see New.
type Server struct {
	cfg     Config
	log     *zap.Logger
	mux     http.Handler
	running *running
	// header bounds how long a client may take to send its request's header.
	header time.Duration
}

// New makes a server; it starts nothing.
func New(cfg Config) *Server {
	if cfg.Drain == 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.Forwarder == nil {
		cfg.Forwarder = home{}
	}
	if cfg.Authenticator == nil {
		cfg.Authenticator = everybodyIsAdmin
	}
	s := &Server{cfg: cfg, log: cfg.Log, running: newRunning(), header: headerTimeout}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	s.mux = s.newMux(Routes(cfg))
	return s
}

// ServeHTTP serves one request, for Serve or for another server, which calls Stop in the end.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// headerTimeout is ample for a header, and little for a connection that nobody uses.
const headerTimeout = time.Minute

// Serve answers on the listeners until the context ends, and then stops in order: no new connections, live streams end,
// requests get Config.Drain to finish, what still runs is cut off. It closes the listeners. A listener that fails stops
// the others, and its error is returned. Call it once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.header,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       s.firstByte,
		ErrorLog:          zap.NewStdLog(s.log.Named("http")),
		Protocols:         protocols(),
	}
	group, gctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		group.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error {
		<-gctx.Done()
		s.stop(srv, cut)
		return nil
	})
	return group.Wait()
}

// Stop ends a server that another serves, see ServeHTTP: live streams end, connections that were taken over are closed,
// and handlers get a moment to return.
func (s *Server) Stop() {
	s.running.endLive()
	s.running.closeHijacked()
	if grace := min(cutTime, s.cfg.Drain); !s.running.wait(grace) {
		s.log.Warn("handlers still run", zap.Duration("after", grace))
	}
}

// firstByte bounds the wait for a connection's first bytes: the look for HTTP/2 comes before the header's own bound.
func (s *Server) firstByte(ctx context.Context, c net.Conn) context.Context {
	_ = c.SetReadDeadline(time.Now().Add(s.header)) // one that is closed already is found out by reading
	return ctx
}

// protocols are HTTP/1 and, without TLS, HTTP/2 as newer builders speak it.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// cutTime bounds, beside Config.Drain, how long handlers may take to end once their connections and contexts have.
const cutTime = 5 * time.Second

func (s *Server) stop(srv *http.Server, cut context.CancelFunc) {
	s.running.endLive()
	drain, cancel := context.WithTimeout(context.Background(), s.cfg.Drain)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		s.log.Warn("requests still run and are cut off", zap.Duration("after", s.cfg.Drain))
	}
	cut()
	s.running.closeHijacked()
	_ = srv.Close()
	if grace := min(cutTime, s.cfg.Drain); !s.running.wait(grace) {
		s.log.Warn("handlers still run", zap.Duration("after", grace))
	}
}

// running knows the requests being served.
type running struct {
	live    context.Context // ends when live streams must
	endLive context.CancelFunc

	handlers sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	hijacked map[net.Conn]struct{}
}

func newRunning() *running {
	r := &running{hijacked: map[net.Conn]struct{}{}}
	r.live, r.endLive = context.WithCancel(context.Background())
	return r
}

// took remembers a connection taken over, which is closed at once when the server has stopped.
func (r *running) took(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close()
		return
	}
	r.hijacked[c] = struct{}{}
}

// forget is called when the request that took the connection has ended.
func (r *running) forget(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hijacked, c)
}

func (r *running) closeHijacked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for c := range r.hijacked {
		_ = c.Close()
	}
}

// wait tells whether all handlers ended in time.
func (r *running) wait(d time.Duration) bool {
	done := make(chan struct{})
	go func() {
		r.handlers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}
