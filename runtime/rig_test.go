package runtime_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime"
)

// binDir holds containerd-shim-runc-v2 and runc.
var binDir string

func TestMain(m *testing.M) {
	if role := os.Getenv("RUNTIME_TEST_ROLE"); role != "" {
		os.Exit(playRole(role))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	binDir = os.Getenv("NEREID_TEST_BIN")
	if binDir == "" {
		dir, err := buildBinaries()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binDir = dir
	}
	return m.Run()
}

func buildBinaries() (string, error) {
	dir, err := os.MkdirTemp("", "nereid-bin")
	if err != nil {
		return "", err
	}
	for name, pkg := range map[string]string{
		"nereid-shim":             "github.com/nereid-paas/nereid/cmd/nereid-shim",
		"containerd-shim-runc-v2": "github.com/nereid-paas/nereid/cmd/containerd-shim-runc-v2",
		"runc":                    "github.com/opencontainers/runc",
		"init":                    "./testdata/init",
	} {
		out, err := build(filepath.Join(dir, name), pkg)
		if err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
}

func build(bin, pkg string) ([]byte, error) {
	cmd := exec.Command("go", "build", "-tags", "seccomp", "-o", bin, pkg)
	if strings.HasPrefix(pkg, "./testdata") {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	return cmd.CombinedOutput()
}

// report is one call of the Handler.
type report struct {
	oom  bool
	exit runtime.Exit
}

// recorder is a Handler that keeps what it is told.
type recorder struct {
	mu      sync.Mutex
	reports []report
	told    chan struct{} // closed, and replaced, by the next report
}

func newRecorder() *recorder { return &recorder{told: make(chan struct{})} }

func (r *recorder) Exited(_ context.Context, e runtime.Exit) { r.add(report{exit: e}) }

func (r *recorder) OOM(_ context.Context, key runtime.Key) {
	r.add(report{oom: true, exit: runtime.Exit{Key: key}})
}

func (r *recorder) add(rep report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, rep)
	close(r.told)
	r.told = make(chan struct{})
}

func (r *recorder) all() []report {
	all, _ := r.snapshot()
	return all
}

// snapshot is what was told so far, and what the next report closes.
func (r *recorder) snapshot() ([]report, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]report(nil), r.reports...), r.told
}

// soon bounds what a test waits for: what comes ends the waiting, and a busy machine takes its time.
const soon = time.Minute

// wait blocks until a report fits.
func (r *recorder) wait(t testing.TB, what string, fits func(report) bool) report {
	t.Helper()
	timeout := time.After(soon)
	for {
		all, more := r.snapshot()
		for _, rep := range all {
			if fits(rep) {
				return rep
			}
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("not told of %s; told %+v", what, r.all())
		}
	}
}

func (r *recorder) exitOf(t testing.TB, key runtime.Key) runtime.Exit {
	t.Helper()
	return r.wait(t, "exit of "+string(key.ID), func(rep report) bool {
		return !rep.oom && rep.exit.Key == key && rep.exit.ExecID == ""
	}).exit
}

// rig is a runtime with a busybox image, and what it takes to leave nothing behind.
type rig struct {
	t       testing.TB
	ctx     context.Context
	dir     string
	cgroup  string
	cfg     runtime.Config
	rt      *runtime.Runtime
	handler *recorder
	image   ocispec.Descriptor
}

func newRig(t testing.TB) *rig {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	dir, err := os.MkdirTemp("", "nrt")
	assert.NilError(t, err)
	g := &rig{t: t, dir: dir, cgroup: "/" + filepath.Base(dir), handler: newRecorder()}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	g.ctx = ctx
	t.Cleanup(cancel)
	t.Cleanup(g.checkNothingLeft)
	g.cfg = rigConfig(dir, g.cgroup)
	g.start()
	t.Cleanup(g.stop)
	g.image = importBusybox(t, g.ctx, g.rt)
	return g
}

func rigConfig(dir, cgroup string) runtime.Config {
	return runtime.Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "s"), CgroupParent: cgroup,
		Shim: filepath.Join(binDir, "nereid-shim"), Runc: filepath.Join(binDir, "runc"),
		Init: filepath.Join(binDir, "init"),
	}
}

