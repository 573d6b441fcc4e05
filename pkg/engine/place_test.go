package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/docker/go-connections/nat"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// testFleet is several hosts, each with a view of its own that hears of the others' changes a little later.
type testFleet struct {
	t     *testing.T
	ctx   context.Context
	hosts []*testHost
	// down are hosts that do not answer; rumoured are states of hosts.
	mu       sync.Mutex
	down     map[nereid.Host]bool
	silent   map[nereid.Host]func(context.Context, Order) // do this with a request, and do not answer
	rumoured map[nereid.Host]nereid.HostState
	asked    []nereid.Host // in order
}

type testHost struct {
	*Containers
	name  nereid.Host
	store *state.Store
	w     *world
	root  string
	d     *daemon
}

// newTestFleet has as many hosts, each with memory and four CPUs.
func newTestFleet(t *testing.T, hosts int, memory int64) *testFleet {
	t.Helper()
	f := &testFleet{
		t: t, ctx: nereid.WithAccount(context.Background(), nereid.Admin),
		down: map[nereid.Host]bool{}, silent: map[nereid.Host]func(context.Context, Order){}, rumoured: map[nereid.Host]nereid.HostState{},
	}
	dir := imagetest.Dir(t)
	socket := filepath.Join(dir, "etcd.sock")
	for i := range hosts {
		name := nereid.Host(fmt.Sprintf("h%d", i+1))
		cfg := state.Config{Endpoints: []string{"unix://" + socket}, Host: name}
		if i == 0 {
			cfg = state.Config{Dir: filepath.Join(dir, "etcd"), Socket: socket, Host: name}
		}
		h := f.addHost(name, cfg)
		_, err := h.store.Commit(f.ctx, state.Put(&state.Host{
			Name: name, CPUs: 4, Memory: memory, OSType: "linux", Architecture: "x86_64", OS: "Testix", KernelVersion: "6.1",
			Labels: map[string]string{"disk": []string{"ssd", "hdd"}[i%2]}, OvercommitMemory: 1, OvercommitCPUs: 1,
		}))
		assert.NilError(t, err)
	}
	var all []nereid.Host
	for _, h := range f.hosts {
		all = append(all, h.Host)
	}
	f.addImage("busybox", all...)
	f.addImage("rare", "h1")
	f.settle()
	return f
}

func (f *testFleet) addHost(name nereid.Host, cfg state.Config) *testHost {
	f.t.Helper()
	store, err := state.Open(f.ctx, cfg)
	assert.NilError(f.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return store.Run(ctx) })
	f.t.Cleanup(func() {
		cancel()
		assert.Check(f.t, g.Wait())
		assert.Check(f.t, store.Close())
	})
	h := &testHost{store: store, w: newWorld(f.t), root: f.t.TempDir(), name: name}
	f.boot(h)
	f.hosts = append(f.hosts, h)
	return h
}

// boot starts a daemon on a host, after one that died.
func (f *testFleet) boot(h *testHost) {
	f.t.Helper()
	d := newDaemon(h.w)
	deps := Deps{
		Host: h.name, DataRoot: h.root + "/data", ExecRoot: h.root + "/exec", State: h.store, Runtime: d, Network: fakeNet{d}, Volumes: vols{d},
		Log: zap.NewNop(), Peers: f, Road: f, Fleet: NewLiveness(h.name, h.store.View(), func() Rumour { return f }),
	}
	c := NewContainers(deps, NewNetworks(deps), NewVolumes(deps), NewImages(deps, nil))
	c.alive, c.features = d.w.alive, func() *sysinfo.SysInfo { return allFeatures }
	d.handler = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	f.t.Cleanup(func() {
		cancel()
		select {
		case <-d.dead: // what it had under way hangs
		case err := <-done:
			assert.Check(f.t, err)
		}
	})
	h.Containers, h.d = c, d
	assert.NilError(f.t, c.Adopt(f.ctx))
}

