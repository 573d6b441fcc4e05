package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// resolverAddr is where a container finds its resolver, as in Docker.
var resolverAddr = netip.AddrFrom4([4]byte{127, 0, 0, 11})

const (
	// maxQuestions of one container are under way upstream at once; more wait in the socket's buffer. glibc asks two
	// at a time per lookup.
	maxQuestions = 128
	// maxStreams are the TCP connections of one container to its resolver at once.
	maxStreams = 32
	// streamIdle is how long a TCP connection may be silent (RFC 7766, 6.2.3: a few seconds).
	streamIdle = 10 * time.Second
	// maxMessage is the largest DNS message, and the largest UDP packet, there is.
	maxMessage = 65535
	// maxQuestion is the largest question taken over UDP; larger ones come over TCP. Each container costs so much.
	maxQuestion = 4096
)

// resolverSockets are a container's resolver's, opened in the container's namespace.
type resolverSockets struct {
	udp *net.UDPConn
	tcp *net.TCPListener
}

// openResolverSockets runs in the container's namespace: two sockets on ports that nobody there has, and the rules
// that lead to them; again when there may be old ones.
func openResolverSockets(again bool) (_ *resolverSockets, retErr error) {
	s := &resolverSockets{}
	defer func() {
		if retErr != nil {
			s.close()
		}
	}()
	any := netip.AddrPortFrom(resolverAddr, 0)
	var err error
	if s.udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(any)); err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	if s.tcp, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(any)); err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	if err := redirectDNS(portOf(s.udp.LocalAddr()), portOf(s.tcp.Addr()), again); err != nil {
		return nil, fmt.Errorf("rules of the resolver: %w", err)
	}
	return s, nil
}

func portOf(a net.Addr) uint16 {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Port()
	case *net.TCPAddr:
		return a.AddrPort().Port()
	}
	return 0
}

func (s *resolverSockets) close() {
	if s == nil {
		return
	}
	if s.udp != nil {
		_ = s.udp.Close()
	}
	if s.tcp != nil {
		_ = s.tcp.Close()
	}
}

// resolver answers one container's questions.
type resolver struct {
	f   *Fabric
	sb  *sandbox
	log *zap.Logger

	ctx     context.Context // ends with the resolver
	cancel  context.CancelFunc
	sockets *resolverSockets
	asking  chan struct{} // holds one per question under way
	streams chan struct{} // holds one per TCP connection
	done    sync.WaitGroup
}

func newResolver(f *Fabric, sb *sandbox) *resolver {
	r := &resolver{
		f: f, sb: sb, log: f.log.With(zap.String("container", sb.id.Short())),
		asking: make(chan struct{}, maxQuestions), streams: make(chan struct{}, maxStreams),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// serve answers on the sockets until close.
func (r *resolver) serve(s *resolverSockets) {
	r.sockets = s
	r.done.Go(func() { r.serveUDP(s.udp) })
	r.done.Go(func() { r.serveTCP(s.tcp) })
}

// close ends all that serve began and waits for it. It may be called before serve.
func (r *resolver) close() {
	r.cancel()
	r.sockets.close()
	r.done.Wait()
}

// serveUDP answers what is known here at once, and hands what must be asked upstream to a goroutine of its own.
func (r *resolver) serveUDP(conn *net.UDPConn) {
	buf := make([]byte, maxQuestion)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error for an answer that nobody wanted any more
		}
		query := new(dns.Msg)
		if query.Unpack(buf[:n]) != nil || query.Response {
			continue
		}
		reply := func(m *dns.Msg) { r.replyUDP(conn, from, query, m) }
		if m := r.local(query); m != nil {
			reply(m)
			continue
		}
		if !r.begin() {
			return
		}
		r.done.Go(func() {
			defer r.end()
			reply(r.forward(r.ctx, query))
		})
	}
}

// begin waits for a place among the questions under way; false when the resolver ends.
func (r *resolver) begin() bool {
	select {
	case r.asking <- struct{}{}:
		return true
	case <-r.ctx.Done():
		return false
	}
}

func (r *resolver) end() { <-r.asking }

func (r *resolver) replyUDP(conn *net.UDPConn, to netip.AddrPort, query, m *dns.Msg) {
	size := dns.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
	}
	m.Truncate(size)
	wire, err := m.Pack()
	if err != nil {
		wire, err = failure(query).Pack()
	}
	if err == nil {
		_, err = conn.WriteToUDPAddrPort(wire, to)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		r.log.Debug("no answer to a DNS question", zap.Error(err))
	}
}

func (r *resolver) serveTCP(l *net.TCPListener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed; nothing else ends a listener on loopback
		}
		select {
		case r.streams <- struct{}{}:
			r.done.Go(func() {
				defer func() { <-r.streams }()
				r.serveStream(conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// serveStream answers the questions of one connection one after another.
func (r *resolver) serveStream(conn net.Conn) {
	stop := context.AfterFunc(r.ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	stream := &dns.Conn{Conn: conn}
	for {
		_ = conn.SetDeadline(time.Now().Add(streamIdle))
		query, err := stream.ReadMsg()
		if err != nil || query.Response {
			return
		}
		m := r.local(query)
		if m == nil {
			if !r.begin() {
				return
			}
			m = r.forward(r.ctx, query)
			r.end()
		}
		_ = conn.SetDeadline(time.Now().Add(streamIdle))
		if err := stream.WriteMsg(m); err != nil {
			return
		}
	}
}
