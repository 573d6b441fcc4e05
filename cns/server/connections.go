package server

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// bound lets a listener have no more than n connections at once, and some of these of one client's network; the next one
// is accepted when one is closed, and closed at once when its network has enough.
func bound(l net.Listener, n int, each *Limits) net.Listener {
	return &bounded{Listener: l, each: each, slots: make(chan struct{}, n), closed: make(chan struct{}), of: map[netip.Prefix]int{}}
}

type bounded struct {
	net.Listener
	each   *Limits
	slots  chan struct{} // one token per connection
	closed chan struct{} // closed by Close
	once   sync.Once

	mu sync.Mutex
	of map[netip.Prefix]int // connections of networks that are not exempt
}

func (l *bounded) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		if from, ok := l.admit(c); ok {
			return &boundConn{Conn: c, release: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = c.Close()
	}
}

// admit counts a connection; false: its network has enough.
func (l *bounded) admit(c net.Conn) (netip.Prefix, bool) {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if l.each.Connections == 0 || l.each.exempt(from) {
		return netip.Prefix{}, true
	}
	p := network(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[p] >= l.each.Connections {
		return p, false
	}
	l.of[p]++
	return p, true
}

func (l *bounded) leave(p netip.Prefix) {
	if p.IsValid() {
		l.mu.Lock()
		if l.of[p]--; l.of[p] == 0 {
			delete(l.of, p)
		}
		l.mu.Unlock()
	}
	<-l.slots
}

func (l *bounded) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundConn struct {
	net.Conn
	release func()
}

// Write gives up on a client that takes nothing, and on all it has asked: the DNS library sets no bound of its own, and
// would go on with the next question.
func (c *boundConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(tcpTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// Close may be called twice.
func (c *boundConn) Close() error {
	c.release()
	return c.Conn.Close()
}
