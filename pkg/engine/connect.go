package engine

import (
	"context"
	"fmt"
	"net/url"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	networktypes "github.com/docker/docker/api/types/network"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Connections are the use cases of networks with those that change a container: connect and disconnect.
type Connections struct {
	*Networks
	containers *Containers
	elsewhere  Elsewhere
}

// Elsewhere asks other hosts what only they can do.
type Elsewhere interface {
	// Post sends a request of Docker's API to a host for the context's account. A refusal has the class and the words
	// that the host gave it.
	Post(ctx context.Context, to nereid.Host, path string, body any) error
}

// NewConnections joins them. Without elsewhere there are no other hosts.
func NewConnections(n *Networks, c *Containers, elsewhere Elsewhere) *Connections {
	return &Connections{n, c, elsewhere}
}

// pass has the owner of a container on another host do it.
func (c *Connections) pass(ctx context.Context, r *state.Container, ref, verb string, opts any) error {
	if c.elsewhere == nil {
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("container %s is on host %s, which this one does not reach", r.Name, r.Host))
	}
	return c.elsewhere.Post(ctx, r.Host, "/networks/"+url.PathEscape(ref)+"/"+verb, opts)
}

// Connect puts a container on a network: at once when it runs, else with its next start. Like Docker it takes a network
// that is not there yet for one that does not run.
func (c *Connections) Connect(ctx context.Context, ref string, opts networktypes.ConnectOptions) error {
	r, err := c.containers.find(ctx, opts.Container)
	if err != nil {
		return err
	}
	if r.Host != c.Host {
		return c.pass(ctx, r, ref, "connect", opts)
	}
	cfg := opts.EndpointConfig
	if cfg == nil {
		cfg = &networktypes.EndpointSettings{}
	}
	return c.containers.asked(ctx, r, func(r *state.Container) error {
		if err := connectable(r); err != nil {
			return err
		}
		record, err := c.State.View().FindNetwork(r.Account, ref)
		if err != nil && (!errdefs.IsNotFound(err) || r.State.Running()) {
			return err
		}
		if r.State.Running() && r.HostConfig.NetworkMode.IsContainer() {
			return errSharedNetwork()
		}
		if err := invalidArgument(checkEndpoint(record, ref, cfg)); err != nil {
			return err
		}
		there, err := c.joinable(r, record)
		if err != nil {
			return err
		}
		switch {
		case there && r.State.Running():
			return forbidden("endpoint with name %s already exists in network %s", r.Name, record.Name)
		case there:
			return nil
		}
		ctx, cancel := work(ctx)
		defer cancel()
		return c.connect(ctx, r, ref, cfg)
	})
}

func errSharedNetwork() error {
	return errInvalid("container sharing network namespace with another container or host cannot be connected to any other network")
}

// connectable tells why a container's networks cannot change any more.
func connectable(r *state.Container) error {
	switch r.State.Status {
	case state.StatusRemoving, state.StatusDead:
		return errInternal("Container %s is marked for removal and cannot be connected or disconnected to the network", r.ID)
	}
	return nil
}

// joinable tells why a container cannot be on a network (nil: not there yet) beside those it is on, and whether it is on
// it already.
func (c *Connections) joinable(r *state.Container, record *state.Network) (there bool, err error) {
	if record == nil {
		return false, nil
	}
	if !r.HostConfig.NetworkMode.IsHost() && container.NetworkMode(record.Driver).IsHost() {
		return false, errInvalid("cannot connect container to host network - container must be created in host network mode")
	}
	for name, ep := range r.Networks {
		other, err := c.networkOf(r.Account, name, ep)
		switch {
		case err != nil:
			continue
		case other.ID == record.ID:
			return true, nil
		case !container.NetworkMode(other.Driver).IsPrivate(), !container.NetworkMode(record.Driver).IsPrivate():
			return false, errSharedNetwork()
		case container.NetworkMode(other.Name).IsNone(), container.NetworkMode(record.Name).IsNone():
			return false, errInvalid("container cannot be connected to multiple networks with one of the networks in private (none) mode")
		}
	}
	return false, nil
}

// connect enters the endpoint in the record. When the container runs it claims addresses in the same transaction, and
// host ports that had no way to the container before; then the links follow, and last the event.
func (c *Connections) connect(ctx context.Context, r *state.Container, ref string, cfg *networktypes.EndpointSettings) (retErr error) {
	name, ep := c.newEndpoint(r, ref, cfg)
	next, err := c.containers.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		own := ep.Clone()
		own.Order = nextOrder(r)
		if r.Networks == nil {
			r.Networks = map[string]*state.Endpoint{}
		}
		r.Networks[name] = own
		if !r.State.Running() {
			return nil, nil
		}
		ops, err := c.claimEndpoint(r, name, r.Networks)
		if err != nil {
			return nil, err
		}
		more, err := c.claimPortsAnew(r)
		return append(ops, more...), err
	})
	if err != nil || !next.State.Running() {
		return err
	}
	if err := c.follow(ctx, r, next); err != nil {
		c.undoConnect(ctx, next, name)
		return err
	}
	return c.tellConnection(ctx, next, name, events.ActionConnect)
}

// nextOrder is the order of one more endpoint.
func nextOrder(r *state.Container) int {
	next := 0
	for _, ep := range r.Networks {
		next = max(next, ep.Order+1)
	}
	return next
}

