package engine

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// yieldPorts has containers of this host let go of ports that were given to others while the host was lost, until the
// context ends: those that the state says so of now, and whenever it comes to.
func (c *Containers) yieldPorts(ctx context.Context) {
	w := c.State.View().Watch(state.KindPort)
	defer w.Close()
	for _, r := range c.State.View().ContainersOn(c.Host) {
		c.yield(ctx, r)
	}
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			return
		}
		for _, change := range changes {
			old, _ := change.Old.(*state.Port)
			if old == nil {
				continue
			}
			for _, claim := range old.Claims {
				if r, ok := c.State.View().Container(claim.Account, claim.Container); ok && claim.Host == c.Host {
					c.yield(ctx, r)
				}
			}
		}
	}
}

// yield makes a running container's published ports those that it still has claims of. It goes on without the others,
// until it is started again and claims them again.
func (c *Containers) yield(ctx context.Context, r *state.Container) {
	if len(c.networks.claimed(r)) == len(r.Ports) {
		return
	}
	ctx = nereid.WithAccount(ctx, r.Account)
	err := c.locked(ctx, r, func(now *state.Container) error {
		if !now.State.Running() || len(c.networks.claimed(now)) == len(now.Ports) {
			return nil
		}
		next, err := c.persist(ctx, keyOf(now), func(r *state.Container) ([]state.Op, error) {
			r.Ports = c.networks.claimed(r)
			return nil, nil
		})
		if err != nil {
			return err
		}
		c.logger(keyOf(now)).Warn("published ports were given to another container while this host was not reached",
			zap.Int("lost", len(now.Ports)-len(next.Ports)))
		ctx, cancel := work(ctx)
		defer cancel()
		if err := c.networks.follow(ctx, now, next); err != nil {
			return err
		}
		c.networks.meshAll(ctx) // the port of the other is to answer here, too
		return nil
	})
	if err != nil && ctx.Err() == nil {
		c.logger(keyOf(r)).Error("ports that are another container's not closed", zap.Error(err))
	}
}

// claimed are the ports in a container's record that it has, as the records of ports say.
func (n *Networks) claimed(r *state.Container) []state.HostPort {
	return slices.DeleteFunc(slices.Clone(r.Ports), func(p state.HostPort) bool {
		if p.HostPort == 0 {
			return false
		}
		rec, ok := n.State.View().Port(p.Proto, p.HostPort)
		return !ok || !slices.ContainsFunc(rec.Claims, func(c state.PortClaim) bool { return c.Container == r.ID && c.HostIP == p.HostIP })
	})
}
