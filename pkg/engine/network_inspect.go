package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// scopeLocal is what every network reports, those that span hosts among them: clients must not take us for swarm.
const scopeLocal = "local"

// List returns the account's networks by name, without their containers, as Docker does.
func (n *Networks) List(ctx context.Context, f filters.Args) ([]networktypes.Inspect, error) {
	if err := networktypes.ValidateFilters(f); err != nil {
		return nil, invalidArgument(err)
	}
	keep, err := networkFilter(f)
	if err != nil {
		return nil, err
	}
	list := []networktypes.Inspect{}
	for _, record := range n.State.View().Networks(nereid.AccountFrom(ctx)) {
		shown := n.show(record)
		if keep(shown, func() bool { return len(n.State.View().ContainersOnNetwork(record.ID)) > 0 }) {
			list = append(list, shown)
		}
	}
	slices.SortFunc(list, func(a, b networktypes.Inspect) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Inspect returns one network with its running containers, all over the fleet.
func (n *Networks) Inspect(ctx context.Context, ref, scope string, _ bool) (*networktypes.Inspect, error) {
	record, err := n.State.View().FindNetwork(nereid.AccountFrom(ctx), ref)
	if err != nil {
		return nil, err
	}
	if scope != "" && scope != scopeLocal {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
	}
	shown := n.show(record)
	for _, r := range n.State.View().ContainersOnNetwork(record.ID) {
		if ep := r.Networks[record.Name]; ep != nil && ep.ID != "" {
			shown.Containers[string(r.ID)] = networktypes.EndpointResource{
				Name: r.Name, EndpointID: string(ep.ID), MacAddress: ep.MAC,
				IPv4Address: prefixText(ep.Address), IPv6Address: prefixText(ep.Address6),
			}
		}
	}
	return &shown, nil
}

// show is a network as the API has it, without containers.
func (n *Networks) show(record *state.Network) networktypes.Inspect {
	options := maps.Clone(record.Options)
	if options == nil {
		options = map[string]string{}
	}
	if record.Predefined && isFabric(record) {
		options["com.docker.network.bridge.name"] = network.BridgeName(n.Host, record)
	}
	labels := maps.Clone(record.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	return networktypes.Inspect{
		Name: record.Name, ID: string(record.ID), Created: record.Created, Scope: scopeLocal, Driver: record.Driver,
		EnableIPv4: record.IPv4, EnableIPv6: record.IPv6, IPAM: showIPAM(record), Internal: record.Internal,
		Attachable: record.Attachable, ConfigOnly: record.ConfigOnly, ConfigFrom: networktypes.ConfigReference{Network: record.ConfigFrom},
		Containers: map[string]networktypes.EndpointResource{}, Options: options, Labels: labels,
	}
}

// showIPAM has IPv4 first, as Docker does: scripts read the first of the subnets.
func showIPAM(record *state.Network) networktypes.IPAM {
	ipam := networktypes.IPAM{Driver: record.IPAMDriver, Options: record.IPAMOptions}
	subnets := slices.Clone(record.Subnets)
	slices.SortStableFunc(subnets, func(a, b state.Subnet) int {
		return cmp.Compare(a.Prefix.Addr().BitLen(), b.Prefix.Addr().BitLen())
	})
	for _, s := range subnets {
		c := networktypes.IPAMConfig{Subnet: s.Prefix.String(), IPRange: prefixText(s.Range)}
		if s.GatewayAsked || !s.Asked {
			c.Gateway = addrText(s.Gateway)
		}
		for name, a := range s.Auxiliary {
			if c.AuxAddress == nil {
				c.AuxAddress = map[string]string{}
			}
			c.AuxAddress[name] = a.String()
		}
		ipam.Config = append(ipam.Config, c)
	}
	return ipam
}

// networkFilter reads the filters of a list. What it returns asks whether a network is in use only when it matters.
func networkFilter(f filters.Args) (func(networktypes.Inspect, func() bool) bool, error) {
	dangling, err := danglingFilter(f)
	if err != nil {
		return nil, err
	}
	types := f.Get("type")
	for _, t := range types {
		if t != "builtin" && t != "custom" {
			return nil, errdefs.ErrInternal.WithMessage(fmt.Sprintf("invalid filter: 'type'='%s'", t))
		}
	}
	return func(s networktypes.Inspect, used func() bool) bool {
		return filterMatches(f, s) && kindMatches(types, s) &&
			(dangling == nil || *dangling == (isUserDefined(s.Name) && !used()))
	}, nil
}

func filterMatches(f filters.Args, s networktypes.Inspect) bool {
	return f.ExactMatch("driver", s.Driver) && f.Match("name", s.Name) && f.Match("id", s.ID) &&
		(!f.Contains("label") || f.MatchKVList("label", s.Labels)) && f.ExactMatch("scope", s.Scope)
}

func kindMatches(types []string, s networktypes.Inspect) bool {
	kind := "builtin"
	if isUserDefined(s.Name) {
		kind = "custom"
	}
	return len(types) == 0 || slices.Contains(types, kind)
}

// danglingFilter is nil when it is not given.
func danglingFilter(f filters.Args) (*bool, error) {
	values := f.Get("dangling")
	if len(values) == 0 {
		return nil, nil
	}
	if len(values) > 1 {
		return nil, errdefs.ErrInvalidArgument.WithMessage(`got more than one value for filter key "dangling"`)
	}
	var dangling bool
	switch values[0] {
	case "0", "false":
	case "1", "true":
		dangling = true
	default:
		return nil, errdefs.ErrInvalidArgument.WithMessage(`invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`)
	}
	return &dangling, nil
}
