package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// maxFlows of one port are carried at once; packets of more are dropped.
	maxFlows = 1024
	// flowIdle ends a conversation that is silent in both directions, as Docker's proxy does.
	flowIdle = 90 * time.Second
	// oobSize holds the control message that says where a packet came in.
	oobSize = 128
)

// flow is one client's conversation with the container.
type flow struct {
	server *net.UDPConn
	client netip.AddrPort
	oob    []byte // where the client's packets came in: its answers go out there
}

// flows of one port, by client. The map is filled by the one reader and emptied by the flows' ends.
type flows struct {
	mu sync.Mutex
	by map[netip.AddrPort]*flow
}

func (t *flows) get(client netip.AddrPort) (*flow, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.by[client], len(t.by)
}

func (t *flows) put(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.by[f.client] = f
}

func (t *flows) drop(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.by, f.client)
}

// carryUDP passes packets to the container, each client's from a socket of its own, until the socket is closed.
func (h *hold) carryUDP(ctx context.Context, conn *net.UDPConn) {
	table := &flows{by: map[netip.AddrPort]*flow{}}
	oob := make([]byte, oobSize)
	for waitReadable(conn) {
		packet(func(buf []byte) {
			n, oobn, _, client, err := conn.ReadMsgUDPAddrPort(buf, oob)
			if err != nil {
				return // an ICMP error for an answer to a client that left
			}
			if f := h.flowOf(ctx, table, conn, client, oob[:oobn]); f != nil {
				_ = f.server.SetReadDeadline(time.Now().Add(flowIdle))
				_, _ = f.server.Write(buf[:n]) // lost packets are UDP's way
			}
		})
	}
}

// flowOf is the client's flow, a new one if need be; nil when there are too many.
func (h *hold) flowOf(ctx context.Context, table *flows, conn *net.UDPConn, client netip.AddrPort, oob []byte) *flow {
	f, count := table.get(client)
	if f != nil || count >= maxFlows {
		return f
	}
	if f = h.newFlow(ctx, client, oob); f != nil {
		table.put(f)
		h.done.Go(func() {
			defer table.drop(f)
			f.answer(ctx, conn)
		})
	}
	return f
}

// waitReadable waits until a read would not block: no buffer is held for a port, or a client, that is silent. It is
// false when the socket is closed or its deadline has passed.
func waitReadable(conn *net.UDPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var one [1]byte
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK)
		return !errors.Is(err, unix.EAGAIN)
	})
	return err == nil
}

// packets are buffers for one packet each.
var packets = sync.Pool{New: func() any { return new([maxMessage]byte) }}

// packet lends a buffer.
func packet(use func(buf []byte)) {
	buf := packets.Get().(*[maxMessage]byte)
	defer packets.Put(buf)
	use(buf[:])
}

func (h *hold) newFlow(ctx context.Context, client netip.AddrPort, oob []byte) *flow {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "udp", h.target.Load().String())
	if err != nil {
		h.log.Debug("no way to the container", zap.Error(err))
		return nil
	}
	return &flow{server: conn.(*net.UDPConn), client: client, oob: append([]byte(nil), oob...)}
}

// answer passes the container's packets back until the flow is idle or the port is closed. That nobody listens in the
// container yet (an ICMP error) does not end it.
func (f *flow) answer(ctx context.Context, conn *net.UDPConn) {
	defer func() { _ = f.server.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = f.server.Close() })
	defer stop()
	client := netip.AddrPortFrom(f.client.Addr().WithZone(""), f.client.Port()) // oob says the interface, and by number
	for waitReadable(f.server) {
		packet(func(buf []byte) {
			n, err := f.server.Read(buf)
			if err != nil {
				return
			}
			_ = f.server.SetReadDeadline(time.Now().Add(flowIdle))
			_, _, _ = conn.WriteMsgUDPAddrPort(buf[:n], f.oob, client)
		})
	}
}