// claimPortsAnew gives a running container's host ports back when nothing leads to it any more, and claims them when
// something does again.
func (n *Networks) claimPortsAnew(r *state.Container) ([]state.Op, error) {
	w := n.wayOf(r.Account, r.Networks)
	switch {
	case w.none() && len(r.Ports) > 0:
		ops := n.releasePorts(r)
		r.Ports = nil
		return ops, nil
	case !w.none() && len(r.Ports) == 0:
		ports, ops, err := n.claimPorts(r, w)
		if err != nil {
			return nil, connectivityError(r, w, err)
		}
		r.Ports = ports
		return ops, nil
	}
	return nil, nil
}

// follow makes a running container's links, host ports and /etc/hosts those of its record. Nothing of it can be cut
// for good: a restart makes them so too.
func (n *Networks) follow(ctx context.Context, old, next *state.Container) error {
	was, is := netModeOf(old), netModeOf(next)
	if was != ownNetns && is != ownNetns {
		return nil
	}
	if err := n.attach(ctx, next); err != nil {
		return err
	}
	if was != is {
		if err := n.rewriteResolvConf(next); err != nil {
			return err
		}
	}
	w := n.wayOf(next.Account, next.Networks)
	if err := n.Network.Publish(ctx, next.ID, w.published(next.Ports)); err != nil {
		if w.none() {
			return err
		}
		return connectivityError(next, w, err)
	}
	return n.editHosts(old, next)
}

// undoConnect takes a running container off a network that it did not come onto.
func (c *Connections) undoConnect(ctx context.Context, r *state.Container, name string) {
	ctx, cancel := work(ctx)
	defer cancel()
	next, err := c.containers.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) { return c.leave(r, name) })
	if err == nil && next.State.Running() {
		err = c.follow(ctx, r, next)
	}
	if err != nil {
		c.containers.logger(keyOf(r)).Error("failed connect not undone", zap.String("network", name), zap.Error(err))
	}
}

// leave is the edit of a container that leaves a network.
func (c *Connections) leave(r *state.Container, name string) ([]state.Op, error) {
	ep := r.Networks[name]
	if ep == nil {
		return nil, nil
	}
	ops := releaseEndpoint(ep)
	delete(r.Networks, name)
	if !r.State.Running() {
		return ops, nil
	}
	more, err := c.claimPortsAnew(r)
	return append(ops, more...), err
}

func (c *Connections) tellConnection(ctx context.Context, r *state.Container, name string, action events.Action) error {
	record, ok := c.State.View().Network(r.Account, r.Networks[name].Network)
	if !ok {
		return nil
	}
	_, err := c.State.Commit(ctx, state.Emit(networkEvent(c.Host, record, action, map[string]string{"container": string(r.ID)})))
	return err
}

// Disconnect takes a container off a network: at once when it runs. With force it also forgets a network that is gone.
func (c *Connections) Disconnect(ctx context.Context, ref string, opts networktypes.DisconnectOptions) error {
	account := nereid.AccountFrom(ctx)
	r, err := c.containers.find(ctx, opts.Container)
	if err != nil {
		return err
	}
	if r.Host != c.Host {
		return c.pass(ctx, r, ref, "disconnect", opts)
	}
	return c.containers.asked(ctx, r, func(r *state.Container) error {
		record, err := c.State.View().FindNetwork(account, ref)
		if err != nil && r.State.Running() && !opts.Force {
			return err
		}
		if err := connectable(r); err != nil {
			return err
		}
		name, err := c.connectedBy(r, record, ref)
		if err != nil {
			return err
		}
		ctx, cancel := work(ctx)
		defer cancel()
		return c.disconnect(ctx, r, record, name)
	})
}

// connectedBy is the name under which a container has a network (nil: gone).
func (c *Connections) connectedBy(r *state.Container, record *state.Network, ref string) (string, error) {
	name := ref
	if record != nil {
		name = record.Name
	}
	ep := r.Networks[name]
	if !r.State.Running() || record == nil {
		if ep == nil {
			return "", errInternal("container %s is not connected to the network %s", r.ID, name)
		}
		return name, nil
	}
	if r.HostConfig.NetworkMode.IsHost() && container.NetworkMode(record.Driver).IsHost() {
		return "", errInvalid("cannot disconnect container from host network - container was created in host network mode")
	}
	if ep == nil || ep.ID == "" {
		return "", errInternal("container %s is not connected to network %s", r.ID, name)
	}
	return name, nil
}

// disconnect has a running container's links go first: what it gives back is somebody else's the moment it is given.
func (c *Connections) disconnect(ctx context.Context, r *state.Container, record *state.Network, name string) error {
	if r.State.Running() {
		bare := r.Clone()
		if _, err := c.leave(bare, name); err != nil {
			return err
		}
		if err := c.follow(ctx, r, bare); err != nil {
			return err
		}
	}
	_, err := c.containers.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		ops, err := c.leave(r, name)
		if err == nil && r.State.Running() && record != nil {
			event := networkEvent(c.Host, record, events.ActionDisconnect, map[string]string{"container": string(r.ID)})
			ops = append(ops, state.Emit(event))
		}
		return ops, err
	})
	return err
}
