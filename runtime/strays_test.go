package runtime_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/runtime"
)

// A daemon killed while it made a container left what the next one did not find: a shim whose address nobody wrote
// down, or what a killed runc had made so far, on which every later start of the container stumbled.
func TestHalfMadeContainers(t *testing.T) {
	type place struct {
		dir     string
		key     runtime.Key
		bundle  string
		runcDir string
	}
	remove := func(t *testing.T, paths ...string) {
		t.Helper()
		for _, p := range paths {
			assert.NilError(t, os.RemoveAll(p))
		}
	}
	killShim := func(t *testing.T, p place) {
		t.Helper()
		for _, line := range processesWith(string(p.key.ID)) {
			killPid(t, strings.Split(line, "/")[2])
		}
	}
	cases := []struct {
		name  string
		leave func(*testing.T, place)
	}{
		{"shim not written down", func(t *testing.T, p place) { remove(t, filepath.Join(p.bundle, "bootstrap.json")) }},
		{"shim without a bundle", func(t *testing.T, p place) { remove(t, p.bundle) }},
		{"runc was killed", func(t *testing.T, p place) {
			killShim(t, p)
			remove(t, p.bundle, filepath.Join(p.runcDir, "state.json"))
		}},
		{"cgroup alone", func(t *testing.T, p place) {
			killShim(t, p)
			remove(t, p.bundle, p.runcDir)
		}},
		{"no task", func(t *testing.T, p place) { remove(t, filepath.Join(p.dir, "s", "tasks", "admin", string(p.key.ID))) }},
		{"no task and no bundle", func(t *testing.T, p place) {
			remove(t, filepath.Join(p.dir, "s", "tasks", "admin", string(p.key.ID)), p.bundle)
		}},
		{"task half removed", func(t *testing.T, p place) {
			tasks := filepath.Join(p.dir, "s", "tasks", "admin")
			assert.NilError(t, os.Rename(filepath.Join(tasks, string(p.key.ID)), filepath.Join(tasks, "."+string(p.key.ID))))
		}},
		{"bundle half removed", func(t *testing.T, p place) {
			killShim(t, p)
			dir, id := filepath.Split(p.bundle)
			assert.NilError(t, os.Rename(p.bundle, filepath.Join(dir, "."+id)))
			remove(t, filepath.Join(p.dir, "s", "tasks", "admin", id))
		}},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			s := specFor(t.TempDir(), "echo ran")
			g := newOrphans(t, errand{Specs: []runtime.Spec{s}, Create: []bool{true}}, func(dir string) {
				tt.leave(t, place{
					dir: dir, key: s.Key,
					bundle:  filepath.Join(dir, "s", "io.containerd.runtime.v2.task", "admin", string(s.ID)),
					runcDir: filepath.Join(dir, "s", "runc", "admin", string(s.ID)),
				})
			})
			tasks, err := g.rt.Tasks(g.ctx)
			assert.NilError(t, err)
			assert.Equal(t, len(tasks), 0)
			assert.Equal(t, len(processesWith(string(s.ID))), 0, "%v", processesWith(string(s.ID)))
			for _, dir := range cgroupDirs(g.cgroup) {
				_, err := os.Stat(filepath.Join(dir, string(s.ID)))
				assert.Assert(t, os.IsNotExist(err), "cgroup left in %s", dir)
			}
			assert.Equal(t, sockets(t, g), 0)
			g.run(s)
			assert.Equal(t, g.handler.exitOf(t, s.Key).Code, 0)
			assert.Equal(t, g.logged(s), "ran\n")
		})
	}
}

// sockets counts those that shims listen on, or did.
func sockets(t *testing.T, g *rig) int {
	t.Helper()
	entries, err := os.ReadDir(runtime.SocketDir(filepath.Join(g.dir, "s")))
	assert.NilError(t, err)
	return len(entries)
}

// A shim that was killed left its socket behind for ever.
func TestSocketOfAKilledShim(t *testing.T) {
	g := newRig(t)
	s := g.spec("sleep 600")
	key := g.run(s)
	assert.Equal(t, sockets(t, g), 1)
	for _, line := range processesWith("containerd-shim-runc-v2") {
		if strings.Contains(line, string(key.ID)) {
			killPid(t, strings.Split(line, "/")[2])
		}
	}
	g.handler.exitOf(t, key)
	assert.NilError(t, g.rt.DeleteTask(g.ctx, key))
	assert.Equal(t, sockets(t, g), 0)
}

// The data of a snapshot removed just before a crash lay there until another container was removed.
func TestRemovedSnapshotIsCollectedAfterACrash(t *testing.T) {
	g := newRig(t)
	count := func() int {
		found, err := filepath.Glob(filepath.Join(g.dir, "root", "io.containerd.snapshotter.v1.overlayfs", "snapshots", "*"))
		assert.NilError(t, err)
		return len(found)
	}
	s := g.spec("true")
	assert.NilError(t, g.rt.Prepare(g.ctx, s))
	with := count()
	assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
	assert.NilError(t, g.rt.Close()) // before the collector has come round
	if count() != with {
		t.Skip("the collector was faster than this machine")
	}
	g.start()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if n := count(); n != with-1 {
			return poll.Continue("%d snapshots, want %d", n, with-1)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
}

// The directory of a snapshot whose making was cut off had the number of the next, and no container could be made any more.
func TestSnapshotCutOff(t *testing.T) {
	g := newRig(t)
	s := g.spec("true")
	assert.NilError(t, g.rt.Prepare(g.ctx, s)) // the image is unpacked
	assert.NilError(t, g.rt.Close())
	all := filepath.Join(g.dir, "root", "io.containerd.snapshotter.v1.overlayfs", "snapshots")
	for i := range 20 { // more than there are
		_ = os.MkdirAll(filepath.Join(all, strconv.Itoa(i+1), "fs"), 0o755)
	}
	g.start()
	key := g.run(g.spec("exit 3"))
	assert.Equal(t, g.handler.exitOf(t, key).Code, 3)
	assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
}

// A start that is given up at any moment, as one is whose port is taken, leaves no shim: what starts it may be killed between
// starting it and telling where it listens.
func TestStartsGivenUp(t *testing.T) {
	g := newRig(t)
	s := g.spec("true")
	begin := time.Now()
	g.create(s)
	whole := time.Since(begin)
	assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))
	assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
	const moments = 60
	for i := range moments {
		s := g.spec("true")
		assert.NilError(t, g.rt.Prepare(g.ctx, s))
		ctx, cancel := context.WithCancel(g.ctx)
		give := time.AfterFunc(whole*time.Duration(i)/moments, cancel)
		if _, err := g.rt.CreateTask(ctx, s); err == nil {
			assert.NilError(t, g.rt.DeleteTask(g.ctx, s.Key))
		}
		give.Stop()
		cancel()
		left := processesWith(string(s.ID))
		assert.Check(t, len(left) == 0, "given up after %d of %d parts: %v", i, moments, left)
		assert.NilError(t, g.rt.Discard(g.ctx, s.Key))
	}
}
