package server

import (
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many packets one system call takes or sends: more than are waiting unless we are behind.
	batchSize = 64
	// requestSize is the largest request over UDP; what is longer is cut, and then malformed.
	requestSize = udpSize
	// controlSize has room for the destination address of a packet, as the kernel tells and takes it.
	controlSize = 64
)

// message is the kernel's struct mmsghdr.
type message struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

// batch is packets received and the answers to them, at the same index. One goroutine uses it.
type batch struct {
	in, out    [batchSize]message
	inVec      [batchSize]unix.Iovec
	outVec     [batchSize]unix.Iovec
	addr       [batchSize]unix.RawSockaddrInet6 // either family's
	control    [batchSize][controlSize]byte
	requests   [batchSize][requestSize]byte
	answers    [batchSize][udpSize]byte
	controlled bool // the kernel tells destination addresses
}

func newBatch(controlled bool) *batch {
	b := &batch{controlled: controlled}
	for i := range b.in {
		b.inVec[i] = unix.Iovec{Base: &b.requests[i][0], Len: requestSize}
		b.in[i].Iov, b.in[i].Iovlen = &b.inVec[i], 1
		b.in[i].Name = (*byte)(unsafe.Pointer(&b.addr[i]))
		if controlled {
			b.in[i].Control = &b.control[i][0]
		}
		b.out[i].Iovlen = 1
	}
	return b
}

// receive takes what is waiting; unix.EAGAIN: nothing is.
func (b *batch) receive(fd uintptr) (int, error) {
	for i := range b.in {
		b.in[i].Namelen = unix.SizeofSockaddrInet6
		if b.controlled {
			b.in[i].Controllen = controlSize
		}
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// request is the i-th packet; nil: it was longer than requests are.
func (b *batch) request(i int) []byte {
	return b.requests[i][:min(int(b.in[i].n), requestSize)]
}

// reply makes an answer the n-th to be sent, to where the i-th packet came from. The answer lies in b.answers[i].
func (b *batch) reply(n, i, size int) {
	b.outVec[n] = unix.Iovec{Base: &b.answers[i][0], Len: uint64(size)}
	m := &b.out[n]
	m.Iov = &b.outVec[n]
	m.Name, m.Namelen = b.in[i].Name, b.in[i].Namelen
	if b.controlled {
		m.Control, m.Controllen = b.in[i].Control, b.in[i].Controllen
		anyInterface(b.control[i][:m.Controllen])
	}
}

// anyInterface lets the kernel choose the way back: the same address, but not necessarily the same interface.
func anyInterface(control []byte) {
	const header = unix.SizeofCmsghdr
	if len(control) < header {
		return
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(control) >= header+unix.SizeofInet4Pktinfo:
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&control[header])).Ifindex = 0
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(control) >= header+unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&control[header]))
		if info.Addr[0] != 0xfe || info.Addr[1]&0xc0 != 0x80 { // link-local addresses mean nothing without
			info.Ifindex = 0
		}
	}
}

// send sends the first n answers. One that cannot be sent is lost, as packets are; so are all that the kernel has no room
// for.
func (b *batch) send(fd uintptr, n int) {
	for sent := 0; sent < n; {
		m, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.out[sent])), uintptr(n-sent), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno == unix.EINTR:
		case errno != 0:
			sent++
		default:
			sent += int(m)
		}
	}
}

// from is where the i-th packet came from.
func (b *batch) from(i int) netip.AddrPort {
	a := &b.addr[i]
	port := a.Port>>8 | a.Port<<8 // as it is in memory: big-endian
	if a.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	}
	ip := netip.AddrFrom16(a.Addr)
	if a.Scope_id != 0 && !ip.Is4In6() {
		ip = ip.WithZone(zoneName(a.Scope_id))
	}
	return netip.AddrPortFrom(ip.Unmap(), port)
}

func zoneName(index uint32) string {
	if ifi, err := net.InterfaceByIndex(int(index)); err == nil {
		return ifi.Name
	}
	return ""
}

// packet copies the i-th packet for who answers it later.
func (b *batch) packet(i int) packet {
	p := packet{from: b.from(i), addr: b.addr[i], addrLen: b.in[i].Namelen, data: append([]byte(nil), b.request(i)...)}
	if b.controlled {
		p.control = append([]byte(nil), b.control[i][:b.in[i].Controllen]...)
		anyInterface(p.control)
	}
	return p
}

// packet is one received, to be answered.
type packet struct {
	from    netip.AddrPort
	data    []byte
	addr    unix.RawSockaddrInet6 // of either family
	addrLen uint32
	control []byte
}

// answer sends octets back to where the packet came from.
func (p *packet) answer(fd uintptr, data []byte) error {
	h := unix.Msghdr{Name: (*byte)(unsafe.Pointer(&p.addr)), Namelen: p.addrLen, Iov: &unix.Iovec{Base: &data[0], Len: uint64(len(data))}, Iovlen: 1}
	if len(p.control) > 0 {
		h.Control, h.Controllen = &p.control[0], uint64(len(p.control))
	}
	if _, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h)), unix.MSG_DONTWAIT); errno != 0 {
		return os.NewSyscallError("sendmsg", errno)
	}
	return nil
}
