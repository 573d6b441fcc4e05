package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// receiveBuffer is how many octets of requests the kernel keeps for a worker: a few thousand, a burst of some ten
// milliseconds at full speed. What comes when it is full is lost.
const receiveBuffer = 4 << 20

// socket is one of the sockets that share an address, of which the kernel gives each client's packets to one.
type socket struct {
	*net.UDPConn
	raw        syscall.RawConn
	controlled bool // it has many addresses: answers must come from the one that was asked
}

// openUDP opens a socket more at an address. The kernel lets the same user's programs share it; that it is ours alone is
// seen to by the TCP socket beside it, which is not shared.
func openUDP(ctx context.Context, addr string) (*socket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
			return e
		}
		return err
	}}
	c, err := lc.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	s := &socket{UDPConn: c.(*net.UDPConn)}
	if s.raw, err = s.SyscallConn(); err != nil {
		_ = s.Close()
		return nil, err
	}
	s.controlled = s.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()
	err = errors.Join(s.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) // or what the system allows
		if s.controlled {
			err = tellDestinations(int(fd))
		}
	}), err)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// tellDestinations has the kernel tell to which of our addresses each packet came. For IPv4 packets at an IPv6 socket the
// option of IPv6 does.
func tellDestinations(fd int) error {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	if family == unix.AF_INET6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// worker answers what comes to one socket: what is plain at once, from answers made ready; the rest is for others.
type worker struct {
	s       *Server
	socket  *socket
	batch   *batch
	q       plain
	denials denials
	turn    uint64
	about   subject // of the last answer, good until the next request is read
	tally   tally
}

func newWorker(s *Server, c *socket) *worker {
	return &worker{s: s, socket: c, batch: newBatch(c.controlled), tally: tally{new(counts), new(latency)}}
}

// run answers until the socket is closed.
func (w *worker) run() error {
	err := w.socket.raw.Read(w.step)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) && w.s.closing.Load() {
		return nil
	}
	return fmt.Errorf("receive DNS requests: %w", err)
}

// step answers what is waiting, until nothing is; false asks to be called when there is something again.
func (w *worker) step(fd uintptr) (done bool) {
	for {
		n, err := w.batch.receive(fd)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return w.s.closing.Load()
		case err != nil: // of an answer sent before, which the network would not have: it is gone from the queue now
			w.s.log.Debug("DNS socket: " + err.Error())
			continue
		}
		begin := time.Now()
		out := 0
		set := w.s.source.Zones()
		for i := range n {
			if size := w.answer(set, i, begin); size > 0 {
				w.batch.reply(out, i, size)
				out++
			}
		}
		w.batch.send(fd, out)
		w.tally.latency.add(time.Since(begin), uint64(out))
		if n < batchSize && w.s.closing.Load() {
			return true
		}
	}
}

// answer answers the i-th packet and returns the size of the answer; 0: there is none, or somebody else answers it.
func (w *worker) answer(set *zone.Set, i int, now time.Time) (size int) {
	out := w.plainly(set, w.batch.request(i), w.batch.answers[i][:0])
	if len(out) == 0 {
		w.s.later(w.socket, w.batch.packet(i))
		return 0
	}
	switch w.s.ration(w.batch.from(i).Addr(), w.about, now) {
	case withhold:
		return 0
	case slip:
		out = w.q.finish(w.q.reply(out[:0], bitTruncated, dns.RcodeSuccess), 0, 0, 0)
	}
	w.tally.counts.add(w.q.qtype, int(out[3]&0xf))
	return len(out)
}

// plainly answers a request without allocating, but for what is asked for the first time since it changed. Nothing: it
// is not plain.
func (w *worker) plainly(set *zone.Set, p, out []byte) []byte {
	q := &w.q
	if set == nil || !q.read(p) || refused(q.qtype) && q.qtype != dns.TypeANY || q.qtype == dns.TypeDS { // the zone above has these
		return nil
	}
	if q.qtype == dns.TypeANY {
		return w.no(out, dns.RcodeRefused)
	}
	if a := w.s.answers.find(q.key, set); a != nil {
		return w.write(a, out)
	}
	verdict, z := set.Denied(q.name(), record.Type(q.qtype))
	switch {
	case verdict == zone.Refused:
		return w.no(out, dns.RcodeRefused)
	case verdict == zone.Unsure:
		return w.no(out, dns.RcodeServerFailure)
	case verdict == zone.Answer:
		a := ready(set, q)
		if a == nil {
			return nil
		}
		w.s.answers.keep(a)
		return w.write(a, out)
	case q.do && z.Signer != nil:
		return nil
	}
	code := dns.RcodeSuccess
	if verdict == zone.NXDomain {
		code = dns.RcodeNameError
	}
	w.about = subject{z.Apex, coded(code)}
	out = w.denials.append(q.reply(out, bitAuthoritative, code), set, z, q)
	if out = q.finish(out, 0, 1, 0); len(out) > q.size {
		return nil
	}
	return out
}

// no is an answer with a code alone.
func (w *worker) no(out []byte, code int) []byte {
	w.about = subject{"", coded(code)}
	return w.q.finish(w.q.reply(out, 0, code), 0, 0, 0)
}

func (w *worker) write(a *answer, out []byte) []byte {
	w.about = subject{w.q.name(), int(w.q.qtype)}
	switch {
	case a.fits(&w.q):
		w.turn++
		return a.write(out, &w.q, w.turn)
	case a.many != nil:
		w.turn++
		return a.many.cut(out, &w.q, w.turn)
	}
	return nil
}
