package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// Waits between tries to watch again, doubling: an etcd that restarts is back within a second, one that lost its
// quorum should not be asked in a tight loop by a thousand hosts.
const (
	rewatchFirst = 50 * time.Millisecond
	rewatchMax   = 2 * time.Second
)

// feed keeps the view at etcd's present until the context ends, whatever happens to etcd meanwhile.
func (s *Store) feed(ctx context.Context) error {
	wait := rewatchFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := s.watch(ctx)
		if errors.Is(err, rpctypes.ErrCompacted) {
			err = s.relist(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > rewatchMax {
			wait = rewatchFirst
		}
		if err != nil {
			s.log.Warn("watch of the state broke off; trying again", zap.Error(err), zap.Duration("in", wait))
			pause(ctx, wait)
			wait = min(2*wait, rewatchMax)
		}
	}
	return nil
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// watch feeds the view from its revision on until the watch ends, which is always an error.
func (s *Store) watch(ctx context.Context) error {
	// A member cut off from the leader must not leave us believing that nothing happens.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	from := s.view.Revision() + 1
	for resp := range s.client.Watch(ctx, root, clientv3.WithPrefix(), clientv3.WithRev(int64(from))) {
		if err := resp.Err(); err != nil {
			return err
		}
		s.learn(resp.Events)
		if resp.IsProgressNotify() {
			s.view.learn(Revision(resp.Header.Revision), nil)
		}
	}
	return cmp.Or(ctx.Err(), errors.New("the watch ended"))
}

// learn brings watched events into the view, revision by revision.
func (s *Store) learn(events []*clientv3.Event) {
	for len(events) > 0 {
		rev := events[0].Kv.ModRevision
		n := slices.IndexFunc(events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != rev })
		if n < 0 {
			n = len(events)
		}
		if Revision(rev) > s.view.Revision() { // else it was a transaction of ours, and is in
			s.view.learn(Revision(rev), s.changes(events[:n]))
		}
		events = events[n:]
	}
}

func (s *Store) changes(events []*clientv3.Event) []change {
	out := make([]change, 0, len(events))
	for _, e := range events {
		key := string(e.Kv.Key)
		if e.Type == clientv3.EventTypeDelete {
			if r := newRecord(key); r != nil {
				out = append(out, change{key: key, kind: r.kind()})
			}
			continue
		}
		c, err := stored(e.Kv)
		if err != nil { // one bad record must not stop the fleet's; what the view has of it stays
			s.log.Error("a record of the state cannot be read; it is left out", zap.String("key", key), zap.Error(err))
			continue
		}
		if c.rec != nil || c.event != nil {
			out = append(out, c)
		}
	}
	return out
}

// stored is a key's content as a change; one without record and event for a key of no kind we know.
func stored(kv *mvccpb.KeyValue) (change, error) {
	key := string(kv.Key)
	rec, event, err := decode(key, kv.Value, Revision(kv.ModRevision))
	if err != nil {
		return change{}, err
	}
	c := change{key: key, event: event}
	if rec != nil {
		c.rec, c.kind = rec, rec.kind()
	}
	return c, nil
}

// pageSize is how many keys are read at once when all are: some 20 MB. etcd counts all that follow for every page, so
// many small ones cost the square.
const pageSize = 5000

// relist reads all there is and brings the difference into the view, deletions included, so that watchers miss
// nothing although what happened in between is lost to compaction.
func (s *Store) relist(ctx context.Context) error {
	var decoders errgroup.Group
	decoders.SetLimit(runtime.GOMAXPROCS(0))
	var pages []*[]change
	rev, err := s.eachPage(ctx, func(kvs []*mvccpb.KeyValue) {
		page := new([]change)
		pages = append(pages, page)
		decoders.Go(func() (err error) {
			*page, err = storedAll(kvs)
			return err
		})
	})
	if err := errors.Join(err, decoders.Wait()); err != nil {
		return err
	}
	var all []change
	for _, p := range pages {
		all = append(all, *p...)
	}
	s.view.reconcile(rev, all)
	return nil
}

func storedAll(kvs []*mvccpb.KeyValue) ([]change, error) {
	out := make([]change, 0, len(kvs))
	for _, kv := range kvs {
		c, err := stored(kv)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// eachPage reads all keys as of one revision, which it returns.
func (s *Store) eachPage(ctx context.Context, do func([]*mvccpb.KeyValue)) (Revision, error) {
	rev, from := int64(0), root
	for {
		resp, err := s.page(ctx, from, rev)
		if err != nil {
			return 0, fmt.Errorf("read the state: %w", err)
		}
		do(resp.Kvs)
		rev = cmp.Or(rev, resp.Header.Revision)
		if !resp.More {
			return Revision(rev), nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// page reads keys from one on, all pages at the revision of the first (0: the present).
func (s *Store) page(ctx context.Context, from string, rev int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(root)),
		clientv3.WithLimit(pageSize), clientv3.WithRev(rev))
	if err != nil {
		return nil, classify(err)
	}
	return resp, nil
}

// reconcile makes the view equal to a listing as of rev, unless it is past it already.
func (v *View) reconcile(rev Revision, listing []change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if rev <= v.rev {
		return
	}
	v.applyLocked(rev, v.differenceLocked(listing))
	v.catchUpLocked()
}

func (v *View) differenceLocked(listing []change) []change {
	var out, events []change
	listed := make(map[string]bool, len(listing))
	last := v.events.last()
	for _, c := range listing {
		switch {
		case c.event != nil && c.event.Rev > last:
			events = append(events, c)
		case c.rec != nil:
			listed[c.key] = true
			if old := v.records[c.key]; old == nil || old.meta().Rev != c.rec.meta().Rev {
				out = append(out, c)
			}
		}
	}
	for key, old := range v.records {
		if !listed[key] {
			out = append(out, change{key: key, kind: old.kind()})
		}
	}
	slices.SortFunc(out, func(a, b change) int { return cmp.Compare(changeRev(a), changeRev(b)) })
	slices.SortFunc(events, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.event.Rev, b.event.Rev), strings.Compare(a.key, b.key))
	})
	return append(out, events...)
}

// changeRev orders a listing's changes by age, deletions, whose age is lost, before all.
func changeRev(c change) Revision {
	if c.rec == nil {
		return 0
	}
	return c.rec.meta().Rev
}