func (g *rig) start() {
	g.t.Helper()
	rt, err := runtime.New(g.cfg, g.handler)
	assert.NilError(g.t, err)
	assert.NilError(g.t, rt.Start(g.ctx))
	g.rt = rt
}

// stop removes every container; what is left then is a leak.
func (g *rig) stop() {
	tasks, err := g.rt.Tasks(g.ctx)
	assert.Check(g.t, err)
	for key := range tasks {
		assert.Check(g.t, g.rt.DeleteTask(g.ctx, key))
		assert.Check(g.t, g.rt.Discard(g.ctx, key))
	}
	assert.Check(g.t, g.rt.Close())
}

func (g *rig) checkNothingLeft() {
	t := g.t
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	assert.Check(t, err)
	for _, line := range strings.Split(string(mounts), "\n") {
		assert.Check(t, !strings.Contains(line, g.dir+"/"), "mount left: %s", line)
	}
	assert.Check(t, len(processesWith(g.dir)) == 0, "processes left: %v", processesWith(g.dir))
	left, err := filepath.Glob(filepath.Join(g.dir, "s", "tasks", "*", "*"))
	assert.Check(t, err)
	assert.Check(t, len(left) == 0, "task directories left: %v", left)
	left, err = filepath.Glob(filepath.Join(g.dir, "s", "io.containerd.runtime.v2.task", "*", "*"))
	assert.Check(t, err)
	assert.Check(t, len(left) == 0, "bundles left: %v", left)
	for _, dir := range cgroupDirs(g.cgroup) {
		below, err := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
		assert.Check(t, err)
		assert.Check(t, len(below) == 0, "cgroups left: %v", below)
		assert.Check(t, os.Remove(dir))
	}
	assert.Check(t, os.RemoveAll(g.dir))
}

func cgroupDirs(parent string) []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
	if _, err := os.Stat("/sys/fs/cgroup" + parent); err == nil {
		dirs = append(dirs, "/sys/fs/cgroup"+parent)
	}
	return dirs
}

// processesWith are the processes that have a word in their command line: shims know their containerd's socket.
func processesWith(word string) []string {
	var found []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(word)) && !strings.Contains(path, fmt.Sprintf("/%d/", os.Getpid())) {
			found = append(found, path+": "+strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return found
}

// spec is a container that runs a shell command.
func (g *rig) spec(script string, with ...func(*runtime.Spec)) runtime.Spec {
	id := nereid.NewContainerID()
	s := runtime.Spec{
		Key:  runtime.Key{Account: nereid.Admin, ID: id},
		Path: "sh", Args: []string{"-c", script},
		Config: &container.Config{}, HostConfig: &container.HostConfig{NetworkMode: "host"},
		Image: g.image, Hostname: id.Short(),
		Log: runtime.LogConfig{Driver: "json-file", Path: filepath.Join(g.dir, string(id)+"-json.log")},
	}
	for _, w := range with {
		w(&s)
	}
	return s
}

func (g *rig) create(s runtime.Spec) {
	g.t.Helper()
	assert.NilError(g.t, g.rt.Prepare(g.ctx, s))
	pid, err := g.rt.CreateTask(g.ctx, s)
	assert.NilError(g.t, err)
	assert.Assert(g.t, pid > 0)
}

func (g *rig) run(s runtime.Spec) runtime.Key {
	g.t.Helper()
	g.create(s)
	assert.NilError(g.t, g.rt.StartTask(g.ctx, s.Key))
	return s.Key
}

// logged is all that is in a container's log.
func (g *rig) logged(s runtime.Spec) string {
	g.t.Helper()
	var out strings.Builder
	for m, err := range g.rt.Logs(g.ctx, s.Key, s.Log, runtime.LogOptions{Tail: -1, Stdout: true, Stderr: true}) {
		assert.NilError(g.t, err)
		out.Write(m.Line)
	}
	return out.String()
}

// output runs a command to its end and gives its output and exit code.
func (g *rig) output(script string, with ...func(*runtime.Spec)) (string, runtime.Exit) {
	g.t.Helper()
	s := g.spec(script, with...)
	key := g.run(s)
	exit := g.handler.exitOf(g.t, key)
	out := g.logged(s)
	assert.NilError(g.t, g.rt.DeleteTask(g.ctx, key))
	assert.NilError(g.t, g.rt.Discard(g.ctx, key))
	return out, exit
}

// importBusybox puts an image of one static binary into the content store, in two layers.
func importBusybox(t testing.TB, ctx context.Context, rt *runtime.Runtime) ocispec.Descriptor {
	t.Helper()
	manifest, err := writeBusybox(ctx, rt)
	assert.NilError(t, err)
	return manifest
}

func writeBusybox(ctx context.Context, rt *runtime.Runtime) (ocispec.Descriptor, error) {
	ctx = namespaces.WithNamespace(ctx, string(nereid.Admin))
	ctx, done, err := rt.Client().WithLease(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer done(context.WithoutCancel(ctx))
	var layers []ocispec.Descriptor
	var diffs []digest.Digest
	for _, layer := range [][]byte{busyboxLayer(), filesLayer()} {
		d, err := writeBlob(ctx, rt, ocispec.MediaTypeImageLayer, layer, nil)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		layers, diffs = append(layers, d), append(diffs, d.Digest)
	}
	config, err := writeJSON(ctx, rt, ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffs},
	}, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	refs := map[string]string{
		"containerd.io/gc.ref.content.config": config.Digest.String(),
		"containerd.io/gc.ref.content.l.0":    layers[0].Digest.String(),
		"containerd.io/gc.ref.content.l.1":    layers[1].Digest.String(),
	}
	manifest, err := writeJSON(ctx, rt, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	}, refs)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_, err = rt.Client().ImageService().Create(ctx, images.Image{Name: "busybox", Target: manifest})
	if errdefs.IsAlreadyExists(err) {
		err = nil
	}
	return manifest, err
}

