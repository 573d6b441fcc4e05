package runtime_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime"
)

func TestRunToItsEnd(t *testing.T) {
	g := newRig(t)
	out, exit := g.output("echo out; sleep 0.1; echo err >&2; exit 7")
	assert.Equal(t, out, "out\nerr\n")
	assert.Equal(t, exit.Code, 7)
	assert.Equal(t, exit.OOMKilled, false)
	assert.Assert(t, !exit.At.IsZero())
}

// The engine makes exit codes of these words, and users see them.
func TestCommandsThatCannotRun(t *testing.T) {
	g := newRig(t)
	const prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
	for _, c := range []struct{ name, path, want string }{
		{"not found", "nothere", `exec: "nothere": executable file not found in $PATH`},
		{"no such file", "/bin/nothere", `exec: "/bin/nothere": stat /bin/nothere: no such file or directory`},
		{"permission", "/etc/passwd", `permission denied`},
		{"directory", "/etc", `is a directory`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := g.spec("", func(s *runtime.Spec) { s.Path, s.Args = c.path, nil })
			assert.NilError(t, g.rt.Prepare(g.ctx, s))
			_, err := g.rt.CreateTask(g.ctx, s)
			assert.Assert(t, err != nil)
			assert.Assert(t, strings.HasPrefix(err.Error(), prefix), err)
			assert.ErrorContains(t, err, c.want)
			assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))
			_, err = os.Stat(filepath.Join(g.dir, "s", "tasks", "admin", string(s.ID)))
			assert.Assert(t, errors.Is(err, os.ErrNotExist))
			assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
		})
	}
	assert.Equal(t, len(g.handler.all()), 0)
}

func TestSpecsThatAreRefused(t *testing.T) {
	g := newRig(t)
	for _, c := range []struct {
		name, want string
		with       func(*runtime.Spec)
	}{
		{"user", "unable to find user nobody: no matching entries in passwd file", func(s *runtime.Spec) { s.Config.User = "nobody" }},
		{"group", "unable to find group nogroup: no matching entries in group file", func(s *runtime.Spec) { s.Config.User = "ann:nogroup" }},
		{"working directory", "Cannot mkdir: /etc/passwd is not a directory", func(s *runtime.Spec) { s.Config.WorkingDir = "/etc/passwd" }},
		{"capability", `unknown capability: "CAP_FLY"`, func(s *runtime.Spec) { s.HostConfig.CapAdd = []string{"fly"} }},
		{"log driver", `error looking up logging plugin bottle: plugin "bottle" not found`, func(s *runtime.Spec) { s.Log.Driver = "bottle" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := g.spec("true", c.with)
			assert.NilError(t, g.rt.Prepare(g.ctx, s))
			_, err := g.rt.CreateTask(g.ctx, s)
			assert.ErrorContains(t, err, c.want)
			tasks, err := g.rt.Tasks(g.ctx)
			assert.NilError(t, err)
			assert.Equal(t, len(tasks), 0)
			assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
		})
	}
}

func TestKillPauseAndStates(t *testing.T) {
	g := newRig(t)
	s := g.spec("trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done")
	assert.Assert(t, errdefs.IsNotFound(g.rt.Kill(g.ctx, s.Key, 9)))
	g.create(s)
	assert.Equal(t, g.status(s.Key), runtime.StatusCreated)
	assert.NilError(t, g.rt.StartTask(g.ctx, s.Key))
	assert.Equal(t, g.status(s.Key), runtime.StatusRunning)
	g.waitLogged(s, "up\n")

	assert.NilError(t, g.rt.Pause(g.ctx, s.Key))
	assert.Equal(t, g.status(s.Key), runtime.StatusPaused)
	assert.NilError(t, g.rt.Resume(g.ctx, s.Key))
	assert.Equal(t, g.status(s.Key), runtime.StatusRunning)

	_, err := g.rt.CreateTask(g.ctx, s)
	assert.Assert(t, errdefs.IsAlreadyExists(err))
	assert.NilError(t, g.rt.Kill(g.ctx, s.Key, int(syscall.SIGTERM)))
	assert.Equal(t, g.handler.exitOf(t, s.Key).Code, 3)
	assert.Assert(t, errdefs.IsFailedPrecondition(g.rt.Kill(g.ctx, s.Key, 9)))
	assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))
	assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))

	// The same container runs again, on the same root file system.
	s.Args[1] = "echo again"
	_, err = g.rt.CreateTask(g.ctx, s)
	assert.NilError(t, err)
	assert.NilError(t, g.rt.StartTask(g.ctx, s.Key))
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if len(g.handler.all()) == 2 {
			return poll.Success()
		}
		return poll.Continue("%d exits", len(g.handler.all()))
	}, poll.WithTimeout(soon))
	assert.Equal(t, g.logged(s), "up\nagain\n")
	assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))
	assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
}

