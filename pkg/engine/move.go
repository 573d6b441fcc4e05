package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// stays tells why a container of this host cannot go on at another; empty: it can. What is in its own file system is not
// worth keeping to who gave it a restart policy and no volume.
func (c *Containers) stays(r *state.Container) string {
	hc := r.HostConfig
	if p := hc.RestartPolicy; p.IsNone() || hc.AutoRemove {
		return "it has no restart policy"
	}
	for _, m := range r.Mounts {
		switch mount.Type(m.Type) {
		case mount.TypeTmpfs:
		case mount.TypeVolume:
			if v, ok := c.State.View().Volume(r.Account, m.Name); ok && shared(v) {
				continue
			}
			return "its volume " + m.Name + " is there"
		case mount.TypeBind:
			return "it mounts " + m.Source + " of the host"
		default:
			return "it mounts an image"
		}
	}
	switch {
	case len(hc.Devices)+len(hc.DeviceRequests) > 0 || hc.Privileged:
		return "it uses devices of the host"
	case sharesNamespaces(r) || len(hc.Links) > 0:
		return "it is tied to another container"
	case hc.NetworkMode.IsHost() || hc.PidMode.IsHost() || hc.IpcMode.IsHost() || hc.UTSMode.IsHost():
		return "it shares namespaces of the host"
	case r.IDMap != nil:
		return "it has users of the host"
	}
	for _, ep := range r.Networks {
		if n, ok := c.State.View().Network(r.Account, ep.Network); ok && hasLinks(n) && !isFabric(n) {
			return "network " + n.Name + " is the host's"
		}
	}
	for _, bindings := range hc.PortBindings {
		for _, b := range bindings {
			if b.HostIP != "" && b.HostIP != "0.0.0.0" && b.HostIP != "::" {
				return "it publishes a port on an address of the host, " + b.HostIP
			}
		}
	}
	for _, other := range c.State.View().ContainersOn(c.Host) {
		if up(other) && leansOn(other, r.ID) {
			return "container " + other.Name + " shares its namespaces"
		}
	}
	return ""
}

// leansOn tells whether a container shares namespaces of another.
func leansOn(r *state.Container, id nereid.ContainerID) bool {
	hc, other := r.HostConfig, string(id)
	return hc.NetworkMode.ConnectedContainer() == other || hc.PidMode.Container() == other || hc.IpcMode.Container() == other
}

// move has a container of this host go on at another, with all that is its own but its file system and logs. Its steps:
//
//  1. another host is found, and makes ready: image, root file system
//  2. the record says that it leaves
//  3. its process is stopped; its claims stay
//  4. record and claims become the other host's, one transaction
//  5. what is left here is removed
//
// and there its process is started. Cut before 4, this host starts it again; after it, the other one does: never both, for
// the record is of one host.
func (c *Containers) move(ctx context.Context, r *state.Container) (nereid.Host, error) {
	ctx = nereid.WithAccount(ctx, r.Account)
	if why := c.stays(r); why != "" {
		return "", errConflict("%s", why)
	}
	to, err := c.findRoom(ctx, r)
	if err != nil {
		return "", err
	}
	defer c.placement.settle(r.Account, movingID(r.ID))
	ctx = context.WithoutCancel(ctx)
	c.logger(keyOf(r)).Info("container leaves", zap.String("to", string(to)))
	if err := c.beginLeaving(ctx, r); err != nil {
		return "", err
	}
	c.endLeaving(ctx, r)
	if err := c.handOver(ctx, r, to); err != nil {
		c.stay(ctx, r)
		return "", err
	}
	return to, nil
}

// movingID stands for a container that moves where room is kept for it: it is counted elsewhere still.
func movingID(id nereid.ContainerID) nereid.ContainerID { return "moving " + id }

// moveOrder is the order of a container that is there already.
func moveOrder(r *state.Container) Order {
	own := r.Clone()
	return Order{ID: movingID(r.ID), Request: backend.ContainerCreateConfig{Name: r.Name, Config: own.Config, HostConfig: own.HostConfig}}
}

// findRoom finds a host for a container and has it make ready. Room is kept until settle.
func (c *Containers) findRoom(ctx context.Context, r *state.Container) (nereid.Host, error) {
	o := moveOrder(r)
	refused := []snapshot.Refused{{Host: c.Host, Why: "the container is to leave it"}}
	for {
		req, err := c.request(ctx, &o.Request)
		if err != nil {
			return "", err
		}
		req.Image, req.Refused = r.ImageID, refused
		host, err := c.placement.reserve(req, o)
		if err != nil {
			return "", err
		}
		err = c.Peers.PrepareOn(ctx, host, r.ID)
		if err == nil {
			return host, nil
		}
		c.placement.settle(r.Account, o.ID)
		if len(refused) == maxPlaceTries || ctx.Err() != nil {
			return "", err
		}
		why := err.Error()
		var no *Refusal
		if errors.As(err, &no) {
			why = no.Why
		}
		refused = append(refused, snapshot.Refused{Host: host, Why: why})
	}
}

