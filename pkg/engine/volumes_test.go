package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	apivolume "github.com/docker/docker/api/types/volume"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sync/errgroup"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
)

// volumeRig is a host with volumes over a real state and real files.
type volumeRig struct {
	*Volumes
	t   *testing.T
	ctx context.Context
}

func newVolumeRig(t *testing.T) *volumeRig {
	t.Helper()
	root := t.TempDir()
	d := Deps{Host: "h1", DataRoot: root, State: openTestState(t), Volumes: volume.NewStore(root), Log: zaptest.NewLogger(t)}
	return &volumeRig{Volumes: NewVolumes(d), t: t, ctx: nereid.WithAccount(context.Background(), nereid.Admin)}
}

func (r *volumeRig) create(opts apivolume.CreateOptions) *apivolume.Volume {
	r.t.Helper()
	v, err := r.Create(r.ctx, opts)
	assert.NilError(r.t, err)
	return v
}

// container resolves and stores a container with these mounts.
func (r *volumeRig) container(name string, hc *container.HostConfig, volumes ...string) *state.Container {
	r.t.Helper()
	c := &state.Container{
		Account: nereid.Admin, ID: nereid.NewContainerID(), Name: name, Host: "h1",
		Config: &container.Config{}, HostConfig: hc,
	}
	mounts, ops, err := r.Resolve(r.ctx, nereid.Admin, hc, set(volumes...), false)
	assert.NilError(r.t, err)
	c.Mounts = mounts
	r.commit(append(ops, state.Create(c), state.Create(&state.Name{Account: nereid.Admin, Name: name, Container: c.ID}))...)
	return c
}

func (r *volumeRig) commit(ops ...state.Op) {
	r.t.Helper()
	_, err := r.State.Commit(r.ctx, ops...)
	assert.NilError(r.t, err)
}

func (r *volumeRig) remove(c *state.Container, volumes bool) {
	r.t.Helper()
	ops, after := r.ReleaseOps(c, volumes)
	r.commit(append(ops, state.Delete(c))...)
	assert.NilError(r.t, after(r.ctx))
}

// told lists the volume events so far: action, volume, and attributes but the host.
func (r *volumeRig) told() []string {
	var out []string
	for _, e := range r.State.View().Events(0, 0).Ready() {
		if e.Message.Type == events.VolumeEventType {
			out = append(out, fmt.Sprintf("%s %.8s", e.Message.Action, e.Message.Actor.ID))
		}
	}
	return out
}

func (r *volumeRig) names() []string {
	var out []string
	for _, v := range r.State.View().Volumes(nereid.Admin) {
		out = append(out, v.Name)
	}
	return out
}

func set(names ...string) map[string]struct{} {
	s := map[string]struct{}{}
	for _, n := range names {
		s[n] = struct{}{}
	}
	return s
}

func TestVolumeCreate(t *testing.T) {
	r := newVolumeRig(t)
	v := r.create(apivolume.CreateOptions{Name: "data", Labels: map[string]string{"a": "b"}})
	assert.Equal(t, v.Name, "data")
	assert.Equal(t, v.Driver, "local")
	assert.Equal(t, v.Scope, "local")
	assert.Equal(t, v.Mountpoint, filepath.Join(r.DataRoot, "volumes/admin/data/_data"))
	assert.DeepEqual(t, v.Labels, map[string]string{"a": "b"})

	again := r.create(apivolume.CreateOptions{Name: "data", Labels: map[string]string{"other": ""}, DriverOpts: map[string]string{"color": "blue"}})
	assert.DeepEqual(t, again, v)
	anonymous := r.create(apivolume.CreateOptions{})
	assert.Equal(t, len(anonymous.Name), 64)
	_, marked := anonymous.Labels["com.docker.volume.anonymous"]
	assert.Assert(t, marked)
	assert.DeepEqual(t, r.told(), []string{"create data", "create " + anonymous.Name[:8]})

	other := nereid.WithAccount(context.Background(), "bob")
	_, err := r.Inspect(other, "data")
	assert.Error(t, err, "get data: no such volume")
}

