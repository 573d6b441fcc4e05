package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	// pathRound is how often the way to each other host is tried, and pathAgain how soon after something changed: what is
	// wrong is told when it was seen twice.
	pathRound = 15 * time.Second
	pathAgain = 2 * time.Second
	// pathPause is between two tries, so that a thousand hosts make a host send twenty packets a second and not more.
	pathPause = 50 * time.Millisecond
	// pathLimit is how many ways are tried at once: one that is bad takes seconds.
	pathLimit = 8
	// pathTold bounds how many hosts a host's record names.
	pathTold = 16
)

// paths is what this host found out of its ways to the others by the fabric.
type paths struct {
	mu   sync.Mutex
	told *nereid.DataPath // nil: nothing was tried yet
	seen map[nereid.Host]string
}

// current is what the record of this host says.
func (p *paths) current() *nereid.DataPath {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told
}

// found takes what a round found out. It tells whether the record has to change, and whether to look again soon.
func (p *paths) found(mtu int, trouble map[nereid.Host]string) (changed, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if mtu == 0 && p.told != nil {
		mtu = p.told.MTU // nobody was there to try
	}
	next := &nereid.DataPath{MTU: mtu}
	for _, h := range slices.Sorted(maps.Keys(trouble)) {
		if p.seen[h] != trouble[h] {
			again = true
			if p.told == nil || p.told.Trouble[h] == "" {
				continue // once is chance
			}
		}
		if next.More++; next.More <= pathTold {
			if next.Trouble == nil {
				next.Trouble = map[nereid.Host]string{}
			}
			next.Trouble[h] = trouble[h]
		}
	}
	next.More = max(0, next.More-pathTold)
	p.seen = trouble
	if p.told != nil && p.told.MTU == next.MTU && p.told.More == next.More && maps.Equal(p.told.Trouble, next.Trouble) {
		return false, again
	}
	p.told = next
	return true, again
}

// tryPaths tries the ways to the other hosts, and has this host's record say what is wrong with them, until the context ends.
func (h *Hosts) tryPaths(ctx context.Context) error {
	w := h.State.View().Watch(state.KindHost)
	defer w.Close()
	for ctx.Err() == nil {
		wait := pathRound
		if len(h.State.View().Members()) > 1 && h.tryRound(ctx) {
			wait = pathAgain
		}
		waiting, cancel := context.WithTimeout(ctx, wait)
		for !h.otherTries(waiting, w) {
		}
		cancel()
	}
	return nil
}

// tryRound tells whether to look again soon.
func (h *Hosts) tryRound(ctx context.Context) (again bool) {
	mtu, trouble := h.tryAll(ctx)
	if ctx.Err() != nil {
		return false
	}
	changed, again := h.paths.found(mtu, trouble)
	if !changed {
		return again
	}
	h.Log.Info("ways to other hosts by the fabric", zap.Int("mtu", mtu), zap.Any("trouble", trouble))
	if err := h.publish(ctx); err != nil && ctx.Err() == nil {
		h.Log.Warn("this host's record does not show its ways to the others", zap.Error(err))
	}
	return again
}

// otherTries waits until there is another host to try the way to, or the context ends.
func (h *Hosts) otherTries(ctx context.Context, w *state.Watcher) bool {
	changes, err := w.Next(ctx)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(changes, func(c state.Change) bool {
		was, _ := c.Old.(*state.Host)
		is, _ := c.New.(*state.Host)
		return is != nil && is.Name != h.Host && is.DataPath != nil && (was == nil || was.DataPath == nil)
	})
}

// tryAll tries the ways to the hosts that are there and try theirs, too: those that do not yet may not have the link.
func (h *Hosts) tryAll(ctx context.Context) (mtu int, trouble map[nereid.Host]string) {
	trouble = map[nereid.Host]string{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(pathLimit)
	pace := rate.NewLimiter(rate.Every(pathPause), 1)
	for _, other := range h.State.View().Hosts() {
		at := h.addressOf(other.Name)
		if other.Name == h.Host || other.DataPath == nil || !at.IsValid() || h.Fleet.State(other.Name) != nereid.HostAlive {
			continue
		}
		if pace.Wait(ctx) != nil {
			break
		}
		g.Go(func() error {
			way, err := h.Network.Probe(ctx, at)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				trouble[other.Name] = err.Error()
				return nil
			}
			mtu = way.Full
			if s := describeWay(way); s != "" {
				trouble[other.Name] = s
			}
			return nil
		})
	}
	_ = g.Wait() // never fails
	return mtu, trouble
}

// describeWay says what is wrong with a way; nothing is "".
func describeWay(w network.Way) string {
	switch {
	case w.Passes == 0:
		return fmt.Sprintf("no answer over UDP %d", network.VXLANPort)
	case w.Passes < w.Full:
		return fmt.Sprintf("mtu %d < %d", w.Passes, w.Full)
	}
	return ""
}
