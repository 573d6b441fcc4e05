package gossip

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// network is one in memory: packets get lost, by chance and where nobody makes room for them, and links are cut.
type network struct {
	loss float64

	mu    sync.Mutex
	wires map[string]*wire // by address
	side  map[string]int   // of a partition, by address
	made  int
}

// wire is one host's end of it.
type wire struct {
	net     *network
	addr    string
	packets chan *memberlist.Packet
	streams chan net.Conn
}

var _ memberlist.NodeAwareTransport = (*wire)(nil)

type wireAddr string

func (wireAddr) Network() string  { return "memory" }
func (a wireAddr) String() string { return string(a) }

func (n *network) wire() *wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made++
	w := &wire{net: n, addr: fmt.Sprintf("127.0.0.1:%d", n.made), packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn, 16)}
	n.wires[w.addr] = w
	return w
}

func (w *wire) to(addr string) *wire {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	return w.toLocked(addr)
}

// toLocked is the other end, nil where there is none or the link is cut.
func (w *wire) toLocked(addr string) *wire {
	if w.net.side[w.addr] != w.net.side[addr] {
		return nil
	}
	return w.net.wires[addr]
}

// part puts addresses on another side of the network than the rest; none mends it.
func (n *network) part(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.side)
	for _, a := range addrs {
		n.side[a] = 1
	}
}

func (w *wire) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	host, port, err := split(w.addr)
	return net.ParseIP(host), port, err
}

func (w *wire) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	if dest := w.to(addr); dest != nil && rand.Float64() >= w.net.loss {
		select {
		case dest.packets <- &memberlist.Packet{Buf: slices.Clone(b), From: wireAddr(w.addr), Timestamp: now}:
		default:
		}
	}
	return now, nil
}

func (w *wire) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return w.WriteTo(b, a.Addr)
}

func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }

func (w *wire) IngestPacket(net.Conn, net.Addr, time.Time, bool) error { return errors.ErrUnsupported }

func (w *wire) DialTimeout(addr string, _ time.Duration) (net.Conn, error) {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	dest := w.toLocked(addr)
	if dest == nil {
		return nil, errors.New("no route to host")
	}
	ours, theirs := net.Pipe()
	select {
	case dest.streams <- theirs:
		return ours, nil
	default:
		return nil, errors.New("connection refused")
	}
}

func (w *wire) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	return w.DialTimeout(a.Addr, d)
}

func (w *wire) StreamCh() <-chan net.Conn { return w.streams }

func (w *wire) IngestStream(net.Conn) error { return errors.ErrUnsupported }

// Shutdown takes the wire from the network and hangs up on who waits to be heard.
func (w *wire) Shutdown() error {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	delete(w.net.wires, w.addr)
	for {
		select {
		case c := <-w.streams:
			_ = c.Close()
		default:
			return nil
		}
	}
}
