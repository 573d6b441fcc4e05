//go:build bench

package bench

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/api/server"
	"github.com/nereid-paas/nereid/integration/lab"
	containers "github.com/nereid-paas/nereid/pkg/engine"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// survivors are the containers under a daemon that is killed.
const survivors = 10

// benchSurvival kills a daemon under containers that count, and counts those that go on and whose logs have every number.
func benchSurvival(t *testing.T, tb *table) {
	h := lab.NewWithBusybox(t)
	name := func(i int) string { return fmt.Sprint("count", i) }
	for i := range survivors {
		h.Docker(t, "run", "-d", "--name", name(i), "busybox", "sh", "-c", "n=0; while true; do echo $n; n=$((n+1)); sleep 0.05; done")
	}
	h.Kill9(t)
	h.Start(t)
	lines := func(i int) []string { return strings.Fields(h.Docker(t, "logs", name(i))) }
	whole := 0
	for i := range survivors {
		before := len(lines(i))
		if h.Docker(t, "inspect", "-f", "{{.State.Running}}", name(i)) != "true" {
			continue
		}
		until(t, func() bool { return len(lines(i)) > before+20 })
		all := lines(i)
		if slices.IndexFunc(all, func(s string) bool { return s == "" }) < 0 && all[len(all)-1] == strconv.Itoa(len(all)-1) {
			whole++
		}
	}
	tb.set(t, rowSurvival, float64(whole), 0)
	for i := range survivors {
		h.Docker(t, "rm", "-f", name(i))
	}
}

// goBench runs benchmarks of a package and returns the metrics asked for, each by the benchmarks' names.
func goBench(t *testing.T, pkg, pattern, benchtime string, metrics ...string) []map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", pkg, "-run", "xxx", "-bench", pattern, "-cpu", "1", "-benchtime", benchtime, "-timeout", "15m")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.CombinedOutput()
	assert.NilError(t, err, string(out))
	found := make([]map[string]float64, len(metrics))
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		for i := 2; i+1 < len(f) && strings.HasPrefix(line, "Benchmark"); i++ {
			m := slices.Index(metrics, f[i+1])
			if m < 0 {
				continue
			}
			v, err := strconv.ParseFloat(f[i], 64)
			assert.NilError(t, err, line)
			if found[m] == nil {
				found[m] = map[string]float64{}
			}
			found[m][f[0]] = v
		}
	}
	for m, metric := range metrics {
		assert.Assert(t, len(found[m]) > 0, "no %s in %s", metric, out)
	}
	return found
}

// benchScheduler takes the slowest of the placements with affinity.
func benchScheduler(t *testing.T, tb *table) {
	found := goBench(t, "./scheduler", "Place$/^(affinity|antiaffinity|labels|mixed)$", "3s", "placements/s", "p99-ns")
	tb.set(t, rowPlaced, least(found[0]), 0)
	tb.set(t, rowPlacedSlow, most(found[1])/1e6, 0)
}

func least(m map[string]float64) float64 { return slices.Min(slices.Collect(maps.Values(m))) }
func most(m map[string]float64) float64  { return slices.Max(slices.Collect(maps.Values(m))) }

