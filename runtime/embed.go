package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/introspection"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/timeout"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/containerd/v2/plugins/services"
	"github.com/containerd/errdefs"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"golang.org/x/sys/unix"

	// The parts of containerd that run in this process; each registers itself.
	_ "github.com/containerd/containerd/v2/core/runtime/v2"
	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"
	_ "github.com/containerd/containerd/v2/plugins/diff/walking/plugin"
	_ "github.com/containerd/containerd/v2/plugins/events"
	_ "github.com/containerd/containerd/v2/plugins/gc"
	_ "github.com/containerd/containerd/v2/plugins/leases"
	_ "github.com/containerd/containerd/v2/plugins/metadata"
	_ "github.com/containerd/containerd/v2/plugins/server/grpc"
	_ "github.com/containerd/containerd/v2/plugins/server/ttrpc"
	_ "github.com/containerd/containerd/v2/plugins/services/containers"
	_ "github.com/containerd/containerd/v2/plugins/services/content"
	_ "github.com/containerd/containerd/v2/plugins/services/diff"
	_ "github.com/containerd/containerd/v2/plugins/services/events"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"
	_ "github.com/containerd/containerd/v2/plugins/services/leases"
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"
	_ "github.com/containerd/containerd/v2/plugins/services/tasks"
	_ "github.com/containerd/containerd/v2/plugins/services/version"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin"
)

// parts are the plugins that are started, whatever else is linked into the binary. There is no mount manager: root file
// systems are mounted here, and it would run the shim once more, and write to disk, for every task.
var parts = []string{
	"io.containerd.content.v1.content",
	"io.containerd.differ.v1.walking",
	"io.containerd.event.v1.exchange",
	"io.containerd.gc.v1.scheduler",
	"io.containerd.grpc.v1.containers",
	"io.containerd.grpc.v1.content",
	"io.containerd.grpc.v1.diff",
	"io.containerd.grpc.v1.events",
	"io.containerd.grpc.v1.images",
	"io.containerd.grpc.v1.introspection",
	"io.containerd.grpc.v1.leases",
	"io.containerd.grpc.v1.namespaces",
	"io.containerd.grpc.v1.snapshots",
	"io.containerd.grpc.v1.tasks",
	"io.containerd.grpc.v1.version",
	"io.containerd.lease.v1.manager",
	"io.containerd.metadata.v1.bolt",
	"io.containerd.runtime.v2.task",
	"io.containerd.server.v1.grpc",
	"io.containerd.server.v1.ttrpc",
	"io.containerd.service.v1.containers-service",
	"io.containerd.service.v1.content-service",
	"io.containerd.service.v1.diff-service",
	"io.containerd.service.v1.images-service",
	"io.containerd.service.v1.introspection-service",
	"io.containerd.service.v1.namespaces-service",
	"io.containerd.service.v1.snapshots-service",
	"io.containerd.service.v1.tasks-service",
	"io.containerd.shim.v1.manager",
	"io.containerd.snapshotter.v1.overlayfs",
	"io.containerd.warning.v1.deprecations",
}

// embedded is a containerd in this process.
type embedded struct {
	set        *plugin.Set
	root       string
	state      string
	socketDir  string
	cancelBoot context.CancelFunc
}

// shimTimeout bounds how long containerd waits for a shim's answer when it boots and when it cleans up behind one. Its own
// 2 and 5 s are too short where all the shims of a busy host are asked at once, and one that is late is killed, or taken
// for one whose process never ran.
const shimTimeout = time.Minute