// CreateOn implements Peers: the request arrives as JSON, and is answered once the host that asked can see the result.
func (f *testFleet) CreateOn(ctx context.Context, to nereid.Host, o Order) (container.CreateResponse, error) {
	f.mu.Lock()
	f.asked = append(f.asked, to)
	down, silent := f.down[to], f.silent[to]
	f.mu.Unlock()
	if down {
		return container.CreateResponse{}, &Refusal{Host: to, Why: "it does not answer"}
	}
	body, err := json.Marshal(o)
	if err != nil {
		return container.CreateResponse{}, err
	}
	var arrived Order
	if err := json.Unmarshal(body, &arrived); err != nil {
		return container.CreateResponse{}, err
	}
	if silent != nil {
		silent(ctx, arrived)
		return container.CreateResponse{}, &Unanswered{Host: to, Cause: errHostGone(to)}
	}
	return f.host(to).CreateHere(ctx, arrived)
}

// PrepareOn implements Peers.
func (f *testFleet) PrepareOn(ctx context.Context, to nereid.Host, id nereid.ContainerID) error {
	f.mu.Lock()
	down := f.down[to]
	f.mu.Unlock()
	if down {
		return &Refusal{Host: to, Why: "it does not answer"}
	}
	return f.host(to).PrepareHere(ctx, id)
}

// RoundTrip implements http.RoundTripper for what is asked about volumes.
func (f *testFleet) RoundTrip(r *http.Request) (*http.Response, error) {
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	v, w := f.host(nereid.Host(r.URL.Host)).volumes, httptest.NewRecorder()
	size, err := v.UsageHere(r.Context(), name)
	if r.Method == http.MethodDelete {
		err = v.Remove(r.Context(), name, true)
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
	fmt.Fprint(w, size)
	return w.Result(), nil
}

// State implements Rumour.
func (f *testFleet) State(h nereid.Host) (nereid.HostState, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.rumoured[h]
	return s, ok
}

// Gone implements Rumour.
func (f *testFleet) Gone(nereid.Host) <-chan struct{} { return nil }

func (f *testFleet) host(name nereid.Host) *testHost {
	for _, h := range f.hosts {
		if h.Host == name {
			return h
		}
	}
	f.t.Fatalf("no host %s", name)
	return nil
}

func (f *testFleet) addImage(name string, on ...nereid.Host) {
	f.t.Helper()
	raw, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "config": container.Config{Cmd: []string{"sh"}, Labels: map[string]string{"name": name}, ExposedPorts: nat.PortSet{"80/tcp": {}}}, "rootfs": map[string]any{"type": "layers", "diff_ids": []string{}}})
	assert.NilError(f.t, err)
	id := nereid.ImageID(digest.FromBytes(raw))
	img := &state.Image{
		Account: nereid.Admin, ID: id, Config: raw, Hosts: on,
		Manifest: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 1},
	}
	_, err = f.hosts[0].store.Commit(f.ctx, state.Put(img), state.Put(&state.Tag{Account: nereid.Admin, Ref: "docker.io/library/" + name + ":latest", Image: id}))
	assert.NilError(f.t, err)
}

// settle waits until every host sees what the others have done.
func (f *testFleet) settle() {
	f.t.Helper()
	var newest state.Revision
	for _, h := range f.hosts {
		newest = max(newest, h.store.View().Revision())
	}
	for _, h := range f.hosts {
		eventually(f.t, fmt.Sprintf("%s at revision %d", h.Host, newest), func() bool { return h.store.View().Revision() >= newest })
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(soon)
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// create asks an endpoint, and tells the host that got the container.
func (f *testFleet) create(endpoint nereid.Host, name string, change ...func(*spec)) (nereid.Host, error) {
	s := &spec{Config: container.Config{Image: "busybox"}}
	for _, c := range change {
		c(s)
	}
	resp, err := f.host(endpoint).Create(f.ctx, backend.ContainerCreateConfig{Name: name, Config: &s.Config, HostConfig: &s.host})
	if err != nil {
		return "", err
	}
	for _, h := range f.hosts {
		if r, ok := h.store.View().Container(nereid.Admin, nereid.ContainerID(resp.ID)); ok && r.Host == h.Host {
			return h.Host, nil
		}
	}
	return "", fmt.Errorf("container %s is nowhere", resp.ID)
}

func (f *testFleet) mustCreate(endpoint nereid.Host, name string, change ...func(*spec)) nereid.Host {
	f.t.Helper()
	h, err := f.create(endpoint, name, change...)
	assert.NilError(f.t, err)
	f.settle()
	return h
}

// counts are the containers by host, as a host's own records have them.
func (f *testFleet) counts() map[nereid.Host]int {
	out := map[nereid.Host]int{}
	for _, h := range f.hosts {
		out[h.Host] = len(h.store.View().ContainersOn(h.Host))
	}
	return out
}

// TestBurst: 500 creates from three endpoints at once overcommit no host and herd nowhere; the fleet fills to the last
// place and says what it lacks then.
func TestBurst(t *testing.T) {
	const mib = 1 << 20
	f := newTestFleet(t, 5, 1020*mib) // 102 places of 10 MiB each
	mem := func(s *spec) { s.host.Memory = 10 * mib }
	burst := func(n int) (failed []error) {
		var mu sync.Mutex
		var g errgroup.Group
		g.SetLimit(60)
		for i := range n {
			g.Go(func() error {
				if _, err := f.create([]nereid.Host{"h1", "h2", "h3"}[i%3], "", mem); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, err)
				}
				return nil
			})
		}
		assert.NilError(t, g.Wait())
		f.settle()
		return failed
	}
	assert.Equal(t, len(burst(500)), 0)
	for h, n := range f.counts() {
		assert.Check(t, n >= 90 && n <= 102, "%s has %d: %v", h, n, f.counts())
	}
	failed := burst(30)
	assert.Equal(t, len(failed), 20)
	for h, n := range f.counts() {
		assert.Check(t, n == 102, "%s has %d", h, n)
	}
	for _, err := range failed {
		failsWith(t, err, errdefs.IsResourceExhausted, "no host fits: ")
		assert.Check(t, strings.Contains(err.Error(), "memory (largest free 0B, asked 10MiB)") || strings.Contains(err.Error(), "refused"), "%v", err)
	}
	for _, h := range f.hosts {
		assert.Equal(t, len(h.placement.underway), 0, "reservations left on %s", h.Host)
	}
}