// benchLists asks a server over a state of 50,000 running containers on 100 hosts for lists.
func benchLists(t *testing.T, tb *table) {
	const running, hosts, perTxn, asked = 50_000, 100, 50, 300
	store, err := state.Open(context.Background(), state.Config{Dir: filepath.Join(t.TempDir(), "etcd"), Host: "h1"})
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	defer func() {
		cancel()
		assert.Check(t, <-done)
		assert.Check(t, store.Close())
	}()
	var ops []state.Op
	for i := range running {
		r := &state.Container{
			Account: nereid.Admin, ID: nereid.NewContainerID(), Name: fmt.Sprint("c", i), Host: nereid.Host(fmt.Sprint("h", i%hosts)),
			Created: time.Now().UTC(), Image: "busybox", ImageID: "sha256:0", Path: "sleep", Args: []string{"600"}, Starts: 1,
			Config:     &container.Config{Image: "busybox", Cmd: []string{"sleep", "600"}, Labels: map[string]string{"app": fmt.Sprint("a", i%500), "tier": "back"}},
			HostConfig: &container.HostConfig{NetworkMode: "front"},
			Networks:   map[string]*state.Endpoint{fmt.Sprint("net", i%200): {Network: nereid.NetworkID(fmt.Sprintf("%064x", i%200)), ID: "e"}},
			State:      state.RunState{Status: state.StatusRunning, Pid: i + 1, StartedAt: time.Now().UTC()},
		}
		ops = append(ops, state.Create(r), state.Create(&state.Name{Account: r.Account, Name: r.Name, Container: r.ID}))
		if len(ops) >= perTxn {
			_, err := store.Commit(ctx, ops...)
			assert.NilError(t, err)
			ops = nil
		}
	}
	deps := containers.Deps{Host: "h1", State: store, Log: zap.NewNop()}
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	assert.NilError(t, err)
	api := &http.Server{Handler: server.New(server.Config{
		Containers: containers.NewContainers(deps, containers.NewNetworks(deps), containers.NewVolumes(deps), containers.NewImages(deps, nil)),
	})}
	go func() { _ = api.Serve(listener) }()
	defer api.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", listener.Addr().String())
	}}}
	goruntime.GC() // what filling the state left is no part of the lists
	list := func(filters string) float64 {
		var all []float64
		for range asked + 1 {
			all = append(all, timed(func() { get(t, client, "/containers/json?filters="+filters) }))
		}
		all = all[1:]
		slices.Sort(all)
		return all[len(all)*99/100]
	}
	tb.set(t, rowPs50k, list("{}"), 0)
	some := map[string]float64{}
	for _, f := range []string{`{"label":["app=a7"]}`, `{"network":["net7"]}`, `{"name":["^c4711$"]}`, `{"name":["4711"]}`, `{"node":["h7"]}`} {
		some[f] = list(f)
		t.Logf("%s: %.2f ms", f, some[f])
	}
	tb.set(t, rowPs50kSome, most(some), 0)
}

// get reads the whole answer to a request.
func get(t testing.TB, c *http.Client, path string) {
	t.Helper()
	resp, err := c.Get("http://nereid" + path)
	assert.NilError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	assert.NilError(t, err)
	assert.Equal(t, resp.StatusCode, http.StatusOK, path)
}

// benchFleet measures on three hosts what it takes to reach another one, and how soon names come and go.
func benchFleet(t *testing.T, tb *table) {
	f, watching := startNames(t)
	tb.set(t, rowForwarded, forwarded(t, f), 0)
	started, _, exited := startsAndExits(t, f, watching, trials(t, "TRIALS", 100))
	tb.set(t, rowNameThere, slowestPart(started, 0.99), 0)
	tb.set(t, rowNameGone, slowestPart(exited, 0.99), 0)
	tb.set(t, rowHostGone, slowestPart(hostDeaths(t, f, watching, trials(t, "DEATHS", 5)), 1), 0)
}

// forwarded is how much longer an inspect takes of a container of another host than of one at home, by medians, in
// milliseconds.
func forwarded(t *testing.T, f *lab.Fleet) float64 {
	t.Helper()
	median := func(h *lab.Host, ref string) float64 {
		c := h.Client()
		var all []float64
		for range 300 {
			all = append(all, timed(func() { get(t, c, "/containers/"+ref+"/json?size=1") }))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return median(f.Hosts[0], "c1") - median(f.Hosts[0], "c0")
}

// slowestPart is a quantile.
func slowestPart(times []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// benchNameService compares the name service with others, of which CoreDNS is the measure and NSD the aim.
func benchNameService(t *testing.T, tb *table) {
	_, err := exec.LookPath("dnsperf")
	assert.NilError(t, err, "make bench installs dnsperf")
	servers, write := startServers(t)
	for _, k := range []struct {
		onlyA             bool
		answers, cpu, nsd string
	}{{true, rowAnswers, rowAnswersCPU, rowAnswersNSD}, {false, rowMixed, rowMixedCPU, rowMixedNSD}} {
		results := measure(t, servers, write("queries", "%s", questions(t, servers[0].zone, k.onlyA)), 1, 5*time.Second)
		tb.set(t, k.answers, results[0].perSecond, results[1].perSecond).peer = servers[1].name
		tb.set(t, k.cpu, results[0].cpu, results[1].cpu).peer = servers[1].name
		tb.set(t, k.nsd, results[0].perSecond, results[2].perSecond).peer = servers[2].name
	}
}