// bootEmbedded starts containerd: when it returns, its sockets answer and the shims of the tasks named are known to it,
// but for those that are dead. The context's values last; its end does not stop what was started, close does.
func bootEmbedded(ctx context.Context, root, state string, tasks []Key) (_ *embedded, retErr error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e := &embedded{set: plugin.NewPluginSet(), root: root, state: state, socketDir: socketDir(state), cancelBoot: cancel}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, e.close())
		}
	}()
	if err := e.makeDirs(); err != nil {
		return nil, err
	}
	if err := mount.SetTempMountLocation(filepath.Join(root, "tmpmounts")); err != nil {
		return nil, err
	}
	// What a daemon that died was unpacking or comparing is still mounted. A mount that cannot be removed hurts nobody.
	if _, err := mount.CleanupTempMounts(unix.MNT_DETACH); err != nil {
		return nil, fmt.Errorf("clean up temporary mounts: %w", err)
	}
	timeout.Set("io.containerd.timeout.shim.load", shimTimeout)
	timeout.Set("io.containerd.timeout.shim.cleanup", shimTimeout)
	timeout.Set("io.containerd.timeout.task.state", shimTimeout)
	if err := e.initAll(ctx, tasks); err != nil {
		return nil, err
	}
	if err := e.cleanSnapshots(ctx); err != nil {
		return nil, fmt.Errorf("clean up snapshots: %w", err)
	}
	if err := e.serve(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// cleanSnapshots removes the directories of snapshots whose making was cut off. The next snapshot would get the number of
// one of them, and neither it nor any other could be made.
func (e *embedded) cleanSnapshots(ctx context.Context) error {
	instance, err := plugin.NewContext(ctx, e.set, nil).GetByID(plugins.SnapshotPlugin, snapshotter)
	if err != nil {
		return err
	}
	c, ok := instance.(snapshots.Cleaner)
	if !ok {
		return nil
	}
	err = c.Cleanup(ctx)
	if errdefs.IsNotFound(err) { // not one was ever finished
		return os.RemoveAll(filepath.Join(e.root, "io.containerd.snapshotter.v1."+snapshotter, "snapshots", "1"))
	}
	return err
}

// initAll starts the plugins, those first that others need; the tasks are shielded while theirs looks for shims.
func (e *embedded) initAll(ctx context.Context, tasks []Key) error {
	conf := &config.Config{Plugins: e.pluginConfig()}
	guard := shield{keys: tasks}
	notPart := func(r *plugin.Registration) bool { return !slices.Contains(parts, r.URI()) }
	for _, r := range registry.Graph(notPart) {
		instance, err := e.init(ctx, conf, r)
		if err != nil {
			return err
		}
		if db, ok := instance.(*metadata.DB); ok {
			guard.db = db
			if err := guard.raise(ctx); err != nil {
				return fmt.Errorf("shield shims: %w", err)
			}
		}
	}
	if err := guard.lower(ctx); err != nil {
		return fmt.Errorf("shield shims: %w", err)
	}
	return nil
}

// makeDirs makes containerd's directories. Through the state's the users of containers with a user namespace come to
// their root file systems.
func (e *embedded) makeDirs() error {
	if err := os.MkdirAll(e.state, 0o711); err != nil {
		return err
	}
	if err := os.Chmod(e.state, 0o711); err != nil { // it may be there, made with another's mode
		return err
	}
	for _, dir := range []string{e.root, e.socketDir, filepath.Join(e.root, "tmpmounts")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// grpcAddress is for ctr and other clients; shims report events to the ttrpc one beside it.
func grpcAddress(state string) string { return filepath.Join(state, "containerd.sock") }

func (e *embedded) pluginConfig() map[string]any {
	address := grpcAddress(e.state)
	return map[string]any{
		"io.containerd.server.v1.grpc":  map[string]any{"address": address},
		"io.containerd.server.v1.ttrpc": map[string]any{"address": address + ".ttrpc"},
		"io.containerd.shim.v1.manager": map[string]any{"socket_dir": e.socketDir},
		// Snapshots are removed by the collector alone: without a threshold a deleted container would keep its disk
		// until a hundred other changes have been made.
		"io.containerd.gc.v1.scheduler": map[string]any{"deletion_threshold": 1, "schedule_delay": "500ms"},
	}
}

// maxSocketDir is what containerd allows: a unix socket's path ends at 107 bytes and a shim's name takes 64 of them.
const maxSocketDir = 42

// socketDir is below state, or where that path is too long for sockets, in a directory named after it.
func socketDir(state string) string {
	if dir := filepath.Join(state, "s"); len(dir) <= maxSocketDir {
		return dir
	}
	sum := sha256.Sum256([]byte(state))
	return filepath.Join("/run/nereid-shims", hex.EncodeToString(sum[:6]))
}

// init starts one plugin. Configurations are copied first: those registered are shared by the whole process.
func (e *embedded) init(ctx context.Context, conf *config.Config, r plugin.Registration) (any, error) {
	id := r.URI()
	address := grpcAddress(e.state)
	ic := plugin.NewContext(ctx, e.set, map[string]string{
		plugins.PropertyRootDir:      filepath.Join(e.root, id),
		plugins.PropertyStateDir:     filepath.Join(e.state, id),
		plugins.PropertyGRPCAddress:  address,
		plugins.PropertyTTRPCAddress: address + ".ttrpc",
	})
	ic.RegisterReadiness = func() func() { return func() {} }
	if r.Config != nil {
		copied := reflect.New(reflect.TypeOf(r.Config).Elem())
		copied.Elem().Set(reflect.ValueOf(r.Config).Elem())
		c, err := conf.Decode(ctx, id, copied.Interface())
		if err != nil {
			return nil, fmt.Errorf("configuration of containerd's %s: %w", id, err)
		}
		ic.Config = c
	}
	p := r.Init(ic)
	instance, err := p.Instance()
	if err != nil {
		return nil, fmt.Errorf("start containerd's %s: %w", id, err)
	}
	return instance, e.set.Add(p)
}

func (e *embedded) serve(ctx context.Context) error {
	for _, p := range e.set.GetAll() {
		if p.Registration.Type != plugins.ServerPlugin {
			continue
		}
		instance, err := p.Instance()
		if err != nil {
			return err
		}
		if s, ok := instance.(interface{ Start(context.Context) error }); ok {
			if err := s.Start(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// close stops containerd, latest plugin first. Shims and containers go on.
func (e *embedded) close() error {
	var errs []error
	for _, p := range slices.Backward(e.set.GetAll()) {
		instance, err := p.Instance()
		if err != nil {
			continue
		}
		if c, ok := instance.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	e.cancelBoot()
	return errors.Join(errs...)
}

// client is one that calls the plugins directly, without a socket between.
func (e *embedded) client() (*containerd.Client, error) {
	ic := plugin.NewContext(context.Background(), e.set, nil)
	events, err := ic.GetByID(plugins.EventPlugin, "exchange")
	if err != nil {
		return nil, err
	}
	leaseManager, err := ic.GetSingle(plugins.LeasePlugin)
	if err != nil {
		return nil, err
	}
	db, err := ic.GetSingle(plugins.MetadataPlugin)
	if err != nil {
		return nil, err
	}
	s, err := ic.GetByType(plugins.ServicePlugin)
	if err != nil {
		return nil, err
	}
	return containerd.New("", containerd.WithServices(
		containerd.WithEventService(events.(containerd.EventService)),
		containerd.WithLeasesService(promptLeases{leaseManager.(leases.Manager), db.(*metadata.DB)}),
		containerd.WithContentStore(s[services.ContentService].(content.Store)),
		containerd.WithImageClient(s[services.ImagesService].(imagesapi.ImagesClient)),
		containerd.WithSnapshotters(s[services.SnapshotsService].(map[string]snapshots.Snapshotter)),
		containerd.WithContainerClient(s[services.ContainersService].(containersapi.ContainersClient)),
		containerd.WithTaskClient(s[services.TasksService].(tasksapi.TasksClient)),
		containerd.WithDiffClient(s[services.DiffService].(diffapi.DiffClient)),
		containerd.WithNamespaceClient(s[services.NamespacesService].(namespacesapi.NamespacesClient)),
		containerd.WithIntrospectionService(s[services.IntrospectionService].(introspection.Service)),
	))
}

// promptLeases collects at once when a lease is deleted synchronously. Through containerd's scheduler whoever removes an
// image waits for the collector's next turn, for half a second.
type promptLeases struct {
	leases.Manager
	db *metadata.DB
}

func (p promptLeases) Delete(ctx context.Context, l leases.Lease, opts ...leases.DeleteOpt) error {
	var o leases.DeleteOptions
	for _, f := range opts {
		if err := f(ctx, &o); err != nil {
			return err
		}
	}
	if !o.Synchronous {
		return p.Manager.Delete(ctx, l, opts...)
	}
	if err := p.Manager.Delete(ctx, l); err != nil {
		return err
	}
	_, err := p.db.GarbageCollect(ctx)
	return err
}
