// Package state is the replicated truth of the fleet: typed records in etcd, changed in transactions that claim and
// release together, and read from a view in memory that a watch feeds.
//
// # Keys
//
// Every record is one key with a JSON value. Parts are path-escaped, so a name never reaches into another's prefix.
//
//	/nereid/schema                               the version of this layout, see schemaVersion
//	/nereid/v1/accounts/ACCOUNT
//	/nereid/v1/hosts/HOST                        bound to the host's lease
//	/nereid/v1/containers/HOST/ACCOUNT/ID        written by HOST alone
//	/nereid/v1/names/ACCOUNT/NAME                claims a container name
//	/nereid/v1/networks/ACCOUNT/ID
//	/nereid/v1/networknames/ACCOUNT/NAME         claims a network name
//	/nereid/v1/addresses/NETWORK/ADDRESS         claims an address; unique in the network whoever's container has it
//	/nereid/v1/ports/PROTO/PORT                  claims a host port in the whole fleet
//	/nereid/v1/volumes/ACCOUNT/NAME
//	/nereid/v1/images/ACCOUNT/ID
//	/nereid/v1/tags/ACCOUNT/REF
//	/nereid/v1/cnszones/APEX                     what operators said of a DNS zone
//	/nereid/v1/cnskeys/APEX/TAG                  keys that sign zones; TAG: 4 hex digits
//	/nereid/v1/tsigkeys/NAME                     keys shared with other name servers
//	/nereid/v1/namings/ACCOUNT/ID                what was said of a container's names at run time
//	/nereid/v1/absences/HOST                     hosts that cannot be reached
//	/nereid/v1/voids/ACCOUNT/ID                  containers that were given up before they were; for an hour
//	/nereid/v1/members/HOST                      a host that joined, until it is removed
//	/nereid/v1/jointokens/HASH                   what a new host shows; the secret's SHA-256
//	/nereid/v1/events/HOST/TIME/ACCOUNT          TIME: 20 digits of nanoseconds, growing with each event of HOST
//
// A host that keeps only its own part of a large fleet watches containers/HOST/ and, for each network its containers
// are on, networks/ACCOUNT/ID and addresses/NETWORK/ (an address names the host that has it). Names, volumes, images
// and tags are prefixes by account. Host-first keys of events let each host's old events go in one range.
package state

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Config says where etcd is.
type Config struct {
	Dir       string      // of the embedded server, below the data root
	Socket    string      // path of the unix socket the embedded server listens on, below the exec root; empty: none
	Endpoints []string    // of an existing cluster; when set nothing is embedded
	TLS       *tls.Config // for Endpoints; nil: none
	// Peer is https://ADDR:PORT, where the other servers reach the embedded one, and Keys are its files for that. Empty:
	// it never has others.
	Peer string
	Keys Keys
	// Join are the servers of the cluster that the embedded one joins while Dir is empty, itself among them. Nil: it
	// begins a cluster of its own.
	Join []Server
	// Alone has the embedded one go on with what it has as the only server, whoever else there was: for a cluster that
	// lost its quorum for good.
	Alone bool
	// Serve is given, before Open returns, what is to answer other servers and the hosts that have none. Nil: nothing is.
	Serve func(servers, hosts http.Handler)
	// Events is how many events are kept, 0: DefaultEvents. In a fleet the smallest number counts: what one host removes
	// is gone.
	Events int
	Host   nereid.Host // whose lease and records this process writes
	Log    *zap.Logger // nil: none

	peer *url.URL // Peer
}

// Keys are PEM files: a certificate with its key, and the certificate authority of the others. They are read again for
// each connection.
type Keys struct{ Cert, Key, CA string }

func (c Config) validate() error {
	var errs []error
	if c.Host == "" {
		errs = append(errs, errors.New("state: no host name given"))
	}
	if len(c.Endpoints) == 0 && c.Dir == "" {
		errs = append(errs, errors.New("state: neither a directory nor endpoints of etcd given"))
	}
	if _, err := url.Parse(c.Peer); err != nil {
		errs = append(errs, fmt.Errorf("state: peer URL %q: %w", c.Peer, err))
	}
	if len(c.Socket) > maxSocketPath {
		errs = append(errs, fmt.Errorf("state: socket path %q is longer than %d bytes", c.Socket, maxSocketPath))
	}
	return errors.Join(errs...)
}