func (g *rig) waitLogged(s runtime.Spec, want string) {
	g.t.Helper()
	poll.WaitOn(g.t, func(poll.LogT) poll.Result {
		if got := g.logged(s); got != want {
			return poll.Continue("logged %q", got)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
}

func (g *rig) status(key runtime.Key) string {
	tasks, err := g.rt.Tasks(g.ctx)
	assert.NilError(g.t, err)
	return tasks[key].Status
}

func TestSignalsBecomeCodes(t *testing.T) {
	g := newRig(t)
	s := g.spec("sleep 100")
	key := g.run(s)
	assert.NilError(t, g.rt.Kill(g.ctx, key, 9))
	assert.Equal(t, g.handler.exitOf(t, key).Code, 137)
}

func TestDeleteTaskKillsWhatRuns(t *testing.T) {
	g := newRig(t)
	running := g.run(g.spec("sleep 100"))
	assert.NilError(t, g.rt.DeleteTask(g.ctx, running))
	created := g.spec("sleep 100")
	g.create(created)
	assert.NilError(t, g.rt.DeleteTask(g.ctx, created.Key))
	assert.NilError(t, g.rt.Discard(g.ctx, running))
	assert.NilError(t, g.rt.Discard(g.ctx, created.Key))
	for _, r := range g.handler.all() {
		assert.Assert(t, r.exit.Key != created.Key, "the end of a process that never ran was reported")
	}
}

func TestOutOfMemory(t *testing.T) {
	g := newRig(t)
	out, exit := g.output("tail -c 300000000 /dev/zero; exit $?", func(s *runtime.Spec) {
		s.HostConfig.Memory = 20 << 20
	})
	assert.Equal(t, exit.OOMKilled, true, out)
	assert.Equal(t, exit.Code, 137)
	reports := g.handler.all()
	assert.Equal(t, len(reports), 2)
	assert.Assert(t, reports[0].oom && !reports[1].oom)
}

// A shim that dies takes its container with it, and nothing else.
func TestShimDies(t *testing.T) {
	g := newRig(t)
	s := g.spec("sleep 100")
	key := g.run(s)
	for _, line := range processesWith(string(key.ID)) {
		pid := strings.Split(line, "/")[2]
		assert.NilError(t, os.WriteFile("/proc/"+pid+"/oom_score_adj", []byte("0"), 0o600))
		killPid(t, pid)
	}
	assert.Equal(t, g.handler.exitOf(t, key).Code, 137)
	assert.NilError(t, g.rt.DeleteTask(g.ctx, key))
	assert.NilError(t, g.rt.Discard(g.ctx, key))
}

func TestFileSystemOfAContainer(t *testing.T) {
	g := newRig(t)
	s := g.spec("echo new > /new; rm /etc/group; echo more >> /etc/passwd; sleep 100")
	key := g.run(s)
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		changes, err := g.rt.Changes(g.ctx, key)
		if err != nil || len(changes) < 4 {
			return poll.Continue("%v %v", changes, err)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
	changes, err := g.rt.Changes(g.ctx, key)
	assert.NilError(t, err)
	assert.DeepEqual(t, changes, []container.FilesystemChange{
		{Kind: container.ChangeModify, Path: "/etc"}, {Kind: container.ChangeDelete, Path: "/etc/group"},
		{Kind: container.ChangeModify, Path: "/etc/passwd"}, {Kind: container.ChangeAdd, Path: "/new"},
	})
	rw, total, err := g.rt.Size(g.ctx, key)
	assert.NilError(t, err)
	assert.Assert(t, rw > 0 && total > rw+1<<20, "%d %d", rw, total)
	dir, release, err := g.rt.Mount(g.ctx, key)
	assert.NilError(t, err)
	data, err := os.ReadFile(filepath.Join(dir, "new"))
	assert.NilError(t, err)
	assert.Equal(t, string(data), "new\n")
	assert.NilError(t, g.rt.DeleteTask(g.ctx, key))
	_, err = os.Stat(filepath.Join(dir, "new"))
	assert.NilError(t, err, "the mount ended with the task while somebody held it")
	assert.NilError(t, release())
	assert.NilError(t, release())
	_, err = os.Stat(filepath.Join(dir, "new"))
	assert.Assert(t, errors.Is(err, os.ErrNotExist))
	assert.NilError(t, g.rt.Discard(g.ctx, key))
	assert.NilError(t, g.rt.Discard(g.ctx, key))
	_, _, err = g.rt.Mount(context.Background(), key)
	assert.Assert(t, errdefs.IsNotFound(err), err)
}

func TestLimitsAndMeasures(t *testing.T) {
	g := newRig(t)
	s := g.spec("while :; do :; done", func(s *runtime.Spec) {
		s.HostConfig.Memory, s.HostConfig.NanoCPUs = 64<<20, 5e8
		limit := int64(50)
		s.HostConfig.PidsLimit = &limit
	})
	key := g.run(s)
	stats, err := g.rt.Stats(g.ctx, key)
	assert.NilError(t, err)
	assert.Equal(t, stats.MemoryStats.Limit, uint64(64<<20))
	assert.Equal(t, stats.PidsStats.Limit, uint64(50))
	assert.Assert(t, stats.PidsStats.Current > 0 && stats.MemoryStats.Usage > 0)
	assert.Assert(t, stats.CPUStats.OnlineCPUs > 0 && stats.CPUStats.SystemUsage > 0)
	assert.Assert(t, len(stats.MemoryStats.Stats) > 10)
	assert.Assert(t, stats.Networks == nil, "the host's links are not the container's")
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		again, err := g.rt.Stats(g.ctx, key)
		if err != nil || again.CPUStats.CPUUsage.TotalUsage <= stats.CPUStats.CPUUsage.TotalUsage {
			return poll.Continue("no time was used, %v", err)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))

	assert.NilError(t, g.rt.Update(g.ctx, key, container.Resources{Memory: 128 << 20, MemorySwap: 256 << 20}))
	stats, err = g.rt.Stats(g.ctx, key)
	assert.NilError(t, err)
	assert.Equal(t, stats.MemoryStats.Limit, uint64(128<<20))
	pids, err := g.rt.Pids(g.ctx, key)
	assert.NilError(t, err)
	assert.Equal(t, len(pids), 1)
}

// What the collector takes must not be what a container stands on.
func TestCollectorSparesWhatIsNeeded(t *testing.T) {
	g := newRig(t)
	s := g.spec("cat /etc/passwd")
	assert.NilError(t, g.rt.Prepare(g.ctx, s))
	collect(t, g)
	_, err := g.rt.CreateTask(g.ctx, s)
	assert.NilError(t, err)
	collect(t, g)
	assert.NilError(t, g.rt.StartTask(g.ctx, s.Key))
	assert.Equal(t, g.handler.exitOf(t, s.Key).Code, 0)
	assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))
	collect(t, g)
	_, err = g.rt.Changes(g.ctx, s.Key)
	assert.NilError(t, err)
	assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
	collect(t, g)
	again := g.spec("true")
	assert.NilError(t, g.rt.Prepare(g.ctx, again), "the image was collected")
	assert.NilError(t, g.rt.Discard(g.ctx, again.Key))
}

// A container could not be removed any more when somebody who was copying to it had not seen that its file system was
// unmounted.
func TestDiscardWithSomethingInThePlaceOfTheRootfs(t *testing.T) {
	g := newRig(t)
	s := g.spec("true")
	assert.NilError(t, g.rt.Prepare(g.ctx, s))
	dir, _, err := g.rt.Mount(g.ctx, s.Key)
	assert.NilError(t, err)
	assert.NilError(t, unix.Unmount(dir, unix.MNT_DETACH))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "late"), nil, 0o644))
	assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
	_, err = os.Lstat(dir)
	assert.Assert(t, os.IsNotExist(err))
}

