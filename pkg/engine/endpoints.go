package engine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Endpoints are the attachments of a new container: those of the networking configuration, or the one of its network
// mode. Addresses follow when it starts, and so may networks that are not there yet. Errors are
// errdefs.ErrInvalidArgument with Docker's words.
func (n *Networks) Endpoints(r *state.Container, cfg *networktypes.NetworkingConfig) (map[string]*state.Endpoint, error) {
	list := map[string]*state.Endpoint{}
	if err := n.checkEndpoints(r, cfg); err != nil {
		return nil, err
	}
	if r.HostConfig.NetworkMode.IsContainer() || r.Config.NetworkDisabled {
		return list, nil
	}
	main := n.mainNetwork(r)
	configs := map[string]*networktypes.EndpointSettings{}
	if cfg != nil {
		for ref, c := range cfg.EndpointsConfig {
			configs[n.networkName(r, ref)] = c
		}
	}
	if len(configs) == 0 {
		configs[main] = &networktypes.EndpointSettings{}
	}
	// The one of the network mode first, then by name: it becomes eth0.
	names := slices.SortedFunc(maps.Keys(configs), func(a, b string) int {
		return cmp.Or(cmp.Compare(btoi(b == main), btoi(a == main)), cmp.Compare(a, b))
	})
	for i, ref := range names {
		name, ep := n.newEndpoint(r, ref, configs[ref])
		ep.Order = i
		if ep.WantMAC == "" && ref == main {
			ep.WantMAC = r.Config.MacAddress
		}
		list[name] = ep
	}
	return list, nil
}

// mainNetwork is the one that the network mode names. Part of an id in its place becomes the whole.
func (n *Networks) mainNetwork(r *state.Container) string {
	mode := r.HostConfig.NetworkMode
	if mode.IsUserDefined() {
		if record, err := n.State.View().FindNetwork(r.Account, string(mode)); err == nil && string(mode) != record.Name {
			r.HostConfig.NetworkMode = container.NetworkMode(record.ID)
		}
	}
	return n.networkName(r, mode.NetworkName())
}

// networkName is the name of a network that the user wrote as a name or an id; one that is not there is taken as it is.
func (n *Networks) networkName(r *state.Container, ref string) string {
	if ref == "" || ref == networktypes.NetworkDefault {
		return networktypes.NetworkBridge
	}
	if record, err := n.State.View().FindNetwork(r.Account, ref); err == nil {
		return record.Name
	}
	return ref
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// newEndpoint is an attachment to a network that the user named by name or id.
func (n *Networks) newEndpoint(r *state.Container, ref string, cfg *networktypes.EndpointSettings) (string, *state.Endpoint) {
	name := ref
	ep := &state.Endpoint{
		Aliases: slices.Clone(cfg.Aliases), Links: slices.Clone(cfg.Links), DriverOpts: maps.Clone(cfg.DriverOpts),
		WantMAC: cfg.MacAddress, GwPriority: cfg.GwPriority,
	}
	if record, err := n.State.View().FindNetwork(r.Account, ref); err == nil {
		name, ep.Network = record.Name, record.ID
	}
	if ipam := cfg.IPAMConfig; ipam != nil { // checked before
		ep.WantAddress, _ = netip.ParseAddr(ipam.IPv4Address)
		ep.WantAddress6, _ = netip.ParseAddr(ipam.IPv6Address)
		for _, l := range ipam.LinkLocalIPs {
			if a, err := netip.ParseAddr(l); err == nil {
				ep.LinkLocal = append(ep.LinkLocal, a)
			}
		}
	}
	return name, ep
}

// checkEndpoints refuses what cannot be, all of it at once.
func (n *Networks) checkEndpoints(r *state.Container, cfg *networktypes.NetworkingConfig) error {
	if cfg == nil {
		return nil
	}
	var errs []error
	for _, ref := range slices.Sorted(maps.Keys(cfg.EndpointsConfig)) {
		ep := cfg.EndpointsConfig[ref]
		if ep == nil {
			errs = append(errs, fmt.Errorf("invalid config for network %s: EndpointsConfig is nil", ref))
			continue
		}
		record, _ := n.State.View().FindNetwork(r.Account, ref)
		if err := checkEndpoint(record, ref, ep); err != nil {
			errs = append(errs, fmt.Errorf("invalid config for network %s: %w", ref, err))
		}
	}
	return invalidArgument(bullets(errs))
}

// checkEndpoint checks the settings of one endpoint; the network may be nil.
func checkEndpoint(record *state.Network, ref string, ep *networktypes.EndpointSettings) error {
	ipam := ep.IPAMConfig
	if ipam == nil {
		ipam = &networktypes.EndpointIPAMConfig{}
	}
	var errs []error
	if record != nil {
		ref = record.Name
	}
	if !isUserDefined(ref) {
		if ipam.IPv4Address != "" || ipam.IPv6Address != "" {
			errs = append(errs, errors.New("user specified IP address is supported on user defined networks only"))
		}
		if len(ep.Aliases) > 0 {
			errs = append(errs, errors.New("network-scoped alias is supported only for containers in user defined networks"))
		}
	}
	errs = append(errs, parts(ipam.Validate())...)
	if record != nil && isUserDefined(ref) {
		errs = append(errs, parts(ipam.IsInRange(subnetsOf(record, false), subnetsOf(record, true)))...)
	}
	if ep.MacAddress != "" {
		if _, err := net.ParseMAC(ep.MacAddress); err != nil {
			return fmt.Errorf("invalid MAC address %s", ep.MacAddress)
		}
	}
	if err := network.CheckSysctls(ep.DriverOpts); err != nil {
		errs = append(errs, err)
	}
	if name := ep.DriverOpts[optionInterface]; name != "" {
		if err := network.CheckInterface(name); err != nil {
			errs = append(errs, err)
		}
	}
	if err := bullets(errs); err != nil {
		return fmt.Errorf("invalid endpoint settings:\n%w", err)
	}
	return nil
}

// parts takes a joined error apart.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// bullets joins errors as Docker does: one stands alone, several become a list.
func bullets(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errors.New(strings.TrimSpace(errs[0].Error()))
	}
	lines := make([]string, len(errs))
	for i, err := range errs {
		lines[i] = "* " + strings.ReplaceAll(err.Error(), "\n", "\n\t")
	}
	return errors.New(strings.Join(lines, "\n"))
}

// ownSubnet is a subnet as the API's checks see it.
type ownSubnet struct{ state.Subnet }

// Contains implements networktypes.NetworkSubnet.
func (s ownSubnet) Contains(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	return ok && s.Prefix.Contains(a.Unmap())
}

// IsStatic implements networktypes.NetworkSubnet: addresses of subnets from the pools may be asked for too, since
// ours do not move.
func (ownSubnet) IsStatic() bool { return true }

func subnetsOf(record *state.Network, six bool) []networktypes.NetworkSubnet {
	var list []networktypes.NetworkSubnet
	for _, s := range record.Subnets {
		if s.Prefix.Addr().Is6() == six {
			list = append(list, ownSubnet{s})
		}
	}
	return list
}

// renamed gives the endpoints of a container that has a new name the DNS names that go with it.
func (n *Networks) renamed(r *state.Container, _ string) {
	for name, ep := range r.Networks {
		if len(ep.DNSNames) > 0 { // it has been started
			ep.DNSNames = dnsNames(r, name, ep)
		}
	}
}
