package engine

import (
	"context"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// claim claims addresses and host ports for a container about to start, and returns its record with them. What it has
// claimed for a start that did not come about is given back first.
func (c *Containers) claim(ctx context.Context, r *state.Container) (*state.Container, error) {
	donor, err := c.netDonor(r)
	if err != nil {
		return nil, err
	}
	if err := c.linksUp(r); err != nil {
		return nil, err
	}
	if r.From != "" && claims(r) {
		return r, nil // it came with them
	}
	c.releaseStray(ctx, r)
	return c.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		if donor != nil {
			r.Config.Hostname, r.Config.Domainname = donor.Config.Hostname, donor.Config.Domainname
		}
		claimed, err := c.networks.Claim(r)
		if err != nil {
			return nil, asNetworkError(err)
		}
		claimed.Apply(r)
		return claimed.Ops, nil
	})
}

// claims tells whether a record claims anything that a container has only while it runs.
func claims(r *state.Container) bool {
	for _, ep := range r.Networks {
		if ep.ID != "" {
			return true
		}
	}
	return len(r.Ports) > 0
}

// release is the edit that gives back everything that a record claims.
func (c *Containers) release(r *state.Container) ([]state.Op, error) {
	return c.networks.Release(r), nil
}

// sandbox makes the container's network namespace and /etc files and enters them in the spec. The links and host ports
// follow with plumb, which may run while the task is made.
func (c *Containers) sandbox(ctx context.Context, r *state.Container, spec *runtime.Spec) (plumb func(context.Context) error, err error) {
	spec.Netns, err = c.networks.Sandbox(ctx, r)
	if err != nil {
		return nil, asNetworkError(err)
	}
	donor, err := c.netDonor(r)
	if err != nil {
		return nil, err
	}
	if donor != nil {
		spec.Netns = netnsOf(donor.State.Pid)
	}
	spec.Mounts = append(spec.Mounts, c.networks.EtcMounts(r)...)
	return func(ctx context.Context) error { return c.networks.Plumb(ctx, r) }, nil
}
