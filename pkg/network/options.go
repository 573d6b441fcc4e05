package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Docker's options of networks on a bridge.
const (
	optionMTU         = "com.docker.network.driver.mtu"
	optionBridgeName  = "com.docker.network.bridge.name"
	optionICC         = "com.docker.network.bridge.enable_icc"
	optionMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optionHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	optionDefault     = "com.docker.network.bridge.default_bridge"
	optionInhibit     = "com.docker.network.bridge.inhibit_ipv4"
	optionGateway4    = "com.docker.network.bridge.gateway_mode_ipv4"
	optionGateway6    = "com.docker.network.bridge.gateway_mode_ipv6"
	optionTrusted     = "com.docker.network.bridge.trusted_host_interfaces"
	optionHost4       = "com.docker.network.host_ipv4"
	optionHost6       = "com.docker.network.host_ipv6"
	optionPrefix      = "com.docker.network.container_iface_prefix"
	// OptionIPv4 and OptionIPv6 switch a family on or off, beside the request's own fields for it.
	OptionIPv4 = "com.docker.network.enable_ipv4"
	OptionIPv6 = "com.docker.network.enable_ipv6"
)

// GatewayMode is how a network and the world reach each other in one family, in Docker's words.
type GatewayMode string

// The gateway modes.
const (
	GatewayNAT      GatewayMode = "nat"             // sources become the host's; published ports are translated
	GatewayOpen     GatewayMode = "nat-unprotected" // and all other ports are reached directly
	GatewayRouted   GatewayMode = "routed"          // nothing is translated; published ports are reached directly
	GatewayIsolated GatewayMode = "isolated"        // of internal networks: the bridge has no address
)

// Options are what a network's driver options mean.
type Options struct {
	Bridge      string // empty: a name of ours
	MTU         int
	ICC         bool // its containers reach each other
	Masquerade  bool
	HostBinding netip.Addr // where published ports answer when the user says no address; invalid: everywhere
	NoAddress4  bool       // the bridge has no IPv4 address: the gateway is someone else's
	Gateway4    GatewayMode
	Gateway6    GatewayMode
	Trusted     []string   // interfaces of the host from which all is let in
	Source4     netip.Addr // what the sources become; invalid: an address of the outgoing interface
	Source6     netip.Addr
	LinkPrefix  string // of the interfaces in containers
}

func defaultOptions() Options {
	return Options{
		MTU: defaultMTU, ICC: true, Masquerade: true, Gateway4: GatewayNAT, Gateway6: GatewayNAT, LinkPrefix: "eth",
	}
}

// ParseOptions reads a bridge network's options. Unknown ones are returned by name, sorted: they are nobody's to honour.
// Errors are errdefs.ErrInvalidArgument with Docker's words.
func ParseOptions(options map[string]string) (o Options, unknown []string, err error) {
	o = defaultOptions()
	for name, value := range options {
		known, err := o.set(name, value)
		if err != nil {
			return o, nil, invalid("failed to parse %s value: %v (%s)", name, value, err)
		}
		if !known {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	if o.MTU < 0 {
		return o, nil, invalid("invalid MTU number: %d", o.MTU)
	}
	if o.MTU == 0 {
		o.MTU = defaultMTU
	}
	return o, unknown, nil
}

// set takes one option; false when there is none of the name.
func (o *Options) set(name, value string) (known bool, err error) {
	switch name {
	case optionBridgeName:
		o.Bridge, err = value, checkLinkName(value)
	case optionMTU:
		o.MTU, err = strconv.Atoi(value)
	case optionICC:
		o.ICC, err = strconv.ParseBool(value)
	case optionMasquerade:
		o.Masquerade, err = strconv.ParseBool(value)
	case optionInhibit:
		o.NoAddress4, err = strconv.ParseBool(value)
	case optionDefault, OptionIPv4, OptionIPv6:
		_, err = strconv.ParseBool(value)
	case optionHostBinding:
		o.HostBinding, err = parseOptionAddr(value)
	case optionHost4:
		o.Source4, err = parseOptionAddr(value)
	case optionHost6:
		o.Source6, err = parseOptionAddr(value)
	case optionGateway4:
		o.Gateway4, err = parseGatewayMode(value)
	case optionGateway6:
		o.Gateway6, err = parseGatewayMode(value)
	case optionTrusted:
		o.Trusted = strings.FieldsFunc(value, func(r rune) bool { return r == ':' })
	case optionPrefix:
		o.LinkPrefix, err = value, checkLinkName(value+"0")
	default:
		return false, nil
	}
	return true, err
}

func parseOptionAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("nil ip")
	}
	return a.Unmap(), nil
}

func parseGatewayMode(s string) (GatewayMode, error) {
	switch m := GatewayMode(s); m {
	case GatewayNAT, GatewayOpen, GatewayRouted, GatewayIsolated:
		return m, nil
	}
	return GatewayNAT, fmt.Errorf("unknown gateway mode %s", s)
}

// checkLinkName refuses what Linux does not take for the name of a link.
func checkLinkName(s string) error {
	if s == "" || s == "." || s == ".." || len(s) > 15 || strings.ContainsAny(s, "/: \t\n") {
		return fmt.Errorf("invalid interface name")
	}
	return nil
}

// optionsOf reads the options of a stored network, which were checked when it was made.
func optionsOf(n *state.Network) Options {
	o, _, err := ParseOptions(n.Options)
	if err != nil {
		o = defaultOptions()
	}
	if n.Predefined {
		o.Bridge = ""
	}
	return o
}

// noAddress tells whether the bridge is to have no address of a family.
func (o Options) noAddress(six bool) bool {
	return o.mode(six) == GatewayIsolated || !six && o.NoAddress4
}

// NoGateway tells whether nobody has use for a gateway of a family: the bridge has no address, and containers get no
// default route.
func NoGateway(n *state.Network, six bool) bool { return n.Internal && optionsOf(n).noAddress(six) }

// mode of the gateway in a family.
func (o Options) mode(six bool) GatewayMode {
	if six {
		return o.Gateway6
	}
	return o.Gateway4
}

// LinkPrefix begins the names of interfaces that containers have on a network.
func LinkPrefix(n *state.Network) string { return optionsOf(n).LinkPrefix }

// CheckInterface refuses what cannot be the name of a container's interface.
func CheckInterface(name string) error {
	if err := checkLinkName(name); err != nil {
		return invalid("invalid interface name %q", name)
	}
	return nil
}

// Routed tells whether a network's published ports are reached at the containers' own addresses, in one family.
func Routed(n *state.Network, six bool) bool { return optionsOf(n).mode(six) == GatewayRouted }

// HostBinding is where a port of a network answers when the user says no address; false: everywhere.
func HostBinding(n *state.Network) (netip.Addr, bool) {
	a := optionsOf(n).HostBinding
	return a, a.IsValid() && !a.IsUnspecified()
}