// TestPlaceInAFleet is what a user can say of where a container is to run, asked at h2 of a fleet of three.
func TestPlaceInAFleet(t *testing.T) {
	f := newTestFleet(t, 3, 1<<30)
	f.mustCreate("h1", "db", func(s *spec) { s.Env = []string{"constraint:node==h3"}; s.Labels = map[string]string{"tier": "back"} })
	f.mustCreate("h1", "data", func(s *spec) {
		s.Env = []string{"constraint:node==h1"}
		s.host.Binds = []string{"stuff:/data"}
	})
	env := func(e ...string) func(*spec) { return func(s *spec) { s.Env = e } }
	for _, c := range []struct {
		name   string
		change func(*spec)
		host   nereid.Host // or
		words  string
	}{
		{name: "node", change: env("constraint:node==h1"), host: "h1"},
		{name: "label", change: env("constraint:disk==hdd"), host: "h2"},
		{name: "fact", change: env("constraint:operatingsystem==Test*", "constraint:node==h3"), host: "h3"},
		{name: "label of the container", change: func(s *spec) {
			s.Labels = map[string]string{"com.docker.swarm.constraints": `["node==h3"]`}
		}, host: "h3"},
		{name: "container", change: env("affinity:container==db"), host: "h3"},
		{name: "its label", change: env("affinity:tier==back"), host: "h3"},
		{name: "image", change: env("affinity:image==rare"), host: "h1"},
		{name: "not", change: env("affinity:container!=db", "constraint:node!=h2"), host: "h1"},
		{name: "link", change: func(s *spec) { s.host.Links = []string{"db:db"} }, host: "h3"},
		{name: "volumes from", change: func(s *spec) { s.host.VolumesFrom = []string{"data:ro"} }, host: "h1"},
		{name: "network", change: func(s *spec) { s.host.NetworkMode = "container:db" }, host: "h3"},
		{name: "pid", change: func(s *spec) { s.host.PidMode = "container:db" }, host: "h3"},
		{name: "ipc", change: func(s *spec) { s.host.IpcMode = "container:db" }, host: "h3"},
		{name: "volume", change: func(s *spec) { s.host.Binds = []string{"stuff:/x"} }, host: "h1"},
		{name: "mount", change: func(s *spec) {
			s.host.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "stuff", Target: "/x"}}
		}, host: "h1"},
		{name: "bind", change: func(s *spec) { s.host.Binds = []string{"/tmp:/x"} }, host: "h2"},
		{name: "bind mount", change: func(s *spec) {
			s.host.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: "/tmp", Target: "/x"}}
		}, host: "h2"},
		{name: "loopback", change: func(s *spec) {
			s.host.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1", HostPort: "8080"}}}
		}, host: "h2"},
		{name: "bind elsewhere", change: func(s *spec) { s.host.Binds = []string{"/tmp:/x"}; s.Env = []string{"constraint:node==h1"} },
			words: "no host fits: 2 of 3 hosts are out for the bind mount of /tmp: it means this endpoint's host, h2; 1 of 3 hosts does not meet constraint node==h1 (hosts: h1, h2, h3)"},
		{name: "too much", change: func(s *spec) { s.host.Memory = 2 << 30 }, words: "no host fits: 3 of 3 hosts lack memory (largest free 1GiB, asked 2GiB)"},
		{name: "the reservation counts", change: func(s *spec) {
			s.host.Memory, s.host.MemoryReservation, s.Env = 2<<30, 8<<20, []string{"constraint:node==h2"}
		}, host: "h2"},
		{name: "too many CPUs", change: func(s *spec) { s.host.CPUQuota, s.host.CPUPeriod = 500_000, 100_000 }, words: "no host fits: 3 of 3 hosts lack CPUs (most free 4, asked 5)"},
		{name: "no such container", change: func(s *spec) { s.host.VolumesFrom = []string{"nobody"} }, words: "No such container: nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.t = t
			f.settle()
			host, err := f.create("h2", "", c.change)
			if c.words != "" {
				assert.ErrorContains(t, err, c.words)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, host, c.host)
		})
	}
	for _, h := range f.hosts {
		assert.Equal(t, len(h.placement.underway), 0)
	}
}

