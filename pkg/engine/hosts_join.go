package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/peer"
	"github.com/nereid-paas/nereid/pkg/state"
)

// TokenLife is how long a join token is good when nothing else is asked.
const TokenLife = 24 * time.Hour

// Token makes a join token, and forgets those that have expired, or with rotate all that were made before.
func (h *Hosts) Token(ctx context.Context, server bool, life time.Duration, rotate bool) (nereid.JoinToken, error) {
	if life < 0 {
		return nereid.JoinToken{}, errInvalid("the life of a token cannot be %v", life)
	}
	if life == 0 {
		life = TokenLife
	}
	if err := h.self.Open(ctx); err != nil {
		return nereid.JoinToken{}, fmt.Errorf("other hosts could not reach this one: %w", err)
	}
	now := time.Now().UTC()
	secret := peer.NewSecret()
	t := &state.JoinToken{Hash: peer.HashSecret(secret), Server: server, Created: now, Expires: now.Add(life)}
	ops := []state.Op{state.Create(t)}
	for _, old := range h.State.View().JoinTokens() {
		if rotate || now.After(old.Expires) {
			ops = append(ops, state.Delete(old))
		}
	}
	if _, err := h.State.Commit(ctx, ops...); err != nil {
		return nereid.JoinToken{}, err
	}
	return nereid.JoinToken{Token: h.self.Token(secret), Peer: h.self.Peer, Server: server, Expires: t.Expires}, nil
}

// Admit lets a host in that shows a token, under a name that is free or that it has already.
func (h *Hosts) Admit(ctx context.Context, a peer.Application) (peer.Admission, error) {
	if err := h.checkApplication(a); err != nil {
		return peer.Admission{}, err
	}
	made, err := h.enter(ctx, a)
	if err != nil {
		return peer.Admission{}, err
	}
	ad := peer.Admission{}
	if a.Server {
		if err := h.State.AddServer(ctx, peerURL(a.Peer)); err != nil {
			if made != nil {
				_, undo := h.State.Commit(ctx, state.Remove(made))
				err = errors.Join(err, undo)
			}
			return ad, err
		}
	}
	servers, err := h.State.Servers(ctx)
	if err != nil {
		return ad, err
	}
	for _, s := range servers {
		ad.Servers = append(ad.Servers, peer.ServerAddress{Host: s.Host, Peer: s.Peer})
	}
	for _, m := range h.State.View().Members() {
		if m.Gossip != "" {
			ad.Others = append(ad.Others, m.Gossip)
		}
	}
	h.Log.Info("a host joins", zap.String("host", string(a.Host)), zap.String("at", a.Peer), zap.Bool("server", a.Server))
	return ad, nil
}

// peerURL is how the state's servers call each other.
func peerURL(addr string) string { return "https://" + addr }

func (h *Hosts) checkApplication(a peer.Application) error {
	t, ok := h.State.View().JoinToken(peer.HashSecret(a.Secret))
	if !ok || time.Now().After(t.Expires) {
		return errdefs.ErrPermissionDenied.WithMessage("the join token is not known, or has expired: `nereid token` prints a new one")
	}
	if a.Server && !t.Server {
		return errdefs.ErrPermissionDenied.WithMessage("the join token is not for servers: `nereid token --server` prints one that is")
	}
	if !a.Host.Valid() {
		return errInvalid("host name %q: not a DNS label", a.Host)
	}
	if at, err := netip.ParseAddrPort(a.Peer); err != nil || at.Addr().IsUnspecified() || at.Addr().IsLoopback() {
		return errInvalid("host %s cannot be reached at %q: start it with --advertise", a.Host, a.Peer)
	}
	return nil
}

// enter makes the host a member, which is returned unless it was one.
func (h *Hosts) enter(ctx context.Context, a peer.Application) (*state.Member, error) {
	m := &state.Member{Name: a.Host, Joined: time.Now().UTC(), Key: a.Fingerprint, Server: a.Server, Peer: a.Peer}
	_, err := h.State.Commit(ctx, state.Create(m))
	if err == nil {
		return m, nil
	}
	conflict, ok := state.AsConflict(err)
	if !ok {
		return nil, err
	}
	if there, ok := conflict.Existing.(*state.Member); ok && there.Key == a.Fingerprint && there.Server == a.Server {
		return nil, nil // its last try was cut short
	}
	return nil, errConflict("host %s is in the fleet already: choose another --name, or remove it first with `nereid host rm %s`", a.Host, a.Host)
}

