package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// probeWait is ample for an echo between hosts; probeTries are for packets that are lost now and then.
	probeWait  = 500 * time.Millisecond
	probeTries = 3
	// probeSmall is a packet that every way lets pass: the smallest MTU of IPv4 (RFC 791).
	probeSmall = 68
)

// Way is how a host's packets get to another one by the fabric: in bytes, what a packet of a network may have, and what
// of that arrives and comes back. 0: nothing does.
type Way struct{ Full, Passes int }

// Probe tries the way to a host that SetHosts has named. It takes a packet each way when all is well, and some seconds when
// not. The other host's kernel answers, whether or not its daemon runs.
func (f *Fabric) Probe(ctx context.Context, host netip.Addr) (Way, error) {
	link, err := f.nl.LinkByName(f.names.hostLink())
	if err != nil {
		return Way{}, fmt.Errorf("link to the other hosts: %w", err)
	}
	conn, err := (&net.ListenConfig{Control: dontFragment}).ListenPacket(ctx, "ip4:icmp", fabricAddrs(f.cfg.Advertise)[v4].String())
	if err != nil {
		return Way{}, err
	}
	defer func() { _ = conn.Close() }()
	p := probe{conn: conn, to: &net.IPAddr{IP: fabricAddrs(host)[v4].AsSlice()}, echo: icmp.Echo{ID: rand.IntN(1 << 16)}}
	w := Way{Full: link.Attrs().MTU}
	for _, size := range []int{w.Full, probeSmall} {
		ok, err := p.passes(ctx, size, probeTries)
		if err != nil {
			return Way{}, err
		}
		if ok {
			w.Passes = size
			break
		}
	}
	if w.Passes == w.Full || w.Passes == 0 {
		return w, nil
	}
	for fails := w.Full; fails-w.Passes > 1; {
		size := (w.Passes + fails) / 2
		ok, err := p.passes(ctx, size, 1)
		if err != nil {
			return Way{}, err
		}
		if ok {
			w.Passes = size
		} else {
			fails = size
		}
	}
	return w, nil
}

// dontFragment has packets arrive whole or not at all, whatever the kernel believes of the way (ip(7), IP_MTU_DISCOVER).
func dontFragment(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	})
	return errors.Join(err, set)
}

// probe is a conversation of echoes (RFC 792) with one host.
type probe struct {
	conn net.PacketConn
	to   net.Addr
	echo icmp.Echo
}

// passes tells whether a packet of so many bytes is answered.
func (p *probe) passes(ctx context.Context, size, tries int) (bool, error) {
	for range tries {
		p.echo.Seq++
		p.echo.Data = make([]byte, size-ipv4.HeaderLen-8) // less the header of ICMP
		b, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &p.echo}).Marshal(nil)
		if err != nil {
			return false, err
		}
		_, err = p.conn.WriteTo(b, p.to)
		if errors.Is(err, unix.EMSGSIZE) {
			return false, nil
		}
		if err == nil && p.answered(len(b)) {
			return true, nil
		}
		if err != nil && !pause(ctx, probeWait) || ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	return false, nil
}

// answered waits for the answer to the last echo. Others' answers come here, too.
func (p *probe) answered(size int) bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(probeWait))
	buf := make([]byte, ipv4.HeaderLen+size+1) // the header comes first, and is taken off
	for {
		n, _, err := p.conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return false
		}
		if err != nil || n != size {
			continue
		}
		m, err := icmp.ParseMessage(ipv4.ICMPTypeEchoReply.Protocol(), buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == p.echo.ID && e.Seq == p.echo.Seq {
			return true
		}
	}
}