// TestPlacementLeavesTheEnvironment: expressions are for the scheduler, and are seen in the labels.
func TestPlacementLeavesTheEnvironment(t *testing.T) {
	r := newContainerRig(t)
	key := r.create("cc", func(s *spec) { s.Env = []string{"A=1", "constraint:node==h*", "affinity:image==~busybox"} })
	rec := r.record(key)
	assert.Check(t, !slices.ContainsFunc(rec.Config.Env, func(e string) bool { return strings.Contains(e, "==") }), "%q", rec.Config.Env)
	assert.Equal(t, rec.Config.Labels["com.docker.swarm.constraints"], `["node==h*"]`)
	assert.Equal(t, rec.Config.Labels["com.docker.swarm.affinities"], `["image==~busybox"]`)

	_, err := r.Create(r.ctx, r.createReq("d", func(s *spec) { s.Env = []string{"constraint:node=h1"} }))
	failsWith(t, err, errdefs.IsInvalidArgument, `invalid constraint "node=h1": at position 5: expected == or !=`)
	_, err = r.Create(r.ctx, r.createReq("d", func(s *spec) { s.Labels = map[string]string{"nereid.strategy": "fast"} }))
	failsWith(t, err, errdefs.IsInvalidArgument, `invalid label nereid.strategy: "fast" is none of spread, binpack, random`)
}

// TestOneHostTakesAll: a fleet of one does what a Docker Engine does.
func TestOneHostTakesAll(t *testing.T) {
	r := newContainerRig(t)
	r.create("large", func(s *spec) { s.host.Memory = 64 << 30 })
	r.create("host1", func(s *spec) { s.host.NetworkMode = "host" })
	_, err := r.Create(r.ctx, r.createReq("no", func(s *spec) { s.Env = []string{"constraint:disk==ssd"} }))
	failsWith(t, err, errdefs.IsResourceExhausted, "no host fits: 1 of 1 host does not meet constraint disk==ssd (no host has the label disk)")
}

// TestHostsThatDoNotAnswer: one is found out by asking, one is rumoured away, one is drained.
func TestHostsThatDoNotAnswer(t *testing.T) {
	f := newTestFleet(t, 3, 1<<30)
	f.down["h2"] = true
	for range 4 {
		h := f.mustCreate("h1", "")
		assert.Check(t, h != "h2")
	}
	assert.Check(t, slices.Contains(f.asked, "h2"), "h2 was never tried")
	_, err := f.create("h1", "", func(s *spec) { s.Env = []string{"constraint:node==h2"} })
	failsWith(t, err, errdefs.IsResourceExhausted, "1 of 3 hosts was asked and refused (h2: it does not answer)")

	f.mu.Lock()
	f.rumoured["h3"], f.asked, f.down = nereid.HostUnreachable, nil, map[nereid.Host]bool{}
	f.mu.Unlock()
	eventually(t, "aware of the rumour", func() bool {
		_, err := f.create("h1", "", func(s *spec) { s.Env = []string{"constraint:node==h3"} })
		return err != nil && strings.Contains(err.Error(), "1 of 3 hosts does not answer (h3)")
	})
}

