package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// The lease outlives a restart of the daemon or of etcd, so that these do not make the host vanish; that a host is
// dead is for gossip to say, within seconds. A third of it lets two renewals fail.
const (
	leaseTTL   = 30 * time.Second
	leaseRenew = leaseTTL / 3
)

// lease is this host's lease and the record that lives by it.
type lease struct {
	mu sync.Mutex
	id clientv3.LeaseID
	// host is this host's record as last stored, nil before the first time and when it was deleted.
	host *Host
}

func (l *lease) current() clientv3.LeaseID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id
}

// note remembers what a transaction made of this host's record.
func (l *lease) note(self nereid.Host, changes []change) {
	key := (&Host{Name: self}).key()
	for _, c := range changes {
		if c.key == key {
			host, _ := c.rec.(*Host)
			l.mu.Lock()
			l.host = host
			l.mu.Unlock()
		}
	}
}

// leaseFor binds this host's own record to its lease.
func (s *Store) leaseFor(r Record) []clientv3.OpOption {
	if h, ok := r.(*Host); ok && h.Name == s.cfg.Host {
		return []clientv3.OpOption{clientv3.WithLease(s.lease.current())}
	}
	return nil
}

func (s *Store) grantLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Grant(ctx, int64(leaseTTL/time.Second))
	if err != nil {
		return fmt.Errorf("take the lease of host %q: %w", s.cfg.Host, classify(err))
	}
	s.lease.mu.Lock()
	s.lease.id = resp.ID
	s.lease.mu.Unlock()
	return nil
}

// keepLease renews the lease until the context ends, and takes a new one when it was lost.
func (s *Store) keepLease(ctx context.Context) error {
	for ctx.Err() == nil {
		err := s.renewLease(ctx)
		s.mute.Store(err != nil)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("lease of the host was not renewed; trying again", zap.Error(err))
			pause(ctx, rewatchMax)
			continue
		}
		pause(ctx, leaseRenew)
	}
	return nil
}

func (s *Store) renewLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := s.client.KeepAliveOnce(ctx, s.lease.current())
	if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return err
	}
	s.log.Warn("lease of the host was lost; taking a new one")
	if err := s.grantLease(ctx); err != nil {
		return err
	}
	return s.rewriteHost(ctx)
}

// rewriteHost stores the host's record again, under the new lease.
func (s *Store) rewriteHost(ctx context.Context) error {
	s.lease.mu.Lock()
	host := s.lease.host
	s.lease.mu.Unlock()
	if host == nil {
		return nil
	}
	_, err := s.commit(ctx, []Op{Put(host.Clone())}) // whatever Writable says: it is this that finds out
	return err
}