// prepareKept is how long room is kept for a container that is to come: its stop may take that long.
const prepareKept = 2 * time.Minute

// PrepareHere makes ready for a container of another host that is to move here. It refuses with a *Refusal.
func (c *Containers) PrepareHere(ctx context.Context, id nereid.ContainerID) error {
	r, ok := c.State.View().Container(nereid.AccountFrom(ctx), id)
	if !ok {
		return errNoSuchContainer(string(id))
	}
	if r.Host == c.Host {
		return nil
	}
	o := moveOrder(r)
	if _, err := c.checkRequest(&o.Request); err != nil {
		return &Refusal{Host: c.Host, Why: err.Error()}
	}
	req, err := c.request(ctx, &o.Request)
	if err != nil {
		return err
	}
	if err := c.placement.reserveHere(req, o); err != nil {
		return err
	}
	c.later.after(prepareKept, func(context.Context) { c.placement.settle(r.Account, o.ID) })
	if err := c.prepare(ctx, r); err != nil {
		return &Refusal{Host: c.Host, Why: err.Error()}
	}
	return nil
}

// prepare makes a container's directory and root file system here. What has no record of this host's is removed when the
// daemon starts next.
func (c *Containers) prepare(ctx context.Context, r *state.Container) error {
	img, ok := c.State.View().Image(r.Account, r.ImageID)
	if !ok {
		return errConflict("its image %s is not in the catalogue any more", r.Image)
	}
	if _, err := c.images.Bring(ctx, img); err != nil {
		return err
	}
	ctx, cancel := work(ctx)
	defer cancel()
	if err := os.MkdirAll(c.dir(keyOf(r)), 0o710); err != nil {
		return err
	}
	return c.Runtime.Prepare(ctx, c.baseSpec(r))
}

// beginLeaving has the record say that the container leaves, and sends its stop signal.
func (c *Containers) beginLeaving(ctx context.Context, r *state.Container) error {
	return c.locked(ctx, r, func(now *state.Container) error {
		if !up(now) {
			return errConflict("it has ended")
		}
		ctx, cancel := work(ctx)
		defer cancel()
		l := c.live.of(keyOf(now))
		l.alarm.cancel()
		next, err := c.transit(ctx, keyOf(now), func(r *state.Container) ([]state.Op, error) {
			r.Leaving = true
			return nil, nil
		})
		if err != nil {
			return err
		}
		l.leaving, l.cancelled = true, false
		if next.State.Running() {
			c.signalLeaving(ctx, next, stopSignal(next.Config))
		}
		return nil
	})
}

// signalLeaving is a signal that no user sent.
func (c *Containers) signalLeaving(ctx context.Context, r *state.Container, sig syscall.Signal) {
	if err := c.Runtime.Kill(ctx, keyOf(r), int(sig)); err != nil && !processGone(err) {
		c.logger(keyOf(r)).Warn("container that is to leave not signalled", zap.Error(err))
	}
	if r.State.Status == state.StatusPaused {
		_ = c.Runtime.Resume(ctx, keyOf(r)) // else SIGKILL ends it
	}
}

// endLeaving waits for the end of a container that leaves, and kills it when its grace is over.
func (c *Containers) endLeaving(ctx context.Context, r *state.Container) {
	if !r.State.Running() {
		return
	}
	_, grace, err := stopWay(r.Config, container.StopOptions{})
	if err == nil && c.awaitEnd(ctx, r, grace) == nil {
		return
	}
	c.signalLeaving(ctx, r, syscall.SIGKILL)
	_ = c.awaitEnd(ctx, r, killWait) // handOver looks
}

// handOver gives a container whose process has ended to another host, with all that it claims.
func (c *Containers) handOver(ctx context.Context, r *state.Container, to nereid.Host) error {
	return c.locked(ctx, r, func(now *state.Container) error {
		ctx, cancel := work(ctx)
		defer cancel()
		for try := 1; ; try++ {
			if !now.Leaving || now.State.Status != state.StatusRestarting {
				return errConflict("it is %s", now.State.Status)
			}
			_, err := c.State.Commit(ctx, c.handOverOps(now, to)...)
			if err == nil {
				break
			}
			if !overtaken(err) || try == maxTransitTries {
				return fmt.Errorf("hand container %s over to host %s: %w", now.Name, to, err)
			}
			var ok bool
			if now, ok = c.State.View().Container(now.Account, now.ID); !ok {
				return errNoSuchContainer(string(r.ID))
			}
		}
		c.logger(keyOf(now)).Info("container handed over", zap.String("to", string(to)))
		if err := c.discardHost(ctx, keyOf(now)); err != nil {
			c.logger(keyOf(now)).Error("remains of a container that moved away not removed", zap.Error(err))
		}
		c.execs.forget(keyOf(now))
		c.live.forget(keyOf(now))
		return nil
	})
}

