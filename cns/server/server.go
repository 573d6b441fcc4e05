// Package server speaks DNS: it answers questions from the zones over UDP and TCP, authoritatively and from nothing
// else.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/cns/zone"
)

// Source has the zones as of now; nil while they are not known.
type Source interface {
	Zones() *zone.Set
}

// Config of a Server.
type Config struct {
	Listen []string // addresses for UDP and TCP, "127.0.0.1:53"; none: Answer alone
	// Transfers gives zones to other name servers; nil: nobody gets any.
	Transfers Transfers
}

const (
	// stopTimeout is how long a stop waits for answers under way: they come from memory.
	stopTimeout = 2 * time.Second
	// tcpTimeout bounds how long a TCP client may take for a request or an answer, and idle between them: RFC 7766,
	// section 6.2.3, asks for a few seconds at least, and a slow client must not hold a connection for longer.
	tcpTimeout = 5 * time.Second
	// tcpQueries is how many questions one TCP connection may ask.
	tcpQueries = 1024
	// tcpConnections is how many TCP clients are served at once, per address; more wait in the kernel's queue. Each costs
	// some 100 KiB at worst.
	tcpConnections = 256
	// listenTries bounds how often a port chosen by the system for UDP is tried for TCP.
	listenTries = 16
)

// Server answers questions. It may be asked through Answer as soon as it is made.
type Server struct {
	cfg    Config
	source Source
	log    *zap.Logger
	turn   atomic.Uint64
	counts counts
	open   []*listener
}

// listener is one address, open for both transports.
type listener struct {
	udp net.PacketConn
	tcp net.Listener
}

// New makes a Server. It opens nothing: Listen, then Run.
func New(source Source, cfg Config, log *zap.Logger) *Server {
	return &Server{cfg: cfg, source: source, log: log}
}

// Listen opens the addresses. All are open when it returns, or none.
func (s *Server) Listen(ctx context.Context) (retErr error) {
	defer func() {
		if retErr != nil {
			s.close()
		}
	}()
	for _, addr := range s.cfg.Listen {
		l, err := listen(ctx, addr)
		if err != nil {
			return fmt.Errorf("listen for DNS on %q: %w", addr, err)
		}
		s.open = append(s.open, l)
	}
	return nil
}

// listen opens an address for UDP and for TCP. With port 0 both get the same one.
func listen(ctx context.Context, addr string) (*listener, error) {
	var lc net.ListenConfig
	for try := 1; ; try++ {
		udp, err := lc.ListenPacket(ctx, "udp", addr)
		if err != nil {
			return nil, err
		}
		tcp, err := lc.Listen(ctx, "tcp", udp.LocalAddr().String())
		if err == nil {
			return &listener{udp: udp, tcp: limit(tcp, tcpConnections)}, nil
		}
		udp.Close()
		if _, port, _ := net.SplitHostPort(addr); port != "0" || try == listenTries {
			return nil, err
		}
	}
}

func (s *Server) close() {
	for _, l := range s.open {
		l.udp.Close()
		l.tcp.Close()
	}
	s.open = nil
}

// Addrs are the addresses that Listen opened.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.open))
	for i, l := range s.open {
		addrs[i] = l.udp.LocalAddr()
	}
	return addrs
}

// Run serves what Listen opened until the context ends, then lets answers under way be sent and closes all.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range s.open {
		for _, srv := range s.servers(l) {
			group.Go(func() error { return serve(ctx, srv) })
		}
	}
	if len(s.open) == 0 {
		<-ctx.Done()
	}
	return group.Wait()
}

// servers are the two halves of a listener.
func (s *Server) servers(l *listener) []*dns.Server {
	tcp := &dns.Server{
		Listener: l.tcp, Handler: dns.HandlerFunc(s.handleTCP), MaxTCPQueries: tcpQueries,
		ReadTimeout: tcpTimeout, WriteTimeout: tcpTimeout, IdleTimeout: func() time.Duration { return tcpTimeout },
		MsgAcceptFunc: accept, TsigProvider: s.provider(),
	}
	udp := &dns.Server{PacketConn: l.udp, Handler: dns.HandlerFunc(s.handleUDP), UDPSize: udpSize, MsgAcceptFunc: accept, TsigProvider: s.provider()}
	return []*dns.Server{udp, tcp}
}

// provider has the keys shared with other name servers; nil: there are none.
func (s *Server) provider() dns.TsigProvider {
	if s.cfg.Transfers == nil {
		return nil
	}
	return s.cfg.Transfers
}

// accept lets everything but answers come to the handlers, which know the right error for it.
func accept(h dns.Header) dns.MsgAcceptAction {
	const responseBit = 1 << 15
	if h.Bits&responseBit != 0 {
		return dns.MsgIgnore
	}
	return dns.MsgAccept
}

// serve runs one half until the context ends.
func serve(ctx context.Context, srv *dns.Server) error {
	started := make(chan struct{}) // closed by the server
	srv.NotifyStartedFunc = func() { close(started) }
	failed := make(chan error, 1)
	go func() { failed <- srv.ActivateAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-started:
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := srv.ShutdownContext(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // a client that takes no answer is not worth waiting for
	}
	return errors.Join(err, <-failed)
}

func (s *Server) handleUDP(w dns.ResponseWriter, req *dns.Msg) {
	if s.special(w, req) {
		return
	}
	m := s.reply(req)
	if m == nil {
		return
	}
	size := dns.MinMsgSize
	if opt := req.IsEdns0(); opt != nil {
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
	}
	s.send(w, req, m, size)
}

func (s *Server) handleTCP(w dns.ResponseWriter, req *dns.Msg) {
	if s.special(w, req) {
		return
	}
	m := s.reply(req)
	if m == nil {
		return
	}
	s.send(w, req, m, dns.MaxMsgSize)
}

// send cuts an answer to what the transport takes, and signs it as its request was.
func (s *Server) send(w dns.ResponseWriter, req, m *dns.Msg, size int) {
	s.count(req, m)
	room := s.signed(new(dns.Msg), req)
	m.Truncate(size - room)
	s.signed(m, req)
	s.write(w, m)
}

func (s *Server) write(w dns.ResponseWriter, m *dns.Msg) {
	if err := w.WriteMsg(m); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("DNS answer not sent", zap.Stringer("to", w.RemoteAddr()), zap.Error(err))
	}
}
