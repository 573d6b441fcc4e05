package engine

import (
	"context"
	"path/filepath"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Inspect answers from the view all there is to know of a container, and of the host it runs on. Both are the caller's
// to change at their top level and in the network settings. With size its host is asked for the size of its files.
func (c *Containers) Inspect(ctx context.Context, ref string, size bool) (*container.InspectResponse, *nereid.Node, error) {
	view := c.State.View()
	r, err := view.FindContainer(nereid.AccountFrom(ctx), ref)
	if err != nil {
		return nil, nil, err
	}
	if h := c.health.of(r); h != r.State.Health {
		r = r.Clone()
		r.State.Health = h
	}
	resp := inspectResponse(r, c.networks.Settings(r))
	if manyHosts(view) {
		resp.Config.Labels[hostLabel] = string(r.Host)
	}
	c.addHostSide(r, resp)
	if size {
		rw, total, err := c.size(ctx, keyOf(r))
		if err != nil {
			return nil, nil, err
		}
		resp.SizeRw, resp.SizeRootFs = &rw, &total
	}
	host, ok := view.Host(r.Host)
	if m, known := view.Member(r.Host); !ok && known { // it does not answer: as it was
		host = &m.Facts
	}
	return resp, inspectNode(r.Host, host), nil
}

// addHostSide fills in what only a container's host knows: the files it sees as its own, and the execs that run.
func (c *Containers) addHostSide(r *state.Container, resp *container.InspectResponse) {
	if r.Starts == 0 {
		return // the files are made when it starts
	}
	dir := c.dir(keyOf(r))
	resp.HostnamePath = filepath.Join(dir, "hostname")
	resp.HostsPath = filepath.Join(dir, "hosts")
	resp.ResolvConfPath = filepath.Join(dir, "resolv.conf")
	if r.Host != c.Host {
		return
	}
	resp.ExecIDs = c.execs.running(keyOf(r))
}
