package server

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// queueSize is how many requests wait that are not plain. When more come the oldest is dropped: its client asks again.
const queueSize = 1024

// waiting is a request that is not plain, and the socket it came to.
type waiting struct {
	packet
	socket *socket
	since  time.Time
}

// later has a request answered by who takes the time. It does not block.
func (s *Server) later(c *socket, p packet) {
	w := waiting{p, c, time.Now()}
	for {
		select {
		case s.queue <- w:
			return
		default:
		}
		select {
		case <-s.queue:
			s.dropped.queue.Add(1)
		default:
		}
	}
}

// take answers requests that are not plain until the context ends, and then those that wait.
func (s *Server) take(ctx context.Context) {
	for {
		select {
		case w := <-s.queue:
			s.handle(&w)
		case <-ctx.Done():
			for {
				select {
				case w := <-s.queue:
					s.handle(&w)
				default:
					return
				}
			}
		}
	}
}

// handle answers a request as the DNS library does it for TCP.
func (s *Server) handle(w *waiting) {
	req := new(dns.Msg)
	err := req.Unpack(w.data)
	if len(w.data) < headerSize || req.Response {
		return
	}
	r := &response{waiting: w, provider: s.provider()}
	if err != nil { // the header was read at least
		m := new(dns.Msg).SetRcodeFormatError(req)
		m.Opcode = req.Opcode
		s.write(r, m)
		return
	}
	if sig := req.IsTsig(); sig != nil && r.provider != nil {
		r.status, r.mac = dns.TsigVerifyWithProvider(w.data, r.provider, "", false), sig.MAC
	}
	s.handleUDP(r, req)
	s.tally.latency.add(time.Since(w.since), 1)
}

// response is the dns.ResponseWriter of a request over UDP.
type response struct {
	*waiting
	provider dns.TsigProvider // nil: there are no keys
	status   error            // of the request's signature
	mac      string           // what the next message's signature is over, too
	timers   bool
}

var _ dns.ResponseWriter = (*response)(nil)

func (r *response) LocalAddr() net.Addr   { return r.socket.LocalAddr() }
func (r *response) RemoteAddr() net.Addr  { return net.UDPAddrFromAddrPort(r.from) }
func (r *response) TsigStatus() error     { return r.status }
func (r *response) TsigTimersOnly(b bool) { r.timers = b }
func (r *response) Close() error          { return nil }
func (r *response) Hijack()               {}

// WriteMsg signs and sends a message.
func (r *response) WriteMsg(m *dns.Msg) (err error) {
	var data []byte
	if sig := m.IsTsig(); sig != nil && r.provider != nil {
		data, r.mac, err = dns.TsigGenerateWithProvider(m, r.provider, r.mac, r.timers)
	} else {
		data, err = m.Pack()
	}
	if err != nil {
		return err
	}
	_, err = r.Write(data)
	return err
}

// Write sends octets.
func (r *response) Write(data []byte) (int, error) {
	var sent error
	if err := r.socket.raw.Control(func(fd uintptr) { sent = r.answer(fd, data) }); err != nil {
		return 0, err
	}
	return len(data), sent
}

// write sends an answer, if the client is there for it.
func (s *Server) write(w dns.ResponseWriter, m *dns.Msg) {
	if err := w.WriteMsg(m); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("DNS answer not sent", zap.Stringer("to", w.RemoteAddr()), zap.Error(err))
	}
}
