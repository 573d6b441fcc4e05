package engine

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// BenchmarkList answers `docker ps` from a state of 50,000 containers that run on 100 hosts, to the JSON that is sent, and
// tells the slowest in a hundred.
func BenchmarkList(b *testing.B) {
	const containers, hosts, perTxn = 50_000, 100, 100
	store, err := state.Open(context.Background(), state.Config{Dir: filepath.Join(imagetest.Dir(b), "etcd"), Host: "h1"})
	assert.NilError(b, err)
	ctx, cancel := context.WithCancel(nereid.WithAccount(context.Background(), nereid.Admin))
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		assert.Check(b, <-done)
		assert.Check(b, store.Close())
	})
	var ops []state.Op
	for i := range containers {
		r := &state.Container{
			Account: nereid.Admin, ID: nereid.NewContainerID(), Name: fmt.Sprint("c", i), Host: nereid.Host(fmt.Sprint("h", i%hosts)),
			Created: time.Now().UTC(), Image: "busybox", ImageID: "sha256:0", Path: "sleep", Args: []string{"600"}, Starts: 1,
			Config:     &container.Config{Image: "busybox", Cmd: []string{"sleep", "600"}, Labels: map[string]string{"app": fmt.Sprint("a", i%500), "tier": "back"}},
			HostConfig: &container.HostConfig{NetworkMode: "bridge"},
			State:      state.RunState{Status: state.StatusRunning, Pid: i + 1, StartedAt: time.Now().UTC()},
		}
		ops = append(ops, state.Create(r), state.Create(&state.Name{Account: r.Account, Name: r.Name, Container: r.ID}))
		if len(ops) == perTxn {
			_, err := store.Commit(ctx, ops...)
			assert.NilError(b, err)
			ops = ops[:0]
		}
	}
	deps := Deps{Host: "h1", State: store, Log: zap.NewNop()}
	c := NewContainers(deps, NewNetworks(deps), NewVolumes(deps), NewImages(deps, nil))
	for _, bc := range []struct {
		name  string
		want  int
		asked filters.Args
	}{
		{"all", containers, filters.NewArgs()},
		{"of a label", containers / 500, filters.NewArgs(filters.Arg("label", "app=a7"))},
		{"of a host", containers / hosts, filters.NewArgs(filters.Arg("node", "h7"))},
		{"by name", 1, filters.NewArgs(filters.Arg("name", "^c4711$"))},
		{"by a part of a name", 15, filters.NewArgs(filters.Arg("name", "4711"))},
	} {
		b.Run(bc.name, func(b *testing.B) {
			var took []time.Duration
			before := memory()
			begin := time.Now()
			list, err := c.ListJSON(ctx, container.ListOptions{Filters: bc.asked})
			assert.NilError(b, err)
			_, err = list.WriteTo(io.Discard)
			assert.NilError(b, err)
			first, kept := time.Since(begin), memory()-before
			spent := cpuTime(b)
			for b.Loop() {
				begin := time.Now()
				list, err := c.ListJSON(ctx, container.ListOptions{Filters: bc.asked})
				assert.NilError(b, err)
				_, err = list.WriteTo(io.Discard)
				assert.NilError(b, err)
				took = append(took, time.Since(begin))
				assert.Equal(b, len(list.(listJSON).shown), bc.want)
			}
			b.ReportMetric(float64((cpuTime(b)-spent).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(first.Microseconds())/1000, "first-ms")
			b.ReportMetric(kept, "kept-MB")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// memory that is in use after a collection, in MB.
func memory() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

// cpuTime is what this process has used: of a machine that is busy with other work it tells more than the clock.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	assert.NilError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
