package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// Ticks and elections are etcd's own, for members on a busy machine or some network away. A lone member does not
	// wait for them: see elect.
	tickMillis     = 100
	electionMillis = 10 * tickMillis
	// Entries of the raft log that stay in memory: these many and the ones for slow followers. A container's record is
	// some 5 kB.
	snapshotCount   = 1000
	catchUpEntries  = 200
	backendQuota    = 4 << 30 // bytes; etcd refuses writes above, and mapping it costs address space only
	keepFiles       = 2       // old segments of the log are read again at each boot
	maxTxnOps       = 1024    // a prune of some hundred containers in one transaction
	maxRequestBytes = 8 << 20
	// bootTimeout: reading 50,000 containers takes seconds, and a host that boots is busy. stopTimeout: clients on the
	// socket get five seconds to leave.
	bootTimeout = 2 * time.Minute
	stopTimeout = 30 * time.Second
)

// member is the embedded etcd.
type member struct {
	dir  string
	etcd *embed.Etcd
	lock *dirLock
	// broken gets what made etcd give up; it keeps the first. etcd would end the process otherwise.
	broken chan error
	// closing is set when etcd is being stopped.
	closing atomic.Bool
}

// startMember boots etcd over a directory that nobody else has and that is not damaged.
func startMember(ctx context.Context, cfg Config) (_ *member, retErr error) {
	if err := makeDirs(cfg); err != nil {
		return nil, err
	}
	lock, err := lockDir(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	m := &member{dir: cfg.Dir, lock: lock, broken: make(chan error, 1)}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, m.close())
		}
	}()
	if err := checkData(cfg.Dir); err != nil {
		return nil, err
	}
	if err := m.boot(m.config(cfg)); err != nil {
		return nil, err
	}
	if err := keepToOwner(cfg.Socket); err != nil {
		return nil, err
	}
	if cfg.Serve != nil {
		cfg.Serve(m.handlers(cfg.Log.Named("etcd")))
	}
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// keepToOwner closes the socket to others: who reaches it owns the fleet.
func keepToOwner(socket string) error {
	if socket == "" {
		return nil
	}
	return os.Chmod(socket, 0o600)
}

func makeDirs(cfg Config) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the state: %w", err)
	}
	if cfg.Socket == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Socket), 0o700); err != nil {
		return fmt.Errorf("make the directory of the state's socket: %w", err)
	}
	return nil
}

func (m *member) config(cfg Config) *embed.Config {
	c := embed.NewConfig()
	c.Name = string(cfg.Host)
	c.Dir = cfg.Dir
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(m.logger(cfg.Log))
	c.ListenPeerUrls, c.ListenClientUrls = nil, nil
	peer := url.URL{Scheme: "unix", Path: filepath.Join(cfg.Dir, "peer")} // a name in the member list; nothing listens
	if cfg.Peer != "" {
		peer = *cfg.peer
	}
	c.AdvertisePeerUrls = []url.URL{peer}
	c.AdvertiseClientUrls = []url.URL{peer}
	if cfg.Socket != "" {
		client := url.URL{Scheme: "unix", Path: cfg.Socket}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	if len(cfg.Join) > 0 {
		c.ClusterState, c.InitialCluster = embed.ClusterStateFlagExisting, initialCluster(cfg)
	}
	c.ForceNewCluster = cfg.Alone
	c.PeerTLSInfo = transport.TLSInfo{CertFile: cfg.Keys.Cert, KeyFile: cfg.Keys.Key, TrustedCAFile: cfg.Keys.CA}
	c.EnableGRPCGateway = false
	c.TickMs, c.ElectionMs = tickMillis, electionMillis
	c.SnapshotCount, c.SnapshotCatchUpEntries = snapshotCount, catchUpEntries
	c.QuotaBackendBytes = backendQuota
	c.MaxWalFiles, c.MaxSnapFiles = keepFiles, keepFiles
	c.MaxTxnOps, c.MaxRequestBytes = maxTxnOps, maxRequestBytes
	return c
}

// initialCluster names all members, this one among them.
func initialCluster(cfg Config) string {
	all := []string{string(cfg.Host) + "=" + cfg.Peer}
	for i, s := range cfg.Join {
		if s.Peer != cfg.Peer {
			all = append(all, fmt.Sprintf("%s=%s", cmp.Or(string(s.Host), fmt.Sprint("server", i)), s.Peer))
		}
	}
	return strings.Join(all, ",")
}

// logger passes etcd's warnings on, and has what etcd wants to end the process for break the member instead.
func (m *member) logger(log *zap.Logger) *zap.Logger {
	mute := func(c zapcore.Core) zapcore.Core { return quiet{c, &m.closing} }
	return log.Named("etcd").WithOptions(zap.WrapCore(mute),
		zap.WithFatalHook(breaker{m}), zap.WithPanicHook(breaker{m}))
}

// breaker ends the goroutine that gave up, after its deferred calls.
type breaker struct{ m *member }

func (b breaker) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	if why, ok := enc.Fields["error"]; ok {
		b.m.fail(fmt.Errorf("%s: %v", e.Message, why))
	} else {
		b.m.fail(errors.New(e.Message))
	}
	runtime.Goexit()
}

