package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nereid-paas/nereid/api/server"
	"github.com/nereid-paas/nereid/pkg/engine"
	"github.com/nereid-paas/nereid/pkg/gossip"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/peer"
	"github.com/nereid-paas/nereid/pkg/state"
)

// fleet is this host's part in the fleet: who it is, where others reach it, and what it hears of them. A host that
// nobody may join listens to nobody.
type fleet struct {
	o         options
	log       *zap.Logger
	id        *peer.Identity
	advertise netip.Addr
	server    *peer.Server
	forwarder *peer.Forwarder
	live      *engine.Liveness
	rumour    atomic.Pointer[gossip.Gossip]
	store     *state.Store

	group *errgroup.Group // what runs from open to close
	ctx   context.Context // of the group
	stop  context.CancelFunc

	mu     sync.Mutex
	opened bool
}

// enterFleet finds out who this host is: as it was before, by a join, or as the first host of a fleet of its own.
func enterFleet(ctx context.Context, o options, log *zap.Logger) (*fleet, error) {
	f := &fleet{o: o, log: log.Named("fleet"), advertise: advertised(ctx, o)}
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.group, f.ctx = errgroup.WithContext(base)
	f.stop = stop
	dir := filepath.Join(o.dataRoot, "fleet")
	id, err := peer.Load(dir, nereid.Host(o.name))
	switch {
	case err == nil && o.join != "" && !id.Standing().Joined:
		err = errors.New("this host began a fleet of its own: it can join another with an empty --data-root only")
	case errors.Is(err, fs.ErrNotExist) && o.join != "":
		f.log.Info("joining", zap.String("at", o.join))
		id, err = peer.Join(ctx, dir, o.join, o.token, peer.Application{Host: nereid.Host(o.name), Server: o.server, Peer: f.peerAddr()})
	case errors.Is(err, fs.ErrNotExist):
		id, err = peer.Found(dir, nereid.Host(o.name), f.advertise.AsSlice())
	}
	if err != nil {
		stop()
		return nil, err
	}
	f.id, f.server = id, peer.NewServer(id, f.log)
	if err := id.Refresh(ctx, f.advertise.AsSlice(), addresses(id.Standing().Endpoints)); err != nil {
		f.log.Warn("this host's certificate was not renewed; trying again later", zap.Error(err))
	}
	return f, nil
}

// peerAddr and gossipAddr are where others reach this host: on the address of the flag when it names one.
func (f *fleet) peerAddr() string   { return reachedAt(f.o.peerListen, f.advertise) }
func (f *fleet) gossipAddr() string { return reachedAt(f.o.gossipListen, f.advertise) }

func reachedAt(listen string, advertise netip.Addr) string {
	host, port, err := net.SplitHostPort(listen)
	if a, err2 := netip.ParseAddr(host); err != nil || err2 != nil || a.IsUnspecified() {
		host = advertise.String()
	}
	return net.JoinHostPort(host, port)
}

// mustOpen tells whether others know of this host, or are to.
func (f *fleet) mustOpen() bool { return f.id.Standing().Open || f.o.peerAsked }

// open listens for other hosts, if it does not yet, from now on and after restarts.
func (f *fleet) open(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opened {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", f.o.peerListen)
	if err != nil {
		return err
	}
	if err := f.id.Remember(func(s *peer.Standing) { s.Open = true }); err != nil {
		l.Close()
		return err
	}
	f.opened = true
	f.group.Go(func() error { return named("peers", f.server.Serve(f.ctx, l)) })
	if f.store != nil {
		f.startGossip()
	}
	return nil
}

// use is called once the state is there.
func (f *fleet) use(store *state.Store) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store = store
	f.live = engine.NewLiveness(f.id.Host(), store.View(), func() engine.Rumour {
		if g := f.rumour.Load(); g != nil {
			return g
		}
		return nil
	})
	f.forwarder = peer.NewForwarder(f.id, f, f)
	if f.opened {
		f.startGossip()
	}
}

func (f *fleet) startGossip() {
	g := gossip.New(gossip.Config{
		Host: f.id.Host(), Listen: f.o.gossipListen, Advertise: f.gossipAddr(), Key: f.id.GossipKey(),
		Capacity: f.capacity, Others: f.others, Log: f.log,
	})
	f.rumour.Store(g)
	f.group.Go(func() error { return named("gossip", g.Run(f.ctx)) })
}

// others are where the rumour of the other hosts is.
func (f *fleet) others() map[nereid.Host]string {
	all := map[nereid.Host]string{}
	for _, m := range f.store.View().Members() {
		if m.Name != f.id.Host() {
			all[m.Name] = m.Gossip
		}
	}
	return all
}