// TestHostsThatTakeNothing: one is drained, one has lost its lease, and both are of the fleet still.
func TestHostsThatTakeNothing(t *testing.T) {
	f := newTestFleet(t, 3, 1<<30)
	h2, _ := f.hosts[0].store.View().Host("h2")
	h3, _ := f.hosts[0].store.View().Host("h3")
	drained := *h2
	drained.Draining = true
	_, err := f.hosts[0].store.Commit(f.ctx, state.Put(&drained), state.Delete(h3),
		state.Create(&state.Member{Name: "h3", Facts: *h3}), state.Create(&state.Member{Name: "h4"})) // which was let in and did not start yet
	assert.NilError(t, err)
	f.settle()
	for range 3 {
		assert.Equal(t, f.mustCreate("h2", ""), nereid.Host("h1"))
	}
	_, err = f.create("h2", "", func(s *spec) { s.host.Memory = 2 << 30 })
	failsWith(t, err, errdefs.IsResourceExhausted,
		"no host fits: 1 of 3 hosts does not answer (h3); 1 of 3 hosts takes no new containers (drained: h2); 1 of 3 hosts lacks memory")
	_, err = f.host("h2").CreateHere(f.ctx, Order{ID: nereid.NewContainerID(), Request: backend.ContainerCreateConfig{Config: &container.Config{Image: "busybox"}, HostConfig: &container.HostConfig{}}})
	failsWith(t, err, errdefs.IsUnavailable, "host h2 refuses the container: it takes no new containers")
}

// TestOwnerRefuses: a host goes by what it has itself, whatever the endpoint believes.
func TestOwnerRefuses(t *testing.T) {
	f := newTestFleet(t, 2, 1<<30)
	order := func(change func(*spec)) Order {
		s := &spec{Config: container.Config{Image: "busybox"}}
		change(s)
		return Order{ID: nereid.NewContainerID(), Request: backend.ContainerCreateConfig{Config: &s.Config, HostConfig: &s.host}}
	}
	_, err := f.host("h2").CreateHere(f.ctx, order(func(s *spec) { s.host.Memory = 900 << 20 }))
	assert.NilError(t, err)
	_, err = f.host("h2").CreateHere(f.ctx, order(func(s *spec) { s.host.Memory = 200 << 20 }))
	failsWith(t, err, errdefs.IsUnavailable, "host h2 refuses the container: it lacks memory (largest free 124MiB, asked 200MiB)")

	// A volume that found its home elsewhere meanwhile.
	_, err = f.hosts[0].store.Commit(f.ctx, state.Put(&state.Volume{Account: nereid.Admin, Name: "late", Driver: "local", Home: "h1"}))
	assert.NilError(t, err)
	f.settle()
	_, err = f.host("h2").CreateHere(f.ctx, order(func(s *spec) { s.host.Binds = []string{"late:/x"} }))
	failsWith(t, err, errdefs.IsUnavailable, "host h2 refuses the container: it does not have volume late: its data is on h1")
	assert.Equal(t, len(f.host("h2").placement.underway), 0)
}

// TestReservationsFollowTheRecords: what ended or is gone holds nothing, what is started again does.
func TestReservationsFollowTheRecords(t *testing.T) {
	f := newTestFleet(t, 2, 1<<30)
	half := func(s *spec) { s.host.Memory, s.Env = 600<<20, []string{"constraint:node==h1"} }
	fits := func() bool {
		f.t.Helper()
		f.settle()
		_, err := f.create("h2", "probe", half)
		if err != nil {
			assert.ErrorContains(t, err, "memory")
			return false
		}
		f.settle()
		assert.NilError(t, f.host("h1").Remove(f.ctx, "probe", backend.ContainerRmConfig{}))
		return true
	}
	f.mustCreate("h2", "aa", half)
	assert.Check(t, !fits(), "a created container holds its memory")
	h1 := f.host("h1")
	assert.NilError(t, h1.Start(f.ctx, "aa"))
	assert.Check(t, !fits(), "a running one too")
	assert.NilError(t, h1.Kill(f.ctx, "aa", "KILL"))
	rec, err := h1.find(f.ctx, "aa")
	assert.NilError(t, err)
	_, err = h1.store.View().WaitContainer(f.ctx, rec.Account, rec.ID, func(r *state.Container) bool { return r.State.Status == state.StatusExited })
	assert.NilError(t, err)
	assert.Check(t, fits(), "an ended one holds nothing")
	assert.NilError(t, h1.Start(f.ctx, "aa"))
	assert.Check(t, !fits(), "started again it does")
	assert.NilError(t, h1.Remove(f.ctx, "aa", backend.ContainerRmConfig{ForceRemove: true}))
	assert.Check(t, fits(), "gone it does not")
}