func (m *member) fail(err error) {
	select {
	case m.broken <- fmt.Errorf("etcd in %q gave up: %w", m.dir, err):
	default:
	}
}

// started is what became of a start of etcd.
type started struct {
	etcd *embed.Etcd
	err  error
}

// boot blocks until etcd is made. It does not end with a context, for a half-made etcd cannot be stopped: one that hangs
// is left behind.
func (m *member) boot(cfg *embed.Config) error {
	select {
	case s := <-m.launch(cfg):
		if s.err != nil {
			return fmt.Errorf("start etcd in %q: %w", m.dir, s.err)
		}
		m.etcd = s.etcd
		return nil
	case err := <-m.broken:
		return fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	case <-time.After(bootTimeout):
		return fmt.Errorf("start etcd in %q: not up after %v: %w", m.dir, bootTimeout, errdefs.ErrUnavailable)
	}
}

// launch starts etcd in a goroutine of its own, which etcd may panic in or, by way of the breaker, leave; nothing is
// sent then.
func (m *member) launch(cfg *embed.Config) <-chan started {
	result := make(chan started, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				m.fail(fmt.Errorf("panic: %v", p))
			}
		}()
		e, err := embed.StartEtcd(cfg)
		result <- started{e, err}
	}()
	return result
}

// ready blocks until etcd has a leader and serves.
func (m *member) ready(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go m.elect(ctx)
	select {
	case <-m.etcd.Server.ReadyNotify():
		return nil
	case err := <-m.broken:
		return fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	case <-m.etcd.Server.StopNotify():
		return m.stopped()
	case <-ctx.Done():
		return fmt.Errorf("etcd in %q is not ready: %w: %w", m.dir, ctx.Err(), errdefs.ErrUnavailable)
	}
}

func (m *member) client() *clientv3.Client { return v3client.New(m.etcd.Server) }

// watchOver blocks until the context ends, or etcd does, which is an error.
func (m *member) watchOver(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-m.broken:
		return fmt.Errorf("%w: %w", err, errdefs.ErrInternal)
	case err := <-m.etcd.Err():
		return errors.Join(m.stopped(), err)
	case <-m.etcd.Server.StopNotify():
		return m.stopped()
	}
}

// stopped says why etcd stopped by itself: the others took it out, or nobody knows.
func (m *member) stopped() error {
	if m.etcd.Server.IsIDRemoved(uint64(m.etcd.Server.MemberID())) {
		return errdefs.ErrPermissionDenied.WithMessage("this host was removed from the fleet: it may join again with an empty --data-root")
	}
	return fmt.Errorf("etcd in %q stopped: %w", m.dir, errdefs.ErrUnavailable)
}

// close stops etcd and lets go of the directory.
func (m *member) close() error {
	return errors.Join(m.stop(), m.lock.release())
}

// stop stops etcd. A broken one may not come to its end; it is left behind then.
func (m *member) stop() error {
	if m.etcd == nil {
		return nil
	}
	m.closing.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.etcd.Close()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("etcd in %q did not stop in %v: %w", m.dir, stopTimeout, errdefs.ErrUnavailable)
	}
}
