package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"path/filepath"

	"github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Settings is what inspect shows of a container's networks. The caller owns the result.
func (n *Networks) Settings(r *state.Container) *container.NetworkSettings {
	s := &container.NetworkSettings{Networks: map[string]*networktypes.EndpointSettings{}}
	s.Ports = nat.PortMap{}
	for name, ep := range r.Networks {
		e := summarySettings(ep)
		e.Links, e.Aliases, e.DriverOpts, e.DNSNames = ep.Links, ep.Aliases, ep.DriverOpts, ep.DNSNames
		if e.MacAddress == "" {
			e.MacAddress = ep.WantMAC
		}
		s.Networks[name] = e
	}
	if !r.State.Running() || netModeOf(r) == sharedNetns {
		return s
	}
	s.SandboxID, s.SandboxKey = n.sandboxKey(r)
	if !n.wayOf(r.Account, r.Networks).none() {
		s.Ports = portMap(r)
	}
	if e, ok := s.Networks[networktypes.NetworkBridge]; ok {
		s.DefaultNetworkSettings = container.DefaultNetworkSettings{
			EndpointID: e.EndpointID, Gateway: e.Gateway, GlobalIPv6Address: e.GlobalIPv6Address,
			GlobalIPv6PrefixLen: e.GlobalIPv6PrefixLen, IPAddress: e.IPAddress, IPPrefixLen: e.IPPrefixLen,
			IPv6Gateway: e.IPv6Gateway, MacAddress: e.MacAddress,
		}
	}
	return s
}

// sandboxKey names a running container's network namespace: its id is new with every start, as Docker's.
func (n *Networks) sandboxKey(r *state.Container) (id, key string) {
	sum := sha256.Sum256([]byte(string(r.ID) + r.State.StartedAt.String()))
	key = filepath.Join(n.ExecRoot, "netns", string(r.ID))
	if netModeOf(r) == hostNetns {
		key = filepath.Join(n.ExecRoot, "netns", "default")
	}
	return hex.EncodeToString(sum[:]), key
}

// SummarySettings is what ps shows of a container's networks. The caller owns the result.
func (n *Networks) SummarySettings(r *state.Container) *container.NetworkSettingsSummary {
	s := &container.NetworkSettingsSummary{Networks: map[string]*networktypes.EndpointSettings{}}
	for name, ep := range r.Networks {
		s.Networks[name] = summarySettings(ep)
	}
	return s
}

func summarySettings(ep *state.Endpoint) *networktypes.EndpointSettings {
	e := &networktypes.EndpointSettings{
		MacAddress: ep.MAC, GwPriority: ep.GwPriority, NetworkID: string(ep.Network), EndpointID: string(ep.ID),
		Gateway: addrText(ep.Gateway), IPv6Gateway: addrText(ep.Gateway6),
	}
	if ep.Address.IsValid() {
		e.IPAddress, e.IPPrefixLen = ep.Address.Addr().String(), ep.Address.Bits()
	}
	if ep.Address6.IsValid() {
		e.GlobalIPv6Address, e.GlobalIPv6PrefixLen = ep.Address6.Addr().String(), ep.Address6.Bits()
	}
	if ep.WantAddress.IsValid() || ep.WantAddress6.IsValid() || len(ep.LinkLocal) > 0 {
		e.IPAMConfig = &networktypes.EndpointIPAMConfig{
			IPv4Address: addrText(ep.WantAddress), IPv6Address: addrText(ep.WantAddress6),
		}
		for _, l := range ep.LinkLocal {
			e.IPAMConfig.LinkLocalIPs = append(e.IPAMConfig.LinkLocalIPs, l.String())
		}
	}
	return e
}

// addrText is an address as the API has it: none is empty.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// prefixText is an address with its subnet's length as the API has it: none is empty.
func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}