// TestSnapshotIsTheView: after all kinds of changes the picture that was kept is the one that would be made anew.
func TestSnapshotIsTheView(t *testing.T) {
	f := newTestFleet(t, 3, 1<<30)
	f.mustCreate("h1", "one")
	f.mustCreate("h2", "two", func(s *spec) { s.host.Memory = 100 << 20 })
	f.addImage("other", "h1", "h2")
	f.settle()
	_, err := f.hosts[0].store.Commit(f.ctx, state.Delete(&state.Host{Name: "h3"}), state.Delete(&state.Tag{Account: nereid.Admin, Ref: "docker.io/library/other:latest"}))
	assert.NilError(t, err)
	f.settle()
	for _, asked := range []struct{ expression, words string }{
		{"constraint:node==h3", "2 of 2 hosts do not meet constraint node==h3"},
		{"affinity:image==other", "2 of 2 hosts do not have image other"},
	} {
		for _, fresh := range []bool{false, true} {
			h := f.host("h1")
			if fresh {
				h.placement.close()
			}
			_, err := f.create("h1", "", func(s *spec) { s.Env = []string{asked.expression} })
			assert.ErrorContains(t, err, asked.words, "fresh: %v", fresh)
		}
	}
}

func TestServiceOf(t *testing.T) {
	for _, c := range []struct {
		labels map[string]string
		want   string
	}{
		{nil, "image=nginx"},
		{map[string]string{"com.docker.compose.project": "p", "com.docker.compose.service": "web"}, "com.docker.compose.project=p/web"},
		{map[string]string{"com.docker.compose.project": "p"}, "image=nginx"},
		{map[string]string{"nereid.cns.services": "web"}, "nereid.cns.services=web"},
		{map[string]string{"triton.cns.services": "web"}, "triton.cns.services=web"},
	} {
		assert.Equal(t, serviceOf(&container.Config{Image: "nginx", Labels: c.labels}), c.want, fmt.Sprint(slices.Sorted(maps.Keys(c.labels))))
	}
}

// TestCreateOnAHostThatDies: a host that does not answer is not waited for: its container is made elsewhere, and not there
// as well, whenever it comes to the request.
func TestCreateOnAHostThatDies(t *testing.T) {
	f := newTestFleet(t, 3, 1<<30)
	on := func(hosts ...string) func(*spec) {
		return func(s *spec) { s.Env = []string{"constraint:node==/" + strings.Join(hosts, "|") + "/"} }
	}
	f.mustCreate("h1", "filler", on("h3")) // so that h2 comes first
	var late []Order
	f.silent["h2"] = func(_ context.Context, o Order) { late = append(late, o) }
	assert.Equal(t, f.mustCreate("h1", "", on("h2", "h3")), nereid.Host("h3"))
	assert.Equal(t, f.mustCreate("h1", "named", on("h2", "h3")), nereid.Host("h3"))
	assert.Equal(t, len(late), 2)
	for _, o := range late {
		o.Request.Name = ""
		_, err := f.host("h2").CreateHere(f.ctx, o)
		failsWith(t, err, errdefs.IsConflict, "was given up")
	}
	assert.Equal(t, f.counts()["h2"], 0)
	_, err := f.create("h1", "", on("h2"))
	failsWith(t, err, errdefs.IsResourceExhausted, "it was asked and did not answer")

	// It made the container, and only the answer is missing.
	f.silent["h2"] = func(ctx context.Context, o Order) {
		_, err := f.host("h2").CreateHere(ctx, o)
		assert.NilError(t, err)
	}
	assert.Equal(t, f.mustCreate("h1", "made", on("h2", "h3")), nereid.Host("h2"))
	assert.Equal(t, len(f.hosts[0].placement.underway), 0)
}
