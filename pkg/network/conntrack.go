package network

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// forgetUDP deletes the kernel's memory of conversations at published UDP ports that would keep their old way: those
// with who had a closed port, and those with anybody but who has an opened one. Others stay: an answer that is on its
// way finds its client by that memory alone. A failure is only logged: the entry ends by itself once the client is
// silent for some minutes.
func (f *Fabric) forgetUDP(closed, opened []Published) {
	stale := staleFlows{}
	stale.add(closed, true)
	stale.add(opened, false)
	if len(stale) == 0 {
		return
	}
	// One at a time: of two that have found an entry the first deletes it, the kernel gives its place and number to the
	// client's next conversation, and the second deletes that.
	f.forgetting.Lock()
	defer f.forgetting.Unlock()
	if err := forgetFlows(f.nl, stale); err != nil {
		f.log.Warn("connection tracking entries of published ports remain", zap.Error(err))
	}
}

func forgetFlows(nl *netlink.Handle, stale staleFlows) error {
	_, err := untorn(func() (uint, error) { return nl.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, stale) })
	return err
}

// staleFlows are conversations over UDP to forget, by the port that they were first sent to.
type staleFlows map[uint16][]staleFlow

// staleFlow is what was sent to a host address and led to a target, or to another one than that.
type staleFlow struct {
	at     netip.Addr // unspecified: any
	target netip.AddrPort
	leads  bool
}

func (s staleFlows) add(ports []Published, leads bool) {
	for _, p := range ports {
		if p.Proto == "udp" && p.HostIP.Is4() {
			s[p.HostPort] = append(s[p.HostPort], staleFlow{p.HostIP, p.target(), leads})
		}
	}
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	at, to := addrOf(flow.Forward.DstIP), netip.AddrPortFrom(addrOf(flow.Reverse.SrcIP), flow.Reverse.SrcPort)
	for _, f := range s[flow.Forward.DstPort] {
		if (f.at.IsUnspecified() || f.at == at) && (f.target == to) == f.leads {
			return true
		}
	}
	return false
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
