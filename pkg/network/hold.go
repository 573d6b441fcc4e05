package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// hold is a host port kept from other processes by a socket of ours. The kernel carries IPv4 past it; what does reach
// it, from IPv6 above all, it carries itself.
type hold struct {
	target atomic.Pointer[netip.AddrPort] // where it leads now
	log    *zap.Logger
	socket io.Closer // nil: the kernel does not know the protocol, so nobody can take the port
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// newHold owns the socket from here on.
func newHold(p Published, socket io.Closer, log *zap.Logger) *hold {
	ctx, cancel := context.WithCancel(context.Background())
	h := &hold{log: log, socket: socket, cancel: cancel}
	h.lead(p.target())
	switch s := socket.(type) {
	case *net.TCPListener:
		h.done.Go(func() { h.carryTCP(ctx, s) })
	case *net.UDPConn:
		h.done.Go(func() { h.carryUDP(ctx, s) })
	}
	return h
}

// lead sends what begins from now on to another address.
func (h *hold) lead(to netip.AddrPort) { h.target.Store(&to) }

// close lets go of the port and ends what is carried.
func (h *hold) close() {
	h.cancel()
	if h.socket != nil {
		_ = h.socket.Close()
	}
	h.done.Wait()
}

// bindPort binds a socket and, where the protocol has connections, listens. One of IPv6 is of IPv6 alone. It returns
// nil for SCTP on a kernel without it.
func bindPort(proto string, at netip.AddrPort) (io.Closer, error) {
	lc := net.ListenConfig{Control: setPacketInfo}
	family := "4"
	if at.Addr().Is6() {
		family = "6"
	}
	switch proto {
	case "tcp":
		return lc.Listen(context.Background(), proto+family, at.String())
	case "udp":
		return lc.ListenPacket(context.Background(), proto+family, at.String())
	default:
		return bindSCTP(at)
	}
}

// setPacketInfo has UDP sockets tell to which of the host's addresses a packet came, which must be the answer's source.
func setPacketInfo(network, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		switch network {
		case "udp4":
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		case "udp6":
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	return errors.Join(controlErr, err)
}

// bindSCTP holds an SCTP port. Nothing is accepted there: what the kernel does not carry is not carried.
func bindSCTP(at netip.AddrPort) (io.Closer, error) {
	family := unix.AF_INET
	var sa unix.Sockaddr
	if at.Addr().Is6() {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	socket := os.NewFile(uintptr(fd), "sctp")
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		_ = socket.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	return socket, nil
}
