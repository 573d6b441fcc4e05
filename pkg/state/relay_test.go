package state_test

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
)

// relay is the wire between a store and an etcd: a unix socket passed on to another, which can be cut and mended.
type relay struct {
	path, to string

	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    []net.Conn
	wg       sync.WaitGroup
}

func (r *relay) mend(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", r.path)
	assert.NilError(t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener = l
	r.wg.Go(func() { r.accept(l) })
}

// cut breaks all connections and has new ones refused.
func (r *relay) cut() {
	r.mu.Lock()
	if r.listener != nil {
		_ = r.listener.Close()
		r.listener = nil
	}
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.wg.Wait()
	_ = os.Remove(r.path)
}

func (r *relay) accept(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("unix", r.to)
		if err != nil || !r.keep(l, in, out) {
			_ = in.Close()
			continue
		}
		r.wg.Go(func() { pass(in, out) })
		r.wg.Go(func() { pass(out, in) })
	}
}

// keep notes connections to be cut, unless the wire was cut meanwhile.
func (r *relay) keep(l net.Listener, conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != l {
		_ = conns[1].Close()
		return false
	}
	r.conns = append(r.conns, conns...)
	return true
}

func pass(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = from.Close()
	_ = to.Close()
}
