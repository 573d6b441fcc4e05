// Package network is one host's part of the fabric: bridges, the containers' network namespaces, published ports and
// the containers' resolver, made with netlink and nftables alone.
//
// All rules are in one nftables table of the daemon. It needs nothing of a host firewall but that this lets forwarded
// packets pass: nftables asks every table, and what one drops stays dropped whatever another accepts. A host whose own
// forward chain has the policy drop, as dockerd gives it when it was first to switch forwarding on, must accept the
// interfaces named "nr*" there; published ports still answer on the host itself, which is not forwarding. A policy of
// drop on input is no hindrance. Forwarding is switched on in the whole host, as Docker does.
package network

import (
	"net/netip"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// SandboxOptions of a container's network namespace.
type SandboxOptions struct {
	Account nereid.Account
	// Upstreams are the name servers asked for what is not ours, from within the container's namespace, as Docker
	// does with --dns; nil: the host's, asked from the host, and of a container that has no way to the world from
	// within its namespace too.
	Upstreams []netip.AddrPort
	// NdotsSet: the user or the host set the option ndots, so a name of a single label is not asked of upstreams.
	NdotsSet bool
	// LoopbackOnly: no resolver (network none).
	LoopbackOnly bool
	// IDMap is that of the user namespace that is to own the sandbox; the zero value: the host's owns it.
	IDMap nereid.IDMap
}

// Attachment is one endpoint with its network.
type Attachment struct {
	Network  *state.Network
	Endpoint *state.Endpoint
}

// Published is one host port open for a container.
type Published struct {
	Proto         string
	HostIP        netip.Addr
	HostPort      uint16 // 0: none; the container's port is reached at its own address
	ContainerAddr netip.Addr
	ContainerPort uint16
}

// Restored says what a container that survived must have.
type Restored struct {
	ID          nereid.ContainerID
	Options     SandboxOptions
	Attachments []Attachment
	Ports       []Published
}