func TestVolumeCreateRefuses(t *testing.T) {
	r := newVolumeRig(t)
	tests := []struct {
		opts  apivolume.CreateOptions
		class func(error) bool
		words string
	}{
		{apivolume.CreateOptions{Name: "a"}, errdefs.IsInvalidArgument, "create a: volume name is too short, names should be at least two alphanumeric characters"},
		{apivolume.CreateOptions{Name: "a b"}, errdefs.IsInvalidArgument, `create a b: "a b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
		{apivolume.CreateOptions{Name: "../x"}, errdefs.IsInvalidArgument, `create ../x: "../x" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
		{apivolume.CreateOptions{Name: strings.Repeat("x", 256)}, errdefs.IsInvalidArgument, "create " + strings.Repeat("x", 256) + ": volume name is too long, names should be at most 255 characters"},
		{apivolume.CreateOptions{Name: "data", Driver: "nfs"}, errdefs.IsNotFound, `create data: error looking up volume plugin nfs: plugin "nfs" not found`},
		{apivolume.CreateOptions{Name: "data", DriverOpts: map[string]string{"color": "blue"}}, errdefs.IsInvalidArgument, `create data: invalid option: "color"`},
		{apivolume.CreateOptions{Name: "data", ClusterVolumeSpec: &apivolume.ClusterVolumeSpec{}}, errdefs.IsUnavailable, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`},
	}
	for _, tc := range tests {
		_, err := r.Create(r.ctx, tc.opts)
		assert.Error(t, err, tc.words)
		assert.ErrorType(t, err, tc.class)
	}
	assert.Equal(t, len(r.names()), 0)
}

func TestVolumeOneNameForAllAtOnce(t *testing.T) {
	r := newVolumeRig(t)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error { _, err := r.Create(r.ctx, apivolume.CreateOptions{Name: "data"}); return err })
	}
	assert.NilError(t, group.Wait())
	assert.DeepEqual(t, r.told(), []string{"create data"})
}

func TestVolumeList(t *testing.T) {
	r := newVolumeRig(t)
	r.create(apivolume.CreateOptions{Name: "beta", Labels: map[string]string{"tier": "db"}})
	r.create(apivolume.CreateOptions{Name: "alpha"})
	r.container("c", &container.HostConfig{Binds: []string{"beta:/x"}})
	tests := []struct {
		filters []filters.KeyValuePair
		want    string
	}{
		{nil, "alpha beta"},
		{[]filters.KeyValuePair{filters.Arg("name", "alp")}, "alpha"},
		{[]filters.KeyValuePair{filters.Arg("name", "gamma")}, ""},
		{[]filters.KeyValuePair{filters.Arg("label", "tier")}, "beta"},
		{[]filters.KeyValuePair{filters.Arg("label", "tier=web")}, ""},
		{[]filters.KeyValuePair{filters.Arg("driver", "local")}, "alpha beta"},
		{[]filters.KeyValuePair{filters.Arg("driver", "nfs")}, ""},
		{[]filters.KeyValuePair{filters.Arg("dangling", "true")}, "alpha"},
		{[]filters.KeyValuePair{filters.Arg("dangling", "0")}, "beta"},
	}
	for _, tc := range tests {
		got, err := r.List(r.ctx, filters.NewArgs(tc.filters...))
		assert.NilError(t, err)
		var names []string
		for _, v := range got.Volumes {
			names = append(names, v.Name)
		}
		assert.Equal(t, strings.Join(names, " "), tc.want, "%v", tc.filters)
	}
	_, err := r.List(r.ctx, filters.NewArgs(filters.Arg("color", "blue")))
	assert.ErrorContains(t, err, "invalid filter 'color'")
	assert.ErrorType(t, err, errdefs.IsInvalidArgument)
	_, err = r.List(r.ctx, filters.NewArgs(filters.Arg("dangling", "maybe")))
	assert.ErrorContains(t, err, "invalid filter 'dangling=")
}

func TestVolumeRemove(t *testing.T) {
	r := newVolumeRig(t)
	c := r.container("c", &container.HostConfig{Binds: []string{"data:/x"}})
	assert.NilError(t, r.Prepare(r.ctx, c, noRootfs(t)))
	err := r.Remove(r.ctx, "data", true)
	assert.Error(t, err, "remove data: volume is in use - ["+string(c.ID)+"]")
	assert.ErrorType(t, err, errdefs.IsConflict)

	r.remove(c, true) // -v: a named volume stays
	assert.NilError(t, r.Remove(r.ctx, "data", false))
	_, err = os.Stat(filepath.Join(r.DataRoot, "volumes/admin/data"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.DeepEqual(t, r.told(), []string{"create data", "destroy data"})

	err = r.Remove(r.ctx, "data", false)
	assert.Error(t, err, "get data: no such volume")
	assert.ErrorType(t, err, errdefs.IsNotFound)
	assert.NilError(t, r.Remove(r.ctx, "data", true))
}

// noRootfs is a container's root file system without anything in it.
func noRootfs(t *testing.T) RootfsMounter {
	t.Helper()
	return mountedAt(t.TempDir())
}

func mountedAt(dir string) RootfsMounter {
	return func(context.Context) (string, func() error, error) {
		return dir, func() error { return nil }, nil
	}
}

// TestVolumeComesToUseWhileItIsRemoved: a container was created between the look for users and the removal.
func TestVolumeComesToUseWhileItIsRemoved(t *testing.T) {
	r := newVolumeRig(t)
	r.create(apivolume.CreateOptions{Name: "data"})
	looked, _ := r.State.View().Volume(nereid.Admin, "data")
	r.container("c", &container.HostConfig{Binds: []string{"data:/x"}})

	_, err := r.State.Commit(r.ctx, r.removeOps(looked)...)

	assert.ErrorType(t, err, errdefs.IsAborted)
	assert.Assert(t, IsVolumeConflict(err))
}

func TestVolumePrune(t *testing.T) {
	tests := []struct {
		filters []filters.KeyValuePair
		left    string // of named, labelled, used; the anonymous one goes unless the label says otherwise
		gone    int
	}{
		{nil, "device labelled named used", 1},
		{[]filters.KeyValuePair{filters.Arg("all", "true")}, "device used", 3},
		{[]filters.KeyValuePair{filters.Arg("all", "1"), filters.Arg("label", "keep")}, "device named used", 1},
		{[]filters.KeyValuePair{filters.Arg("all", "1"), filters.Arg("label!", "keep")}, "device labelled used", 2},
	}
	for _, tc := range tests {
		t.Run(fmt.Sprint(tc.filters), func(t *testing.T) {
			r := newVolumeRig(t)
			anonymous := r.create(apivolume.CreateOptions{})
			r.create(apivolume.CreateOptions{Name: "named"})
			r.create(apivolume.CreateOptions{Name: "labelled", Labels: map[string]string{"keep": ""}})
			r.create(apivolume.CreateOptions{Name: "device", DriverOpts: map[string]string{"type": "none", "o": "bind", "device": "/d"}})
			r.container("c", &container.HostConfig{Binds: []string{"used:/x"}})
			assert.NilError(t, os.MkdirAll(anonymous.Mountpoint, 0o755))
			assert.NilError(t, os.WriteFile(filepath.Join(anonymous.Mountpoint, "f"), make([]byte, 1000), 0o644))

			report, err := r.Prune(r.ctx, filters.NewArgs(tc.filters...))

			assert.NilError(t, err)
			assert.Equal(t, len(report.VolumesDeleted), tc.gone)
			left := map[string]bool{}
			for _, n := range r.names() {
				left[n] = true
			}
			for _, n := range strings.Fields(tc.left) {
				assert.Check(t, left[n], n)
			}
			if !left[anonymous.Name] {
				assert.Equal(t, report.SpaceReclaimed, uint64(1000))
			}
		})
	}
	r := newVolumeRig(t)
	_, err := r.Prune(r.ctx, filters.NewArgs(filters.Arg("all", "maybe")))
	assert.ErrorContains(t, err, "invalid filter 'all'")
	_, err = r.Prune(r.ctx, filters.NewArgs(filters.Arg("dangling", "true")))
	assert.ErrorType(t, err, errdefs.IsInvalidArgument)
}

func TestResolveMounts(t *testing.T) {
	r := newVolumeRig(t)
	dir := t.TempDir()
	r.container("db", &container.HostConfig{Binds: []string{"pg:/pg", dir + ":/h:ro,rslave"}, Mounts: []mount.Mount{{Type: "tmpfs", Target: "/t"}}}, "/anon")
	tests := []struct {
		name    string
		hc      container.HostConfig
		volumes []string
		old     bool   // the client's API is older than 1.44
		want    string // one mount a line: type name destination mode rw propagation, anonymous
	}{
		{"nothing", container.HostConfig{}, nil, false, ""},
		{"all forms", container.HostConfig{
			Binds:  []string{"/h:/b", "named:/c:ro", "x1:/d:nocopy"},
			Mounts: []mount.Mount{{Type: "volume", Source: "named", Target: "/e"}, {Type: "bind", Source: dir, Target: "/f", ReadOnly: true, BindOptions: &mount.BindOptions{NonRecursive: true}}, {Type: "tmpfs", Target: "/g", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20}}},
			Tmpfs:  map[string]string{"/tmp": "size=1m"},
		}, []string{"/img", "/b", "/tmp"}, false, `bind - /b "" true rprivate
volume named /c "ro" false
volume x1 /d "nocopy" true nocopy
volume named /e "z" true
bind - /f "" false rprivate [bind]
tmpfs - /g "" true [size=1m]
volume * /img "" true anonymous`},
		{"anonymous by mount", container.HostConfig{Mounts: []mount.Mount{{Type: "volume", Target: "/a"}}}, nil, false, `volume * /a "z" true anonymous`},
		{"volumes of another", container.HostConfig{VolumesFrom: []string{"db"}}, []string{"/anon"}, false, `volume * /anon "" true nocopy anonymous
bind - /h "" false rslave
volume pg /pg "" true nocopy
tmpfs - /t "" true`},
		{"volumes of another, read-only, one replaced", container.HostConfig{VolumesFrom: []string{"db:ro"}, Binds: []string{"mine:/pg"}}, nil, false, `volume * /anon "" false nocopy anonymous
bind - /h "" false rslave
volume mine /pg "z" true
tmpfs - /t "" false`},
		{"read-only, and what is mounted below", container.HostConfig{
			Binds: []string{"/h:/a:ro", "/h:/b"},
			Mounts: []mount.Mount{
				{Type: "bind", Source: dir, Target: "/c", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}},
				{Type: "bind", Source: dir, Target: "/d", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}},
			},
		}, nil, false, `bind - /a "ro" false rprivate
bind - /b "" true rprivate
bind - /c "" false rprivate [ro]
bind - /d "" false rprivate [rro]`},
		{"read-only for an old client", container.HostConfig{
			Binds:  []string{"/h:/a:ro", "/h:/b", "named:/v:ro"},
			Mounts: []mount.Mount{{Type: "bind", Source: dir, Target: "/c", ReadOnly: true}},
		}, nil, true, `bind - /a "ro" false rprivate [ro]
bind - /b "" true rprivate
bind - /c "" false rprivate [ro]
volume named /v "ro" false`},
		{"around the data root", container.HostConfig{Binds: []string{"/:/host"}}, nil, false, `bind - /host "" true rslave`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			mounts, _, err := r.Resolve(r.ctx, nereid.Admin, &tc.hc, set(tc.volumes...), tc.old)
			assert.NilError(t, err)
			var lines []string
			for _, m := range mounts {
				lines = append(lines, describeMount(m))
			}
			assert.Equal(t, strings.Join(lines, "\n"), tc.want)
		})
	}
}

func describeMount(m state.Mount) string {
	name := m.Name
	switch len(name) {
	case 0:
		name = "-"
	case 64:
		name = "*"
	}
	line := fmt.Sprintf("%s %s %s %q %v", m.Type, name, m.Destination, m.Mode, m.RW)
	if m.Propagation != "" {
		line += " " + m.Propagation
	}
	if m.NoCopy {
		line += " nocopy"
	}
	if m.Anonymous {
		line += " anonymous"
	}
	if len(m.Options) > 0 {
		line += " " + fmt.Sprint(m.Options)
	}
	return line
}

func TestResolveRefuses(t *testing.T) {
	r := newVolumeRig(t)
	r.commit(state.Create(&state.Volume{Account: nereid.Admin, Name: "away", Home: "h2", Driver: "local"}))
	in := filepath.Join(r.DataRoot, "x")
	tests := []struct {
		hc      container.HostConfig
		volumes []string
		class   func(error) bool
		words   string
	}{
		{container.HostConfig{Binds: []string{"/a:/x", "/b:/x/"}}, nil, errdefs.IsInvalidArgument, "Duplicate mount point: /x"},
		{container.HostConfig{Binds: []string{"/a:/x"}, Mounts: []mount.Mount{{Type: "volume", Target: "/x"}}}, nil, errdefs.IsInvalidArgument, "Duplicate mount point: /x"},
		{container.HostConfig{Binds: []string{"/a:/x"}, Tmpfs: map[string]string{"/x": ""}}, nil, errdefs.IsInvalidArgument, "Duplicate mount point: /x"},
		{container.HostConfig{Tmpfs: map[string]string{"x": ""}}, nil, errdefs.IsInvalidArgument, "invalid mount path: 'x' mount path must be absolute"},
		{container.HostConfig{Tmpfs: map[string]string{"/x": "color=blue"}}, nil, errdefs.IsInvalidArgument, `invalid tmpfs option "color"`},
		{container.HostConfig{VolumesFrom: []string{"nobody"}}, nil, errdefs.IsInvalidArgument, "No such container: nobody"},
		{container.HostConfig{Binds: []string{"a b:/x"}}, nil, errdefs.IsInvalidArgument, `create a b: "a b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
		{container.HostConfig{Binds: []string{"vol:/x"}, VolumeDriver: "nfs"}, nil, errdefs.IsNotFound, `create vol: error looking up volume plugin nfs: plugin "nfs" not found`},
		{container.HostConfig{Mounts: []mount.Mount{{Type: "bind", Source: "/no/such", Target: "/x"}}}, nil, errdefs.IsInvalidArgument, `invalid mount config for type "bind": bind source path does not exist: /no/such`},
		{container.HostConfig{}, []string{"/"}, errdefs.IsInvalidArgument, "invalid specification: destination can't be '/'"},
		{container.HostConfig{Binds: []string{"away:/x"}}, nil, errdefs.IsFailedPrecondition, "volume away is on host h2"},
		{container.HostConfig{Binds: []string{in + ":/x:private"}}, nil, errdefs.IsInvalidArgument, fmt.Sprintf(`invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: "private"`, r.DataRoot, in)},
	}
	for _, tc := range tests {
		_, _, err := r.Resolve(r.ctx, nereid.Admin, &tc.hc, set(tc.volumes...), false)
		assert.Error(t, err, tc.words)
		assert.ErrorType(t, err, tc.class)
	}
	assert.DeepEqual(t, r.names(), []string{"away"})
}

func TestFirstUseGivesAVolumeItsHome(t *testing.T) {
	r := newVolumeRig(t)
	r.commit(state.Put(&state.Member{Name: "h1"}), state.Put(&state.Member{Name: "h2"}))
	v := r.create(apivolume.CreateOptions{Name: "data"})
	home := func() nereid.Host { v, _ := r.State.View().Volume(nereid.Admin, "data"); return v.Home }
	assert.Equal(t, home(), nereid.Host(""))
	_, err := os.Stat(v.Mountpoint)
	assert.ErrorIs(t, err, os.ErrNotExist)
	r.container("c", &container.HostConfig{Binds: []string{"data:/x", "data:/y"}})
	assert.Equal(t, home(), nereid.Host("h1"))
}

func TestAVolumeOfTheOnlyHostIsThereAtOnce(t *testing.T) {
	r := newVolumeRig(t)
	v := r.create(apivolume.CreateOptions{Name: "data"})
	info, err := os.Stat(v.Mountpoint)
	assert.NilError(t, err)
	assert.Assert(t, info.IsDir())
	assert.NilError(t, os.WriteFile(filepath.Join(v.Mountpoint, "mine"), nil, 0o600))
	assert.Equal(t, r.create(apivolume.CreateOptions{Name: "data"}).Mountpoint, v.Mountpoint, "once more")
	_, err = os.Stat(filepath.Join(v.Mountpoint, "mine"))
	assert.NilError(t, err)
	assert.NilError(t, r.Remove(r.ctx, "data", false))
	_, err = os.Stat(v.Mountpoint)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestPrepareCopiesWhatTheImageHas(t *testing.T) {
	r := newVolumeRig(t)
	img := t.TempDir()
	for _, d := range []string{"a", "b", "c"} {
		assert.NilError(t, os.MkdirAll(filepath.Join(img, d, "from-image"), 0o755))
	}
	c := r.container("c", &container.HostConfig{Binds: []string{"va:/a", "vb:/b:nocopy"}}, "/c")
	has := func(dest string) bool {
		for _, m := range c.Mounts {
			if m.Destination == dest {
				_, err := os.Stat(filepath.Join(m.Source, "from-image"))
				return err == nil
			}
		}
		return false
	}

	assert.NilError(t, r.Prepare(r.ctx, c, mountedAt(img)))

	assert.Assert(t, has("/a"))
	assert.Assert(t, !has("/b"), "nocopy")
	assert.Assert(t, has("/c"))
	full := r.container("d", &container.HostConfig{Binds: []string{"va:/a"}})
	assert.NilError(t, r.Prepare(r.ctx, full, func(context.Context) (string, func() error, error) {
		return "", nil, errors.New("mounted though there is nothing to copy")
	}))
}

func TestRuntimeMounts(t *testing.T) {
	r := newVolumeRig(t)
	dir := t.TempDir()
	c := r.container("c", &container.HostConfig{
		Binds:  []string{dir + "/made:/deep/er/bind:ro", "vol:/v"},
		Mounts: []mount.Mount{{Type: "tmpfs", Target: "/t", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 4096}}, {Type: "volume", Source: "vol", Target: "/part", VolumeOptions: &mount.VolumeOptions{Subpath: "sub"}}},
		Tmpfs:  map[string]string{"/run": "exec"},
	})
	vol := volume.Mountpoint(r.DataRoot, nereid.Admin, "vol")
	_, _, err := r.RuntimeMounts(r.ctx, c, holderOf(keyOf(c)))
	assert.ErrorType(t, err, errdefs.IsNotFound, "a part of a volume that is not there")
	assert.NilError(t, os.MkdirAll(filepath.Join(vol, "sub"), 0o755))

	mounts, release, err := r.RuntimeMounts(r.ctx, c, holderOf(keyOf(c)))

	assert.NilError(t, err)
	defer release()
	byDest := map[string]string{}
	for _, m := range mounts {
		byDest[m.Destination] = fmt.Sprintf("%s %s ro=%v rec=%v %s %v", m.Type, m.Source, m.ReadOnly, m.Recursive, m.Propagation, m.Options)
	}
	assert.Equal(t, mounts[len(mounts)-1].Destination, "/deep/er/bind", "inner mounts come last")
	assert.Equal(t, byDest["/deep/er/bind"], "bind "+dir+"/made ro=true rec=true rprivate []")
	assert.Equal(t, byDest["/v"], "bind "+vol+" ro=false rec=true  []")
	assert.Assert(t, strings.Contains(byDest["/t"], "size=4k") && strings.Contains(byDest["/t"], "noexec"), byDest["/t"])
	assert.Assert(t, strings.Contains(byDest["/run"], "exec") && !strings.Contains(byDest["/run"], "noexec"), byDest["/run"])
	info, err := os.Stat(filepath.Join(dir, "made"))
	assert.NilError(t, err)
	assert.Assert(t, info.IsDir())
	for _, m := range mounts {
		if m.Destination == "/part" {
			got, err := os.Stat(m.Source)
			assert.NilError(t, err)
			want, err := os.Stat(filepath.Join(vol, "sub"))
			assert.NilError(t, err)
			assert.Assert(t, os.SameFile(got, want))
		}
	}
}

func TestReleaseRemovesAnonymousVolumesOfTheLastUser(t *testing.T) {
	r := newVolumeRig(t)
	a := r.container("a", &container.HostConfig{Binds: []string{"named:/n"}}, "/anon")
	assert.NilError(t, r.Prepare(r.ctx, a, noRootfs(t)))
	b := r.container("b", &container.HostConfig{VolumesFrom: []string{"a"}})
	assert.Equal(t, len(r.names()), 2)

	r.remove(a, true)
	assert.Equal(t, len(r.names()), 2, "b still uses it")
	r.remove(b, true)

	assert.DeepEqual(t, r.names(), []string{"named"})
	dirs, err := os.ReadDir(filepath.Join(r.DataRoot, "volumes/admin"))
	assert.NilError(t, err)
	assert.Equal(t, len(dirs), 1)
}

// TestReleaseOfTwoAtOnce: each saw the other use the volume, so neither took it along.
func TestReleaseOfTwoAtOnce(t *testing.T) {
	r := newVolumeRig(t)
	a := r.container("a", &container.HostConfig{}, "/anon")
	b := r.container("b", &container.HostConfig{VolumesFrom: []string{"a"}})
	opsA, afterA := r.ReleaseOps(a, true)
	opsB, afterB := r.ReleaseOps(b, true)
	r.commit(append(opsA, state.Delete(a))...)
	r.commit(append(opsB, state.Delete(b))...)
	assert.NilError(t, afterA(r.ctx))
	assert.NilError(t, afterB(r.ctx))
	assert.Equal(t, len(r.names()), 0)
}

func TestReleaseWithoutVolumesKeepsThem(t *testing.T) {
	r := newVolumeRig(t)
	r.remove(r.container("a", &container.HostConfig{}, "/anon"), false)
	assert.Equal(t, len(r.names()), 1)
}

func TestVolumeMountEvents(t *testing.T) {
	r := newVolumeRig(t)
	c := r.container("c", &container.HostConfig{Binds: []string{"data:/x:ro", "/h:/h"}})
	r.commit(r.MountEvents(c)...)
	r.commit(r.UnmountEvents(c)...)
	assert.DeepEqual(t, r.told(), []string{"create data", "mount data", "unmount data"})
	all := r.State.View().Events(0, 0).Ready()
	assert.DeepEqual(t, all[len(all)-2].Message.Actor.Attributes, map[string]string{
		"container": string(c.ID), "destination": "/x", "driver": "local", "propagation": "", "read/write": "false",
	})
}

func TestVolumeDiskUsage(t *testing.T) {
	r := newVolumeRig(t)
	for name, size := range map[string]int{"used": 100, "idle": 23} {
		v := r.create(apivolume.CreateOptions{Name: name})
		assert.NilError(t, os.MkdirAll(v.Mountpoint, 0o755))
		assert.NilError(t, os.WriteFile(filepath.Join(v.Mountpoint, "f"), make([]byte, size), 0o644))
	}
	r.container("c", &container.HostConfig{Binds: []string{"used:/x"}})
	du, err := r.DiskUsage(r.ctx)
	assert.NilError(t, err)
	assert.Equal(t, du.TotalSize, int64(123))
	assert.Equal(t, du.Reclaimable, int64(23))
	assert.Equal(t, du.Items[0].Name, "idle")
	assert.DeepEqual(t, du.Items[1].UsageData, &apivolume.UsageData{Size: 100, RefCount: 1})
}
