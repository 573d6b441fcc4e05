package engine

import (
	"context"
	"net/netip"

	"github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/trace"
)

// netMode says whose network namespace a container has.
type netMode int

const (
	ownNetns   netMode = iota
	emptyNetns         // its own, with a loopback alone
	hostNetns
	sharedNetns // another container's
)

func netModeOf(r *state.Container) netMode {
	mode := r.HostConfig.NetworkMode
	switch {
	case mode.IsContainer():
		return sharedNetns
	case mode.IsHost():
		return hostNetns
	case mode.IsNone() && !connected(r), r.Config.NetworkDisabled:
		return emptyNetns
	}
	return ownNetns
}

// connected tells whether a container is on a network other than none: one that was made with none alone may have been
// taken off it and put on others.
func connected(r *state.Container) bool {
	_, none := r.Networks[networktypes.NetworkNone]
	return len(r.Networks) > 0 && !none
}

// Sandbox makes what the container needs before its process can be created: its network namespace, whose path it
// returns, and its /etc files. The path is empty for a container in the host's network, and for one that shares
// another container's, which has nothing of its own. It wants a record with the claims applied. Links follow by Plumb.
func (n *Networks) Sandbox(ctx context.Context, r *state.Container) (netns string, err error) {
	mode := netModeOf(r)
	if mode == sharedNetns {
		return "", nil
	}
	opts, err := n.writeEtcFiles(r)
	if err != nil || mode == hostNetns {
		return "", err
	}
	return n.Network.NewSandbox(ctx, r.ID, opts)
}

// Plumb plugs a sandbox into its networks and opens its host ports. Errors have Docker's words, as those of Claim.
func (n *Networks) Plumb(ctx context.Context, r *state.Container) error {
	if netModeOf(r) != ownNetns {
		return nil
	}
	ctx, span := trace.Start(ctx, "plumb")
	defer span.End()
	if err := n.attach(ctx, r); err != nil {
		return err
	}
	way := n.wayOf(r.Account, r.Networks)
	if way.none() || len(r.Ports) == 0 {
		return nil
	}
	if err := n.Network.Publish(ctx, r.ID, way.published(r.Ports)); err != nil {
		return connectivityError(r, way, err)
	}
	return nil
}

// attach makes a container's links those of its record, and has its networks reach the other hosts.
func (n *Networks) attach(ctx context.Context, r *state.Container) error {
	to := n.attachments(r)
	if err := n.Network.Attach(ctx, r.ID, to); err != nil {
		return err
	}
	for _, a := range to {
		n.span(ctx, a.Network)
	}
	return nil
}

// Unplumb undoes Sandbox and Plumb, but for the /etc files, which go with the container's directory. Nothing there is
// no error.
func (n *Networks) Unplumb(ctx context.Context, r *state.Container) error {
	return n.Network.Remove(ctx, r.ID)
}

// Restored is what a running container must have on this host; false when it has nothing of its own.
func (n *Networks) Restored(r *state.Container) (network.Restored, bool) {
	mode := netModeOf(r)
	if mode == hostNetns || mode == sharedNetns {
		return network.Restored{}, false
	}
	res := network.Restored{ID: r.ID, Attachments: n.attachments(r)}
	res.Ports = n.wayOf(r.Account, r.Networks).published(r.Ports)
	dns, err := dnsOf(r)
	if err != nil {
		dns = network.DNS{} // it was checked when the container started
	}
	res.Options = n.sandboxOptions(r, dns)
	return res, true
}

func (n *Networks) attachments(r *state.Container) []network.Attachment {
	var list []network.Attachment
	if netModeOf(r) != ownNetns {
		return nil
	}
	for _, name := range endpointNames(r) {
		ep := r.Networks[name]
		if record, ok := n.State.View().Network(r.Account, ep.Network); ok && hasLinks(record) {
			list = append(list, network.Attachment{Network: record, Endpoint: ep})
		}
	}
	return list
}

// hostGateways are the addresses that stand for the host in --add-host: those of the account's default bridge.
func (n *Networks) hostGateways(r *state.Container) []netip.Addr {
	bridge, err := n.State.View().FindNetwork(r.Account, networktypes.NetworkBridge)
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, s := range bridge.Subnets {
		if s.Gateway.IsValid() {
			list = append(list, s.Gateway)
		}
	}
	return list
}

// isUserDefined tells whether a network's name is not one of the predefined.
func isUserDefined(name string) bool { return container.NetworkMode(name).IsUserDefined() }
