package engine

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Label gives a host labels, and takes away those whose value is empty. It returns when the host shows them.
func (h *Hosts) Label(ctx context.Context, name nereid.Host, labels map[string]string) (nereid.HostStatus, error) {
	for k := range labels {
		if k == "" || strings.ContainsAny(k, "=\n") {
			return nereid.HostStatus{}, errInvalid("%q is no name of a label", k)
		}
	}
	err := h.changeMember(ctx, name, func(m *state.Member) error {
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		maps.Copy(m.Labels, labels)
		return nil
	})
	if err != nil {
		return nereid.HostStatus{}, err
	}
	h.shows(ctx, name, func(r *state.Host) bool {
		for k, v := range labels {
			if r.Labels[k] != v {
				return false
			}
		}
		return true
	})
	return h.Inspect(ctx, name)
}

// Resume lets a drained host get containers again.
func (h *Hosts) Resume(ctx context.Context, name nereid.Host) error {
	return h.setDraining(ctx, name, false)
}

func (h *Hosts) setDraining(ctx context.Context, name nereid.Host, draining bool) error {
	err := h.changeMember(ctx, name, func(m *state.Member) error {
		m.Draining = draining
		return nil
	})
	if err == nil {
		h.shows(ctx, name, func(r *state.Host) bool { return r.Draining == draining })
	}
	return err
}

// showTime bounds the wait for another host to show what was said of it: it writes as soon as it sees it.
const showTime = 5 * time.Second

// shows waits until a host's own record says what it was told. An unreachable one will when it comes back.
func (h *Hosts) shows(ctx context.Context, name nereid.Host, cond func(*state.Host) bool) {
	ctx, cancel := context.WithTimeout(ctx, showTime)
	defer cancel()
	w := h.State.View().Watch(state.KindHost)
	defer w.Close()
	for !h.Fleet.State(name).Gone() {
		if r, ok := h.State.View().Host(name); ok && cond(r) {
			return
		}
		if _, err := w.Next(ctx); err != nil {
			return
		}
	}
}

// Remove takes a host out of the fleet, with the records of the containers it had. One that answers goes only by force,
// or when it has no containers: its daemon ends then.
func (h *Hosts) Remove(ctx context.Context, name nereid.Host, force bool) error {
	m, ok := h.State.View().Member(name)
	if !ok {
		return errNoSuchHost(name)
	}
	if name == h.Host {
		return errConflict("host %s is the one that was asked: remove it from another host", name)
	}
	left := h.State.View().ContainersOn(name)
	if !force && len(left) > 0 && !h.Fleet.State(name).Gone() {
		return errConflict("host %s is alive and has %d containers: remove them first, or use --force", name, len(left))
	}
	for _, c := range left {
		if err := h.containers.discardState(ctx, c, false); err != nil {
			return err
		}
	}
	if m.Server {
		if err := h.State.RemoveServer(ctx, name, peerURL(m.Peer)); err != nil {
			return err
		}
	}
	return h.forget(ctx, name)
}

// forgetTries: a server that was the leader is missed for an election, and what is deleted may be deleted again.
const forgetTries = 3

func (h *Hosts) forget(ctx context.Context, name nereid.Host) (err error) {
	for range forgetTries {
		_, err = h.State.Commit(ctx, state.Delete(&state.Member{Name: name}), state.Delete(&state.Host{Name: name}))
		if !errdefs.IsUnavailable(err) {
			return err
		}
	}
	return err
}