// handOverOps make a container and what it claims another host's. The old record goes first: who watches sees the
// container gone for no moment.
func (c *Containers) handOverOps(now *state.Container, to nereid.Host) []state.Op {
	next := now.Clone()
	next.Rev, next.Host, next.From, next.Leaving = 0, to, c.Host, false
	ops := []state.Op{state.Remove(now), state.Create(next)}
	v := c.State.View()
	for _, ep := range now.Networks {
		for _, p := range []string{ep.Address.Addr().String(), ep.Address6.Addr().String()} {
			if a, ok := v.Address(ep.Network, p); ok && a.Container == now.ID {
				own := *a
				own.Host = to
				ops = append(ops, state.Update(&own))
			}
		}
	}
	seen := map[portKey]bool{}
	for _, p := range now.Ports {
		k := portKey{p.Proto, p.HostPort}
		rec, ok := v.Port(k.proto, k.port)
		if !ok || seen[k] {
			continue
		}
		seen[k] = true
		own := rec.Clone()
		for i := range own.Claims {
			if own.Claims[i].Container == now.ID {
				own.Claims[i].Host = to
			}
		}
		ops = append(ops, state.Update(own))
	}
	return ops
}

// stay has a container that did not get away go on here.
func (c *Containers) stay(ctx context.Context, r *state.Container) {
	err := c.locked(ctx, r, func(now *state.Container) error {
		l := c.live.of(keyOf(now))
		l.leaving = false
		switch {
		case now.State.Status == state.StatusRestarting:
			c.scheduleRestart(keyOf(now), l)
		case !up(now):
			c.releaseStray(ctx, now)
		}
		return nil
	})
	if err != nil {
		c.logger(keyOf(r)).Warn("container that was to leave", zap.Error(err))
	}
}

// takeArrivals starts what other hosts gave to this one, until the context ends.
func (c *Containers) takeArrivals(ctx context.Context) {
	w := c.State.View().Watch(state.KindContainer)
	defer w.Close()
	if !c.awaitAdoption(ctx) {
		return
	}
	for _, r := range c.State.View().ContainersOn(c.Host) {
		c.arrive(ctx, r)
	}
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			return
		}
		for _, change := range changes {
			if r, ok := change.New.(*state.Container); ok && r != nil && change.Old == nil {
				c.arrive(ctx, r)
			}
		}
	}
}

// arrive schedules the start of a container that has come, unless that is done.
func (c *Containers) arrive(ctx context.Context, r *state.Container) {
	if r.Host != c.Host || r.From == "" || r.State.Status != state.StatusRestarting {
		return
	}
	unlock, err := c.locks.lock(ctx, keyOf(r))
	if err != nil {
		return
	}
	defer unlock()
	if l := c.live.of(keyOf(r)); l.alarm == nil {
		l.alarm = c.later.after(0, func(ctx context.Context) { c.comeBack(ctx, keyOf(r)) })
	}
}

// settledPaths has a record, which is the caller's own, name the places where this host has what is the container's. It tells
// whether it named others.
func (c *Containers) settledPaths(r *state.Container) (changed bool) {
	set := func(path *string, to string) {
		changed = changed || *path != to
		*path = to
	}
	if r.HostConfig.LogConfig.Type == defaultLogDriver {
		set(&r.LogPath, c.logPath(keyOf(r)))
	}
	for i, m := range r.Mounts {
		if v, ok := c.State.View().Volume(r.Account, m.Name); ok && m.Type == string(mount.TypeVolume) {
			set(&r.Mounts[i].Source, c.volumes.mountpoint(v))
		}
	}
	return changed
}

// settleIn starts a container that moved here, or was to move away, and tries again as long as it takes. The container's
// lock is held.
func (c *Containers) settleIn(ctx context.Context, r *state.Container) {
	key, l := keyOf(r), c.live.of(keyOf(r))
	err := c.prepare(ctx, r)
	if err == nil && c.settledPaths(r.Clone()) {
		r, err = c.transit(ctx, key, func(r *state.Container) ([]state.Op, error) {
			c.settledPaths(r)
			return nil, nil
		})
	}
	if err == nil {
		err = c.start(ctx, r, startKind{})
	}
	c.placement.settle(key.Account, movingID(key.ID))
	if err == nil {
		return
	}
	c.logger(key).Warn("container that moves not started, trying again", zap.Error(err))
	if now, ok := c.State.View().Container(key.Account, key.ID); ok && !up(now) {
		_, err := c.transit(ctx, key, func(r *state.Container) ([]state.Op, error) {
			r.State.Status = state.StatusRestarting
			return nil, nil
		})
		if err != nil {
			c.logger(key).Error("container that moves stays ended", zap.Error(err))
		}
	}
	l.backoff = nextBackoff(l.backoff, 0)
	c.scheduleRestart(key, l)
}