func writeJSON(ctx context.Context, rt *runtime.Runtime, mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return writeBlob(ctx, rt, mediaType, data, labels)
}

func writeBlob(ctx context.Context, rt *runtime.Runtime, mediaType string, data []byte, labels map[string]string) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return d, content.WriteBlob(ctx, rt.Client().ContentStore(), d.Digest.String(), bytes.NewReader(data), d, content.WithLabels(labels))
}

// tarball makes a layer; directories end in a slash, "name -> target" is a link.
func tarball(files map[string]string, names ...string) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		h := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(files[name]))}
		if strings.HasPrefix(name, "etc/") {
			h.Mode = 0o644
		}
		if strings.HasSuffix(name, "/") {
			h.Mode = 0o755
			h.Typeflag = tar.TypeDir
		}
		if link, target, ok := strings.Cut(name, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag = link, target, tar.TypeSymlink
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

var applets = []string{
	"sh", "cat", "echo", "sleep", "id", "env", "ls", "mount", "hostname", "pwd", "dd", "head", "seq", "stty", "kill", "true",
	"touch", "rm", "mkdir", "stat", "grep", "wc", "nc", "ps", "sysctl", "tail", "yes", "chmod", "ip", "readlink", "tty",
}

func busyboxLayer() []byte {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		panic(err)
	}
	names := []string{"bin/", "bin/busybox"}
	for _, a := range applets {
		names = append(names, "bin/"+a+" -> busybox")
	}
	return tarball(map[string]string{"bin/busybox": string(busybox)}, names...)
}

func filesLayer() []byte {
	return tarball(map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n",
		"etc/group":  "root:x:0:\nwheel:x:10:root\nann:x:1001:\nstaff:x:50:ann\naudio:x:29:\n",
	}, "etc/", "etc/passwd", "etc/group", "tmp/", "root/", "home/", "home/ann/", "proc/", "sys/", "dev/")
}

// collect runs containerd's collector to its end.
func collect(t testing.TB, g *rig) {
	t.Helper()
	ctx := namespaces.WithNamespace(g.ctx, string(nereid.Admin))
	l, err := g.rt.Client().LeasesService().Create(ctx, leases.WithRandomID())
	assert.NilError(t, err)
	assert.NilError(t, g.rt.Client().LeasesService().Delete(ctx, l, leases.SynchronousDelete))
}

func killPid(t testing.TB, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	assert.NilError(t, err)
	assert.NilError(t, syscall.Kill(n, syscall.SIGKILL))
}
