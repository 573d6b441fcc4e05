package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

const (
	// tidyEvery bounds how far etcd and the ring go over the limits on events and history.
	tidyEvery = 10 * time.Second
	// compactEvery and compactAfter: each revision of history costs memory in etcd's index and, with a container's record,
	// some 8 KB of its database, which does not shrink again. All a watcher needs of it is the time of a restart.
	compactEvery = 5 * time.Minute
	compactAfter = 4000
	// compactMargin revisions stay, for those who are just reconnecting or reading page by page.
	compactMargin = 1000
)

// tidy trims events and compacts history until the context ends. Every host of a fleet does; what another has done
// already is no harm.
func (s *Store) tidy(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	compacted := time.Now()
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return nil
		case now = <-tick.C:
		}
		if err := s.trimEvents(ctx, now); err != nil && ctx.Err() == nil {
			s.log.Warn("old events were not removed; trying again", zap.Error(err))
		}
		if due := now.Sub(compacted) >= compactEvery; due || s.uncompacted() > compactAfter {
			if err := s.compact(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("history of the state was not compacted; trying again", zap.Error(err))
				continue
			}
			compacted = now
		}
	}
}

func (s *Store) uncompacted() int64 { return int64(s.view.Revision()) - s.compacted.Load() }

// compact forgets history up to a margin.
func (s *Store) compact(ctx context.Context) error {
	rev := int64(s.view.Revision()) - compactMargin
	if rev <= s.compacted.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := s.client.Compact(ctx, rev)
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compact the state at revision %d: %w", rev, err)
	}
	s.compacted.Store(rev)
	return nil
}

// trimEvents removes expired events from the ring and from etcd. A failure leaves them for the next time.
func (s *Store) trimEvents(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for host, stamp := range s.view.expireEvents(now.Add(-eventAge).UnixNano()) {
		from := hostEvents(host)
		to := fmt.Sprintf("%s%020d", from, stamp+1)
		if _, err := s.client.Delete(ctx, from, clientv3.WithRange(to)); err != nil {
			return fmt.Errorf("remove events of host %q: %w", host, err)
		}
		s.view.forgetExpired(host, stamp)
	}
	return nil
}

// expireEvents drops the events stamped before a time and returns, for each host, the stamp up to which events have
// left the ring and may still be in etcd.
func (v *View) expireEvents(before int64) map[nereid.Host]int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.events.dropBefore(before)
	return maps.Clone(v.events.expired)
}

// forgetExpired tells that a host's events up to a stamp are gone from etcd.
func (v *View) forgetExpired(h nereid.Host, stamp int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.events.expired[h] == stamp {
		delete(v.events.expired, h)
	}
}