// capacity is how full this host is.
func (f *fleet) capacity() gossip.Capacity {
	c := gossip.Capacity{Software: version}
	if h, ok := f.store.View().Host(f.id.Host()); ok {
		c.CPUs, c.Memory, c.Draining, c.Labels = h.CPUs, h.Memory, h.Draining, h.Labels
	}
	for _, r := range f.store.View().ContainersOn(f.id.Host()) {
		c.Containers++
		if r.State.Running() {
			c.Running++
		}
		c.Ports += len(r.Ports)
		if r.HostConfig != nil {
			c.UsedCPUs += r.HostConfig.NanoCPUs
			c.UsedMemory += r.HostConfig.Memory
		}
	}
	return c
}

// clustered tells whether the state has other servers than this host.
func (f *fleet) clustered() bool {
	return len(f.id.Standing().Endpoints) > 1 || !f.id.Standing().Server
}

// stateConfig is how this host takes part in the state.
func (f *fleet) stateConfig(c state.Config) state.Config {
	s := f.id.Standing()
	if !s.Server {
		c.Dir, c.Socket, c.Endpoints, c.TLS = "", "", s.Endpoints, f.id.ClientTLS()
		return c
	}
	c.Peer, c.Alone = "https://"+f.peerAddr(), f.o.lastServer
	c.Keys = state.Keys{Cert: f.id.CertFile(), Key: f.id.KeyFile(), CA: f.id.CAFile()}
	c.Serve = f.server.ServeState
	for _, srv := range s.Servers {
		c.Join = append(c.Join, state.Server{Host: srv.Host, Peer: srv.Peer})
	}
	return c
}

// self is what the engine is told of this host.
func (f *fleet) self() (engine.Self, error) {
	key, err := f.id.Fingerprint()
	s := f.id.Standing()
	return engine.Self{
		Server: s.Server, Joined: s.Joined, Peer: f.peerAddr(), Gossip: f.gossipAddr(), Key: key, Open: f.open, Token: f.id.Token,
	}, err
}

// servers are the other servers of the state, as ADDR:PORT.
func (f *fleet) servers() []string {
	var all []string
	for _, m := range f.store.View().Members() {
		if m.Server && m.Name != f.id.Host() && m.Peer != "" {
			all = append(all, m.Peer)
		}
	}
	return all
}

// addresses are URLs without their scheme.
func addresses(urls []string) []string {
	all := make([]string, 0, len(urls))
	for _, u := range urls {
		all = append(all, strings.TrimPrefix(u, "https://"))
	}
	return all
}

// serve lets hosts join, and remembers where the servers are, until the context ends.
func (f *fleet) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.remember(ctx) })
	g.Go(func() error { return f.id.KeepFresh(ctx, f.advertise.AsSlice(), f.servers, f.log) })
	g.Go(func() error { // a part that failed is the daemon's failure
		select {
		case <-ctx.Done():
			return nil
		case <-f.ctx.Done():
			return f.group.Wait()
		}
	})
	return g.Wait()
}

// remember keeps where the servers are over restarts.
func (f *fleet) remember(ctx context.Context) error {
	w := f.store.View().Watch(state.KindMember)
	defer w.Close()
	for {
		var urls []string
		for _, m := range f.store.View().Members() {
			if m.Server && m.Peer != "" {
				urls = append(urls, "https://"+m.Peer)
			}
		}
		if len(urls) > 0 && !slices.Equal(urls, f.id.Standing().Endpoints) {
			f.store.SetEndpoints(urls)
			if err := f.id.Remember(func(s *peer.Standing) { s.Endpoints = urls }); err != nil {
				return err
			}
		}
		if _, err := w.Next(ctx); err != nil {
			return nil //nolint:nilerr // the context's end is no error
		}
	}
}

// close says farewell and stops answering other hosts.
func (f *fleet) close() {
	f.stop()
	if f.forwarder != nil {
		f.forwarder.Close()
	}
	if err := f.group.Wait(); err != nil {
		f.log.Warn("other hosts", zap.Error(err))
	}
}

// Find implements peer.Directory.
func (f *fleet) Find(h nereid.Host) (string, error) {
	if s := f.live.State(h); s.Gone() {
		return "", errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("host %s is unreachable", h))
	}
	m, ok := f.store.View().Member(h)
	if !ok || m.Peer == "" {
		return "", errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("host %s is not in the fleet", h))
	}
	return m.Peer, nil
}

// Gone implements peer.Directory.
func (f *fleet) Gone(h nereid.Host) <-chan struct{} { return f.live.Gone(h) }

// Shown implements peer.Shown.
func (f *fleet) Shown() int64 { return int64(f.store.View().Revision()) }

// WaitShown implements peer.Shown.
func (f *fleet) WaitShown(ctx context.Context, rev int64) error {
	return f.store.View().WaitRevision(ctx, state.Revision(rev))
}

// forwarded is the API as other hosts use it: on behalf of whom they say, and never passed on again.
func forwarded(cfg server.Config, f *fleet, c *engine.Containers, i *engine.Images, v *engine.Volumes) (*server.Server, http.Handler) {
	cfg.Placed, cfg.Content, cfg.Data = takes{c}, i, v
	cfg.Forwarder, cfg.Authenticator = nil, peer.Forwarded
	s := server.New(cfg)
	return s, peer.InStep(s, f)
}
