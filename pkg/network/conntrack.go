package network

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// forgetUDP deletes the kernel's memory of conversations at published UDP ports. A failure is only logged: the entry
// ends by itself once the client is silent for some minutes.
func (f *Fabric) forgetUDP(ports []Published) {
	at := udpPorts{}
	for _, p := range ports {
		if p.Proto == "udp" && p.HostIP.Is4() {
			at[p.HostPort] = append(at[p.HostPort], p.HostIP)
		}
	}
	if len(at) == 0 {
		return
	}
	if err := forgetFlows(f.nl, at); err != nil {
		f.log.Warn("connection tracking entries of published ports remain", zap.Error(err))
	}
}

func forgetFlows(nl *netlink.Handle, at udpPorts) error {
	_, err := untorn(func() (uint, error) { return nl.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, at) })
	return err
}

// udpPorts are host addresses by port; they match what was first sent there.
type udpPorts map[uint16][]netip.Addr

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (u udpPorts) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	for _, addr := range u[flow.Forward.DstPort] {
		if addr.IsUnspecified() || addr == dst.Unmap() {
			return true
		}
	}
	return false
}
