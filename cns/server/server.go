// Package server speaks DNS: it answers questions from the zones over UDP and TCP, authoritatively and from nothing
// else.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
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
	// ListenTLS are addresses for TLS, "192.0.2.1:853", with a Certificate.
	ListenTLS   []string
	Certificate *Certificate
	Limits      Limits
	NSID        string // what clients are told who ask which server they have (RFC 5001); empty: nothing
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
	open   []*listener

	answers *answers
	queue   chan waiting // never closed
	meters  *meters
	dropped struct{ queue, queries, responses atomic.Uint64 } // requests without an answer, and answers not given
	closing atomic.Bool
	workers []*worker
	tally   tally // of all that workers leave to others
}

// listener is one address, open for both transports: for UDP once per processor. One for TLS has no UDP.
type listener struct {
	udp []*socket
	tcp net.Listener
}

// New makes a Server. It opens nothing: Listen, then Run.
func New(source Source, cfg Config, log *zap.Logger) *Server {
	return &Server{
		cfg: cfg, source: source, log: log, answers: newAnswers(), queue: make(chan waiting, queueSize),
		tally: tally{new(counts), new(latency)}, meters: newMeters(),
	}
}

// Listen opens the addresses. All are open when it returns, or none.
func (s *Server) Listen(ctx context.Context) (retErr error) {
	defer func() {
		if retErr != nil {
			s.close()
			s.workers = nil
		}
	}()
	for _, addr := range s.cfg.Listen {
		l, err := s.listen(ctx, addr)
		if err != nil {
			return fmt.Errorf("listen for DNS on %q: %w", addr, err)
		}
		s.open = append(s.open, l)
		for _, c := range l.udp {
			s.workers = append(s.workers, newWorker(s, c))
		}
	}
	for _, addr := range s.cfg.ListenTLS {
		if err := s.listenTLS(ctx, addr); err != nil {
			return fmt.Errorf("listen for DNS over TLS on %q: %w", addr, err)
		}
	}
	return nil
}

// listenTLS opens an address for TLS.
func (s *Server) listenTLS(ctx context.Context, addr string) error {
	if _, err := s.cfg.Certificate.Load(); err != nil {
		return err
	}
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s.open = append(s.open, &listener{tcp: tls.NewListener(bound(tcp, tcpConnections, &s.cfg.Limits), s.cfg.Certificate.config())})
	return nil
}

// listen opens an address for UDP and for TCP. With port 0 both get the same one.
func (s *Server) listen(ctx context.Context, addr string) (*listener, error) {
	var lc net.ListenConfig
	for try := 1; ; try++ {
		first, err := openUDP(ctx, addr)
		if err != nil {
			return nil, err
		}
		l := &listener{udp: []*socket{first}}
		tcp, err := lc.Listen(ctx, "tcp", first.LocalAddr().String())
		if err == nil {
			l.tcp = bound(tcp, tcpConnections, &s.cfg.Limits)
			return l, l.share(ctx)
		}
		l.close()
		if _, port, _ := net.SplitHostPort(addr); port != "0" || try == listenTries {
			return nil, err
		}
	}
}

// share opens as many sockets for UDP as there are processors.
func (l *listener) share(ctx context.Context) error {
	for range runtime.GOMAXPROCS(0) - 1 {
		c, err := openUDP(ctx, l.udp[0].LocalAddr().String())
		if err != nil {
			l.close()
			return err
		}
		l.udp = append(l.udp, c)
	}
	return nil
}

func (l *listener) close() {
	for _, c := range l.udp {
		_ = c.Close()
	}
	if l.tcp != nil {
		l.tcp.Close()
	}
}

func (s *Server) close() {
	for _, l := range s.open {
		l.close()
	}
	s.open = nil
}

// Addrs are the addresses that Listen opened, those for TLS last.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.open))
	for i, l := range s.open {
		addrs[i] = l.tcp.Addr()
	}
	return addrs
}

// Run serves what Listen opened until the context ends, then lets answers under way be sent and closes all. Call it once.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	queue, done := context.WithCancel(context.WithoutCancel(ctx)) // ends when nothing is received any more
	var takers, workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		takers.Go(func() { s.take(queue) })
	}
	for _, w := range s.workers {
		workers.Add(1)
		group.Go(func() error { defer workers.Done(); return w.run() })
	}
	for _, l := range s.open {
		group.Go(func() error { return serve(ctx, s.tcp(l.tcp)) })
	}
	<-ctx.Done()
	s.closing.Store(true)
	for _, w := range s.workers {
		_ = w.socket.SetReadDeadline(time.Now()) // wakes it
	}
	workers.Wait()
	done()
	takers.Wait()
	err := group.Wait()
	s.close()
	return err
}

// tcp is what speaks over connections.
func (s *Server) tcp(l net.Listener) *dns.Server {
	return &dns.Server{
		Listener: l, Handler: dns.HandlerFunc(s.handleTCP), MaxTCPQueries: tcpQueries,
		ReadTimeout: tcpTimeout, WriteTimeout: tcpTimeout, IdleTimeout: func() time.Duration { return tcpTimeout },
		MsgAcceptFunc: accept, TsigProvider: s.provider(),
	}
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
	if req.IsTsig() == nil { // who has signed is who they are
		switch s.ration(client(w), subjectOf(m), time.Now()) {
		case withhold:
			return
		case slip:
			m.Answer, m.Ns, m.Rcode, m.Truncated = nil, nil, dns.RcodeSuccess, true
		}
	}
	s.send(w, req, m, udpLimit(req))
}

// client is who asks.
func client(w dns.ResponseWriter) netip.Addr {
	a, _ := netip.ParseAddrPort(w.RemoteAddr().String())
	return a.Addr().Unmap()
}

// udpLimit is the size of the largest answer over UDP that a client takes and we send.
func udpLimit(req *dns.Msg) int {
	if opt := req.IsEdns0(); opt != nil {
		return min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
	}
	return dns.MinMsgSize
}

func (s *Server) handleTCP(w dns.ResponseWriter, req *dns.Msg) {
	if !s.mayAsk(client(w)) {
		_ = w.Close()
		return
	}
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
	m.Compress = true
	s.signed(m, req)
	s.write(w, m)
}