// TestImageWithACommandOfOneString: Docker takes a list or a string for Cmd, and so does load. Such an image could not be run.
func TestImageWithACommandOfOneString(t *testing.T) {
	g := newRig(t)
	g.output("true") // unpacks the layers
	ctx, done, err := g.rt.Client().WithLease(namespaces.WithNamespace(g.ctx, string(nereid.Admin)))
	assert.NilError(t, err)
	defer func() { assert.Check(t, done(ctx)) }()
	whole, err := images.Manifest(ctx, g.rt.Client().ContentStore(), g.image, platforms.All)
	assert.NilError(t, err)
	diffs := []digest.Digest{whole.Layers[0].Digest, whole.Layers[1].Digest}
	whole.Config, err = writeJSON(ctx, g.rt, ocispec.MediaTypeImageConfig, map[string]any{
		"os": "linux", "architecture": "amd64", "config": map[string]string{"Cmd": "true"}, "rootfs": ocispec.RootFS{Type: "layers", DiffIDs: diffs},
	}, nil)
	assert.NilError(t, err)
	odd, err := writeJSON(ctx, g.rt, ocispec.MediaTypeImageManifest, whole, nil)
	assert.NilError(t, err)
	out, _ := g.output("echo hi", func(s *runtime.Spec) { s.Image = odd })
	assert.Equal(t, out, "hi\n")
}
