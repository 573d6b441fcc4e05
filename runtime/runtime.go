// Package runtime runs the containers of one host through containerd and its shims.
//
// It knows nothing of the state, the fleet or names: it is told what to run and reports what ended. What runs
// survives it: a runtime that starts again adopts the tasks, their stdio and their exec'd processes.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime/spec"
)

// Config of a Runtime.
type Config struct {
	Root         string // containerd's data, below the data root
	State        string // containerd's state, FIFOs and stdio journals, below the exec root
	Address      string // of an existing containerd; empty: embedded
	Shim         string // path of nereid-shim, or of the containerd-shim-runc-v2 it starts
	Runc         string // path of runc
	Init         string // path of the static init for --init; empty: --init is refused
	CgroupParent string // e.g. /nereid-h1
	// Runtimes are programs with runc's command line that users may choose, by name. "runc" and the name of runc's shim are
	// always there.
	Runtimes    map[string]string
	IDMap       nereid.IDMap // of containers in user namespaces; the zero value: there are none
	CDISpecDirs []string     // of the specifications of devices, later ones win; none: no such devices
	Log         *zap.Logger  // of what no caller can be told; nil: nothing is logged
}

func (c Config) validate() error {
	var errs []error
	for name, value := range map[string]string{"Root": c.Root, "State": c.State, "Shim": c.Shim, "Runc": c.Runc} {
		if !filepath.IsAbs(value) {
			errs = append(errs, fmt.Errorf("%s must be an absolute path, is %q: %w", name, value, errdefs.ErrInvalidArgument))
		}
	}
	for name, path := range c.Runtimes {
		if isRunc(name) || name == "" || path == "" {
			errs = append(errs, fmt.Errorf("runtime %q: %q: a name that is not taken and a path: %w", name, path, errdefs.ErrInvalidArgument))
		}
	}
	if c.Root == c.State {
		errs = append(errs, fmt.Errorf("Root and State must differ: %w", errdefs.ErrInvalidArgument))
	}
	return errors.Join(errs...)
}

// Handler is told what happens. Calls come one after another per container; they may block, and hold back only that
// container. A container's output is whole in its log and with its attached clients before Exited is called. The context
// ends with the runtime; until DeleteTask the next runtime tells of the same end again.
type Handler interface {
	Exited(context.Context, Exit)
	OOM(context.Context, Key)
}

// Runtime: see the interface in pkg/engine for the contract of each method the engine uses. Its methods may be
// called between Start and Close.
type Runtime struct {
	cfg     Config
	handler Handler
	log     *zap.Logger
	host    spec.Host

	embedded *embedded // nil: an existing containerd
	client   *containerd.Client
	service  tasksapi.TasksClient
	rootfs   *rootfsStore

	life context.Context // ends with Close; every goroutine ends with it
	end  context.CancelFunc
	work sync.WaitGroup

	discarded chan struct{} // room for one: a root file system was removed since the last sweep

	mu    sync.Mutex
	tasks map[Key]*task
	gates map[Key]*gate
}

// New makes a Runtime; it starts nothing.
func New(cfg Config, h Handler) (*Runtime, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	host, err := spec.LocalHost()
	if err != nil {
		return nil, err
	}
	if err := checkIDMap(cfg.IDMap); err != nil {
		return nil, err
	}
	host.IDMap = cfg.IDMap
	host.Quota = sync.OnceValue(cfg.canLimit)
	host.Runtimes, host.CDI = cfg.runtimes(), spec.NewCDI(cfg.CDISpecDirs)
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	r := &Runtime{
		cfg: cfg, handler: h, log: cfg.Log, host: host,
		discarded: make(chan struct{}, 1), tasks: map[Key]*task{}, gates: map[Key]*gate{},
	}
	r.life, r.end = context.WithCancel(context.Background())
	return r, nil
}

// Start boots or connects to containerd and adopts. When it returns, every task that survived is known. What ended
// while nobody looked is reported to the Handler from then on, each once.
func (r *Runtime) Start(ctx context.Context) (retErr error) {
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, r.Close())
		}
	}()
	if err := bridgeLog(r.log); err != nil {
		return err
	}
	found, err := r.survey(ctx)
	if err != nil {
		return fmt.Errorf("look for what survived: %w", err)
	}
	if err := r.connect(ctx, found); err != nil {
		return err
	}
	r.work.Go(func() { r.host.X32() }) // takes a moment, which the first container need not wait for
	r.work.Go(r.followEvents)
	if r.embedded != nil {
		r.work.Go(r.sweepSnapshots)
	}
	return r.adopt(ctx, found)
}

func (r *Runtime) connect(ctx context.Context, found []*survivor) (err error) {
	if r.cfg.Address == "" {
		keys := make([]Key, len(found))
		for i, v := range found {
			keys[i] = v.Key
		}
		if r.embedded, err = bootEmbedded(ctx, r.cfg.Root, r.cfg.State, keys); err != nil {
			return fmt.Errorf("start containerd: %w", err)
		}
		r.client, err = r.embedded.client()
	} else {
		r.client, err = containerd.New(r.cfg.Address, containerd.WithTimeout(10*time.Second))
	}
	if err != nil {
		return fmt.Errorf("connect to containerd: %w", err)
	}
	r.service = r.client.TaskService()
	r.rootfs = newRootfsStore(r.client, filepath.Join(r.cfg.State, "rootfs"))
	return nil
}

// Close stops looking after the containers, and the embedded containerd; what runs goes on. It may be called twice.
func (r *Runtime) Close() error {
	r.end()
	r.work.Wait()
	r.mu.Lock()
	tasks := r.tasks
	r.tasks = map[Key]*task{}
	r.mu.Unlock()
	var errs []error
	for _, t := range tasks {
		errs = append(errs, t.detach())
	}
	if r.client != nil {
		errs = append(errs, r.client.Close())
		r.client = nil
	}
	if r.embedded != nil {
		errs = append(errs, r.embedded.close())
		r.embedded = nil
	}
	errs = append(errs, r.dropCgroupParent())
	return errors.Join(errs...)
}

// Client of containerd, for who keeps the images. Its namespaces are the accounts.
func (r *Runtime) Client() *containerd.Client { return r.client }

// inNamespace gives the context what containerd calls need.
func inNamespace(ctx context.Context, key Key) context.Context {
	return namespaces.WithNamespace(ctx, string(key.Account))
}

// cleanupTimeout bounds what must run even when the caller has gone.
const cleanupTimeout = 30 * time.Second

func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}
