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
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

type engine struct {
	name   string
	host   string // for docker -H
	docker func(t testing.TB, args ...string) string
	memory func(t testing.TB) (daemonMB, shimMB float64)
}

// TestBench measures every number that nereid is to reach, and writes one table of them all. A part that fails leaves its
// rows unmeasured, and the test fails at its end.
func TestBench(t *testing.T) {
	tb := newTable()
	tried := 0
	t.Cleanup(func() {
		text := tb.markdown()
		fmt.Println(text)
		if tried < len(benchParts) {
			return // -run chose some: the table that is kept is of all
		}
		keep(t, "bench", fmt.Sprintf("%s, medians of %d rounds in turns, streams of %d MB%s.\n\n%s", machine(), rounds, volumeMB(t), busy(), text))
	})
	for _, part := range benchParts {
		t.Run(part.name, func(t *testing.T) {
			tried++
			part.run(t, tb)
		})
	}
}

var benchParts = []struct {
	name string
	run  func(t *testing.T, tb *table)
}{
	{"engines", benchEngines},
	{"survival", benchSurvival},
	{"name service", benchNameService},
	{"scheduler", benchScheduler},
	{"lists", benchLists},
	{"fleet", benchFleet},
}

// benchEngines measures nereid against the Docker Engine.
func benchEngines(t *testing.T, tb *table) {
	ours, theirs := startNereid(t), startDocker(t)
	both := []engine{ours, theirs}
	tb.peer = theirs.name + " " + theirs.docker(t, "version", "-f", "{{.Server.Version}}")
	add := func(what string, o, th float64) { tb.set(t, what, o, th) }

	m := medians(t, both, "run", "--rm", "busybox", "true")
	add(rowRun, m[0], m[1])
	m = medians(t, both, "run", "--rm", "--network", "none", "busybox", "true")
	add(rowRunNone, m[0], m[1])

	seq, par, during := make([]float64, 2), make([]float64, 2), make([]float64, 2)
	for i, e := range both {
		seq[i] = sequential(t, e)
		par[i], during[i] = parallel(t, e)
	}
	add(rowSequence, seq[0], seq[1])
	add(rowParallel, par[0], par[1])
	add(rowPsMeanwhile, during[0], during[1])
	m = medians(t, both, "ps", "-q")
	add(rowPs, m[0], m[1])
	m = medians(t, both, "inspect", "s1")
	add(rowInspect, m[0], m[1])
	add(rowCommand, medians(t, both[:1], "--version")[0], 0)
	od, os := ours.memory(t)
	td, ts := theirs.memory(t)
	add(rowMemory, od, td)
	add(rowShim, os, ts)
	rm := make([]float64, 2)
	for i, e := range both {
		ids := strings.Fields(e.docker(t, "ps", "-q"))
		assert.Equal(t, len(ids), inSequence+inParallel)
		rm[i] = timed(func() { e.docker(t, append([]string{"rm", "-f"}, ids...)...) }) / 1000
	}
	add(rowRemove, rm[0], rm[1])
	throughput(t, both, add)
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
	ms := timed(func() { e.sleepers(t, 0, inParallel) })
	close(done)
	all := <-lists
	slices.Sort(all)
	return inParallel / (ms / 1000), all[len(all)*9/10]
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

// startNereid runs it as users do: without what it logs for us, and with what need not outlive a reboot in memory, as /run
// is.
func startNereid(t *testing.T) engine {
	h := lab.NewWithBusybox(t, "--debug=false")
	h.Stop(t)
	unmount := inMemory(t, filepath.Join(h.Dir, "exec"))
	h.Start(t)
	t.Cleanup(func() {
		if ids := strings.Fields(h.Docker(t, "ps", "-aq")); len(ids) > 0 {
			h.Docker(t, append([]string{"rm", "-f"}, ids...)...)
		}
		h.Stop(t)
		unmount()
		h.Start(t) // for the lab to end it
	})
	return engine{name: "nereid", host: "unix://" + h.Socket, docker: h.Docker, memory: func(t testing.TB) (float64, float64) {
		shims := h.Shims()
		return pss(h.Pid()), pss(shims...) / float64(len(shims))
	}}
}

// inMemory puts a file system in memory over a directory.
func inMemory(t *testing.T, dir string) (unmount func()) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(dir, 0o711))
	assert.NilError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0711"))
	return func() { assert.Check(t, unix.Unmount(dir, unix.MNT_DETACH)) }
}