// place is where the state is, as errors name it.
func (c Config) place() string {
	if len(c.Endpoints) > 0 {
		return fmt.Sprintf("%q", c.Endpoints)
	}
	return strconv.Quote(c.Dir)
}

// maxSocketPath is what sun_path holds, less its closing zero (unix(7)).
const maxSocketPath = 107

// Store is the state. Made by Open, it serves until Close.
type Store struct {
	cfg    Config
	log    *zap.Logger
	member *member // nil with an external cluster
	client *clientv3.Client
	view   *View
	clock  eventClock
	lease  lease
	// compacted is the newest revision this process has compacted at.
	compacted atomic.Int64
	// mute: the servers did not answer when the lease was last renewed.
	mute atomic.Bool
}

// requestTimeout bounds one request to etcd. A single member answers in a millisecond; a cluster that elects a leader
// needs seconds.
const requestTimeout = 10 * time.Second

// Open starts the embedded etcd or connects to the existing one, takes the host's lease, and returns when the view
// holds all there is. Damaged data is refused with an error of class errdefs.ErrDataLoss that names the directory, a
// directory in use by another process with errdefs.ErrUnavailable, and a state of a newer layout with
// errdefs.ErrFailedPrecondition. A failed Open leaves nothing behind.
func Open(ctx context.Context, cfg Config) (_ *Store, retErr error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.peer, _ = url.Parse(cfg.Peer) // validated
	s := &Store{cfg: cfg, log: cfg.Log, view: newView(cmp.Or(cfg.Events, DefaultEvents))}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, s.Close())
		}
	}()
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	err := s.load(ctx)
	// A leader that changed is told at a boot, too, of the first there is.
	for errors.Is(err, rpctypes.ErrLeaderChanged) || s.shared() && errdefs.IsUnavailable(err) {
		s.log.Warn("the state is not read; trying again", zap.Error(err))
		if pause(ctx, loadPause); ctx.Err() != nil {
			break
		}
		err = s.load(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open the state in %s: %w", cfg.place(), err)
	}
	return s, nil
}

// loadPause is the pause before other servers are asked again: they may be electing.
const loadPause = 500 * time.Millisecond

// shared tells whether the state needs hosts of the fleet beside this one, or may.
func (s *Store) shared() bool { return s.cfg.Peer != "" || s.cfg.TLS != nil }

func (s *Store) load(ctx context.Context) error {
	if err := s.checkSchema(ctx); err != nil {
		return err
	}
	if err := s.relist(ctx); err != nil {
		return err
	}
	s.clock.startAfter(s.view.lastStamp(s.cfg.Host))
	return s.grantLease(ctx)
}

func (s *Store) connect(ctx context.Context) (err error) {
	if len(s.cfg.Endpoints) > 0 {
		s.client, err = dial(s.cfg)
		return err
	}
	if s.member, err = startMember(ctx, s.cfg); err != nil {
		return err
	}
	s.client = s.member.client()
	return nil
}

// Run keeps the lease, feeds the view through etcd restarts and compactions, trims events, compacts. It blocks until
// the context ends, which is no error, or the embedded etcd fails.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.feed(ctx) })
	g.Go(func() error { return s.keepLease(ctx) })
	g.Go(func() error { return s.tidy(ctx) })
	if s.member != nil {
		g.Go(func() error { return s.member.watchOver(ctx) })
		if s.cfg.Peer != "" {
			g.Go(func() error { return s.keepSeat(ctx) })
		}
	}
	return g.Wait()
}

// Close stops what Open started. Call it after Run has returned. It may be called twice.
func (s *Store) Close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, closeClient(s.client))
		s.client = nil
	}
	if s.member != nil {
		errs = append(errs, s.member.close())
		s.member = nil
	}
	return errors.Join(errs...)
}

// View is the memory of the state. All methods may be called at once from anywhere, cost by their answer, and return
// records that nobody may change.
func (s *Store) View() *View { return s.view }