// Admitted implements peer.Fleet.
func (h *Hosts) Admitted(name nereid.Host, key string) (server, ok bool) {
	m, ok := h.State.View().Member(name)
	if !ok {
		return false, false
	}
	return m.Server, m.Key == key
}

// Enrol makes the records of this host say what it is now. A host that was removed from the fleet is
// errdefs.ErrPermissionDenied.
func (h *Hosts) Enrol(ctx context.Context) error {
	err := h.changeMember(ctx, h.Host, func(m *state.Member) error {
		m.Server, m.Peer, m.Gossip = h.self.Server, h.self.Peer, h.self.Gossip
		m.Facts = *h.record(ctx)
		return nil
	})
	if errdefs.IsNotFound(err) {
		if h.self.Joined || len(h.State.View().Members()) > 0 {
			return errRemoved(h.Host)
		}
		err = h.first(ctx)
	}
	if err != nil {
		return err
	}
	return h.publish(ctx)
}

func errRemoved(name nereid.Host) error {
	return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("host %s was removed from the fleet: it may join again with an empty --data-root", name))
}

// first makes the first member of a fleet.
func (h *Hosts) first(ctx context.Context) error {
	_, err := h.State.Commit(ctx, state.Create(&state.Member{
		Name: h.Host, Joined: time.Now().UTC(), Key: h.self.Key, Server: true, Peer: h.self.Peer, Gossip: h.self.Gossip, Facts: *h.record(ctx),
	}))
	return err
}

// publish stores what this host says of itself, with what operators say of it.
func (h *Hosts) publish(ctx context.Context) error {
	h.publishing.Lock() // what is read last is stored last
	defer h.publishing.Unlock()
	r := h.record(ctx)
	r.DataPath = h.paths.current()
	if m, ok := h.State.View().Member(h.Host); ok {
		r.Draining = m.Draining
		r.Labels = maps.Clone(r.Labels)
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		for k, v := range m.Labels {
			if v == "" {
				delete(r.Labels, k)
				continue
			}
			r.Labels[k] = v
		}
	}
	_, err := h.State.Commit(ctx, state.Put(r))
	return err
}

// changeMember changes a member's record, again when another did meanwhile. One that is not there is
// errdefs.ErrNotFound.
func (h *Hosts) changeMember(ctx context.Context, name nereid.Host, change func(*state.Member) error) error {
	for try := 1; ; try++ {
		m, ok := h.State.View().Member(name)
		if !ok {
			return errNoSuchHost(name)
		}
		m = m.Clone()
		if err := change(m); err != nil {
			return err
		}
		_, err := h.State.Commit(ctx, state.Update(m))
		if !overtaken(err) || try == maxTransitTries {
			return err
		}
	}
}

// Run has this host's record follow what operators say, and the state what is heard of other hosts, until the context
// ends or the host is removed from the fleet.
func (h *Hosts) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.tellAbsences(ctx) })
	g.Go(func() error { return h.follow(ctx) })
	g.Go(func() error { return h.drainOn(ctx) })
	g.Go(func() error { return h.tryPaths(ctx) })
	return g.Wait()
}

// isOurs tells whether a change is of this host's member record.
func (h *Hosts) isOurs(c state.Change) bool {
	for _, r := range []any{c.Old, c.New} {
		if m, ok := r.(*state.Member); ok && m != nil && m.Name == h.Host {
			return true
		}
	}
	return false
}

func (h *Hosts) follow(ctx context.Context) error {
	w := h.State.View().Watch(state.KindMember)
	defer w.Close()
	for {
		if _, ok := h.State.View().Member(h.Host); !ok {
			return errRemoved(h.Host)
		}
		// At first too: operators may have spoken before we listened.
		if err := h.publish(ctx); err != nil && ctx.Err() == nil {
			h.Log.Warn("this host's record does not show what operators said", zap.Error(err))
		}
		for ours := false; !ours; {
			changes, err := w.Next(ctx)
			if err != nil {
				return nil //nolint:nilerr // the context's end is no error
			}
			ours = slices.ContainsFunc(changes, h.isOurs)
		}
	}
}
