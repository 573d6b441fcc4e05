package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// protocols that can be published, by the number the kernel has for them.
var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// String is the port as Docker writes it in its messages: "0.0.0.0:8080:172.17.0.2:80/tcp".
func (p Published) String() string {
	return netip.AddrPortFrom(p.HostIP, p.HostPort).String() + ":" +
		netip.AddrPortFrom(p.ContainerAddr, p.ContainerPort).String() + "/" + p.Proto
}

func (p Published) validate() error {
	_, known := protocols[p.Proto]
	if !known || !p.HostIP.IsValid() || !p.ContainerAddr.IsValid() || p.ContainerPort == 0 {
		return fmt.Errorf("published port %s: %w", p, errdefs.ErrInvalidArgument)
	}
	return nil
}

// direct tells whether the port is reached at the container's own address: nothing is translated, and nothing held.
func (p Published) direct() bool { return p.HostPort == 0 }

// key is the port as the rules have it; only what stays in its family is the kernel's to carry. The rest goes through
// the listener that holds the port.
func (p Published) key() (portKey, bool) {
	if p.direct() {
		return portKey{proto: protocols[p.Proto], addr: p.ContainerAddr, to: p.ContainerPort}, true
	}
	return portKey{proto: protocols[p.Proto], addr: p.HostIP, port: p.HostPort}, p.HostIP.Is4() == p.ContainerAddr.Is4()
}

func (p Published) target() netip.AddrPort {
	return netip.AddrPortFrom(p.ContainerAddr, p.ContainerPort)
}

// socket is what a published port takes of the host.
type socket struct {
	proto string
	at    netip.AddrPort
	to    netip.AddrPort // of one that takes nothing
}

func (p Published) socket() socket {
	if p.direct() {
		return socket{proto: p.Proto, to: p.target()}
	}
	return socket{proto: p.Proto, at: netip.AddrPortFrom(p.HostIP, p.HostPort)}
}

// Publish makes the container's open ports those given: it holds each with a socket, so that no other process takes
// it, and opens them in one nftables batch. One that only leads elsewhere now keeps its socket. A port that another
// process holds is an error of class errdefs.ErrUnavailable with Docker's words, and nothing is changed.
func (f *Fabric) Publish(_ context.Context, id nereid.ContainerID, ports []Published) (retErr error) {
	sb, err := f.sandbox(id)
	if err != nil {
		return err
	}
	defer sb.mu.Unlock()
	want, opened := map[socket]Published{}, []Published(nil)
	for _, p := range ports {
		if err := p.validate(); err != nil {
			return err
		}
		if _, have := sb.ports[p]; !have && want[p.socket()] != p {
			opened = append(opened, p)
		}
		want[p.socket()] = p
	}
	var closed []Published
	held := map[socket]*hold{}
	for p, h := range sb.ports {
		if want[p.socket()] != p {
			closed = append(closed, p)
			held[p.socket()] = h
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(opened), func(p Published) bool { return held[p.socket()] != nil })
	holds, err := f.holdAll(fresh)
	if err != nil {
		return err
	}
	if err := f.openPorts(closed, opened); err != nil {
		closeAll(holds)
		return fmt.Errorf("publish ports of container %q: %w", id.Short(), err)
	}
	for i, p := range fresh {
		held[p.socket()] = holds[i]
	}
	sb.move(closed, opened, held)
	return nil
}

// move enters what has been closed and opened, and lets go of sockets that are not used any more. The caller holds the
// sandbox's lock.
func (sb *sandbox) move(closed, opened []Published, held map[socket]*hold) {
	for _, p := range closed {
		delete(sb.ports, p)
	}
	for _, p := range opened {
		h := held[p.socket()]
		h.lead(p.target())
		sb.ports[p] = h
		delete(held, p.socket())
	}
	for _, h := range held {
		h.close()
	}
}

// holdAll binds all the ports or none.
func (f *Fabric) holdAll(ports []Published) ([]*hold, error) {
	var holds []*hold
	for _, p := range ports {
		h, err := f.hold(p)
		if err != nil {
			closeAll(holds)
			return nil, err
		}
		holds = append(holds, h)
	}
	return holds, nil
}

func closeAll(holds []*hold) {
	for _, h := range holds {
		h.close()
	}
}

// openPorts has the rules lose some ports and gain others, and then the kernel forget what it remembered of UDP
// conversations on either: they never end by themselves, and keep their old way.
func (f *Fabric) openPorts(closed, opened []Published) error {
	var stale []portKey
	fresh := map[portKey]netip.AddrPort{}
	for _, p := range closed {
		if k, ok := p.key(); ok {
			stale = append(stale, k)
		}
	}
	for _, p := range opened {
		if k, ok := p.key(); ok {
			fresh[k] = p.target()
		}
	}
	if len(stale) == 0 && len(fresh) == 0 {
		return nil
	}
	if err := f.fw.setPorts(stale, fresh); err != nil {
		return err
	}
	f.forgetUDP(nil, opened)
	if udp := onlyUDP(closed); len(udp) > 0 {
		f.leaving.forget(udp)
	}
	return nil
}

// open tells whether a port leads where it says.
func (f *Fabric) open(p Published) bool {
	k, ok := p.key()
	return ok && f.fw.leads(k) == p.target()
}

func onlyUDP(ports []Published) []Published {
	return slices.DeleteFunc(slices.Clone(ports), func(p Published) bool { return p.Proto != "udp" })
}

// published ports of the sandbox. The caller holds its lock.
func (sb *sandbox) published() []Published {
	list := make([]Published, 0, len(sb.ports))
	for p := range sb.ports {
		list = append(list, p)
	}
	return list
}

// unpublish closes ports. The caller holds the sandbox's lock.
func (f *Fabric) unpublish(sb *sandbox, ports []Published) error {
	if err := f.openPorts(ports, nil); err != nil {
		return fmt.Errorf("close ports of container %q: %w", sb.id.Short(), err)
	}
	for _, p := range ports {
		sb.ports[p].close()
		delete(sb.ports, p)
	}
	return nil
}

// PortFree tells whether a process could bind the port now. It is a hint: who needs the port publishes it.
func (f *Fabric) PortFree(proto string, addr netip.Addr, port uint16) bool {
	l, err := bindPort(proto, netip.AddrPortFrom(addr, port))
	if err != nil {
		return !errors.Is(err, unix.EADDRINUSE)
	}
	if l != nil {
		_ = l.Close()
	}
	return true
}

// hold binds a port and begins to carry what comes there.
func (f *Fabric) hold(p Published) (*hold, error) {
	if p.direct() {
		return newHold(p, nil, f.log), nil
	}
	f.mesh.evict(p)
	socket, err := bindPort(p.Proto, netip.AddrPortFrom(p.HostIP, p.HostPort))
	if err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) {
			err = errno // the words of the error alone, as in Docker's message
		}
		return nil, fmt.Errorf("failed to bind host port for %s: %w", p, bindError{err})
	}
	return newHold(p, socket, f.log.With(zap.Stringer("port", p))), nil
}

// bindError is unavailable to errdefs and reads as what it wraps.
type bindError struct{ error }

func (e bindError) Unwrap() []error { return []error{e.error, errdefs.ErrUnavailable} }
