package network

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// naming gives this daemon's things on the host their names. They begin with a tag of the host name, by which the
// daemon knows its own again after a restart and leaves alone what others made.
type naming struct {
	tag string // four letters or digits
}

func newNaming(h nereid.Host) naming { return naming{tag: digest(string(h), 4)} }

// digest is n characters of the hash of s, each one of a to z and 2 to 7: five bits each.
func digest(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:n]
}

// table is the nftables table of this daemon.
func (n naming) table() string { return "nereid-" + n.tag }

// bridgePrefix begins the names of all bridges of this daemon.
func (n naming) bridgePrefix() string { return "nr" + n.tag + "-" }

// bridge is the name of a network's bridge: 13 bytes of the 15 that Linux allows.
func (n naming) bridge(vni uint32) string {
	return fmt.Sprintf("%s%06x", n.bridgePrefix(), vni&0xffffff)
}

// tunnel is the name of a network's link to the other hosts.
func (n naming) tunnel(vni uint32) string {
	return fmt.Sprintf("%s%06x", n.tunnelPrefix(), vni&0xffffff)
}

func (n naming) tunnelPrefix() string { return "nx" + n.tag + "-" }

// hostLink is the name of the link by which the host's own processes reach containers of other hosts.
func (n naming) hostLink() string { return "nh" + n.tag }

// dummy is the name of the link to nowhere that a network's containers are behind.
func (n naming) dummy(vni uint32) string { return fmt.Sprintf("nd%s-%06x", n.tag, vni&0xffffff) }

// alias marks a bridge that this daemon made, whatever its name. Links with another were there before and stay.
func (n naming) alias(net *state.Network) string { return n.aliasPrefix() + string(net.ID) }

func (n naming) aliasPrefix() string { return "nereid-" + n.tag + ":" }

// vethPrefix begins the names of all veths of this daemon, on the host's side.
func (n naming) vethPrefix() string { return "nv" + n.tag }

// veth is the name of an endpoint's link on the host: 15 bytes, 45 of its bits from the endpoint.
func (n naming) veth(e nereid.EndpointID) string { return n.vethPrefix() + digest(string(e), 9) }

// BridgeName is the name of a network's bridge on a host: the one asked for, or one of ours.
func BridgeName(h nereid.Host, n *state.Network) string {
	if name := n.Options[optionBridgeName]; name != "" && !n.Predefined {
		return name
	}
	return newNaming(h).bridge(n.VNI)
}
