//go:build bench

// Package bench measures what people feel against the Docker Engine on the same machine in the same run.
package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// rounds of each short measurement; the two engines take turns.
const rounds = 15

// running containers while lists and memory are measured: 40 started one after another, 60 eight at a time.
const (
	inSequence = 40
	inParallel = 60
	atOnce     = 8
)

// row is one line of the table. A target is a bound of ours/theirs, or of ours alone.
type row struct {
	what         string
	ours, theirs float64
	unit         string
	target       string
	met          bool
}

type engine struct {
	name   string
	host   string // for docker -H
	docker func(t testing.TB, args ...string) string
	memory func(t testing.TB) (daemonMB, shimMB float64)
}

func TestBench(t *testing.T) {
	ours, theirs := startNereid(t), startDocker(t)
	both := []engine{ours, theirs}
	var rows []row
	add := func(what, unit, target string, o, th float64, met bool) {
		rows = append(rows, row{what, o, th, unit, target, met})
		t.Logf("%-44s %10.1f %10.1f %s  ratio %.2f  target %s  met %v", what, o, th, unit, o/th, target, met)
	}

	for _, c := range []struct {
		what string
		args []string
	}{
		{"docker run --rm busybox true", []string{"run", "--rm", "busybox", "true"}},
		{"same, --network none", []string{"run", "--rm", "--network", "none", "busybox", "true"}},
	} {
		m := medians(t, both, c.args...)
		add(c.what, "ms", "<= 0.35 x", m[0], m[1], m[0] <= 0.35*m[1])
	}

	seq, par, during := make([]float64, 2), make([]float64, 2), make([]float64, 2)
	for i, e := range both {
		seq[i] = sequential(t, e)
		par[i], during[i] = parallel(t, e)
	}
	add("run -d one after another, each", "ms", "<= 80 ms", seq[0], seq[1], seq[0] <= 80)
	add("run -d eight at a time", "/s", ">= 25 /s", par[0], par[1], par[0] >= 25)
	add("docker ps during that, the slowest in ten", "ms", "", during[0], during[1], true)
	ps := medians(t, both, "ps", "-q")
	add("docker ps, 100 running", "ms", "<= 20 ms", ps[0], ps[1], ps[0] <= 20)
	in := medians(t, both, "inspect", "s1")
	add("docker inspect", "ms", "<= 13 ms", in[0], in[1], in[0] <= 13)
	od, os := ours.memory(t)
	td, ts := theirs.memory(t)
	add("memory of the engine, 100 running", "MB", "<= 150 MB", od, td, od <= 150)
	add("shim, proportional share each", "MB", "<= 4.1 MB", os, ts, os <= 4.1)
	rm := make([]float64, 2)
	for i, e := range both {
		ids := strings.Fields(e.docker(t, "ps", "-q"))
		assert.Equal(t, len(ids), inSequence+inParallel)
		rm[i] = timed(func() { e.docker(t, append([]string{"rm", "-f"}, ids...)...) }) / 1000
	}
	add("docker rm -f of 100 running", "s", "<= 2.5 s", rm[0], rm[1], rm[0] <= 2.5)

	for _, r := range throughput(t, both) {
		add(r.what, r.unit, r.target, r.ours, r.theirs, r.met)
	}

	table := markdown(rows, theirs.docker(t, "version", "-f", "{{.Server.Version}}"))
	fmt.Println(table)
	keep(t, "bench", fmt.Sprintf("%s, medians of %d rounds in turns.\n\n%s", machine(), rounds, table))
}

// timed is how long f takes, in milliseconds.
func timed(f func()) float64 {
	start := time.Now()
	f()
	return float64(time.Since(start).Microseconds()) / 1000
}

// medians of a command, the engines taking turns, one round thrown away.
func medians(t *testing.T, engines []engine, args ...string) []float64 {
	t.Helper()
	all := make([][]float64, len(engines))
	for r := range rounds + 1 {
		for i, e := range engines {
			if d := timed(func() { e.docker(t, args...) }); r > 0 {
				all[i] = append(all[i], d)
			}
		}
	}
	m := make([]float64, len(engines))
	for i := range all {
		slices.Sort(all[i])
		m[i] = all[i][len(all[i])/2]
	}
	return m
}

func sequential(t *testing.T, e engine) float64 {
	var all []float64
	for i := range inSequence {
		all = append(all, timed(func() { e.docker(t, "run", "-d", "--name", fmt.Sprint("s", i), "busybox", "sleep", "3600") }))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// parallel is a rate per second, and how long one in ten lists of containers took at least while that went on.
func parallel(t *testing.T, e engine) (rate, ps float64) {
	done, lists := make(chan struct{}), make(chan []float64)
	go func() {
		var all []float64
		for {
			select {
			case <-done:
				lists <- all
				return
			default:
				all = append(all, timed(func() { e.docker(t, "ps", "-q") }))
			}
		}
	}()
	ms := timed(func() {
		var wg sync.WaitGroup
		next := make(chan int)
		for range atOnce {
			wg.Go(func() {
				for i := range next {
					e.docker(t, "run", "-d", "--name", fmt.Sprint("p", i), "busybox", "sleep", "3600")
				}
			})
		}
		for i := range inParallel {
			next <- i
		}
		close(next)
		wg.Wait()
	})
	close(done)
	all := <-lists
	slices.Sort(all)
	return inParallel / (ms / 1000), all[len(all)*9/10]
}

func markdown(rows []row, version string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what | nereid | docker.io %s | ratio | target | met |\n|---|---|---|---|---|---|\n", version)
	for _, r := range rows {
		met := "no"
		switch {
		case r.target == "":
			met = ""
		case r.met:
			met = "yes"
		}
		fmt.Fprintf(&b, "| %s | %.1f %s | %.1f %s | %.2f | %s | %s |\n", r.what, r.ours, r.unit, r.theirs, r.unit, r.ours/r.theirs, r.target, met)
	}
	return b.String()
}

// keep puts text between the markers of a name in docs/performance.md.
func keep(t *testing.T, name, text string) {
	t.Helper()
	from, to := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	path := filepath.Join("..", "..", "docs", "performance.md")
	b, err := os.ReadFile(path)
	assert.NilError(t, err)
	head, rest, ok := strings.Cut(string(b), from)
	assert.Assert(t, ok, "no marker in %s", path)
	_, tail, ok := strings.Cut(rest, to)
	assert.Assert(t, ok, "no end marker in %s", path)
	assert.NilError(t, os.WriteFile(path, []byte(head+from+text+to+tail), 0o644))
}

// machine describes where the figures come from.
func machine() string {
	model, mem := "an unknown processor", ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
			}
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int
		_, _ = fmt.Sscanf(string(b), "MemTotal: %d kB", &kb)
		mem = fmt.Sprintf(", %d GiB", kb>>20)
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, on %d cores of %s%s, Linux %s",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), model, mem, strings.TrimSpace(string(kernel)))
}

func startNereid(t *testing.T) engine {
	h := lab.NewWithBusybox(t)
	return engine{name: "nereid", host: "unix://" + h.Socket, docker: h.Docker, memory: func(t testing.TB) (float64, float64) {
		shims := h.Shims()
		return pss(h.Pid()), pss(shims...) / float64(len(shims))
	}}
}
