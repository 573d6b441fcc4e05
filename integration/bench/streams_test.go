//go:build bench

package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// volumeMB is how much each stream carries: BENCH_MB, or a gigabyte.
func volumeMB(t *testing.T) int {
	t.Helper()
	s := os.Getenv("BENCH_MB")
	if s == "" {
		return 1000
	}
	mb, err := strconv.Atoi(s)
	assert.NilError(t, err)
	return mb
}

// throughput measures what flows through the engines, in MB/s, the engines taking turns, and what memory it takes.
func throughput(t *testing.T, engines []engine, add func(what string, ours, theirs float64)) {
	t.Helper()
	mb := volumeMB(t)
	count := fmt.Sprintf("count=%d", mb)
	// Lines as programs write them: 64 bytes, so many that they are mb megabytes.
	lines := fmt.Sprintf("yes 'a line as programs write them, that has sixty-four bytes with its end' | head -c %d", mb*1_000_000)
	archive := filepath.Join(t.TempDir(), "image.tar")
	withFile := "dd if=/dev/urandom of=/file bs=1000000 " + count + " 2>/dev/null; touch /done; sleep 3600"
	steps := []struct {
		what string
		do   func(e engine)
	}{
		{rowWriting, func(e engine) { e.flow(t, nil, "run", "--name", "lines", "busybox", "sh", "-c", lines) }},
		{rowLogs, func(e engine) { e.flow(t, nil, "logs", "lines") }},
		{rowExec, func(e engine) { e.flow(t, nil, "exec", "file", "cat", "/file") }},
		{rowCopy, func(e engine) { e.flow(t, nil, "cp", "file:/file", "-") }},
		{rowExport, func(e engine) { e.flow(t, nil, "export", "file") }},
		{rowSave, func(e engine) { e.flow(t, nil, "save", "-o", archive+e.name, "large") }},
		{rowLoad, func(e engine) {
			f, err := os.Open(archive + e.name)
			assert.NilError(t, err)
			defer f.Close()
			e.flow(t, f, "load", "-q")
		}},
	}
	for _, e := range engines {
		e.docker(t, "run", "-d", "--name", "file", "busybox", "sh", "-c", withFile)
		until(t, func() bool {
			return strings.TrimSpace(e.docker(t, "exec", "file", "sh", "-c", "test -e /done && echo yes || echo no")) == "yes"
		})
		e.docker(t, "commit", "file", "large")
	}
	for _, s := range steps {
		var rates []float64
		for _, e := range engines {
			rates = append(rates, float64(mb)/(timed(func() { s.do(e) })/1000))
		}
		add(s.what, rates[0], rates[1])
		for _, e := range engines {
			if s.what == rowSave {
				e.docker(t, "rmi", "large") // for load to bring again
			}
		}
	}
	ours, _ := engines[0].memory(t)
	theirs, _ := engines[1].memory(t)
	add(rowMemoryAfter, ours, theirs)
	for _, e := range engines {
		e.docker(t, "rm", "-f", "file", "lines")
	}
}

// flow runs a docker command whose output, and input if any, is large.
func (e engine) flow(t *testing.T, in io.Reader, args ...string) {
	t.Helper()
	c := exec.Command("docker", append([]string{"-H", e.host}, args...)...)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	assert.NilError(t, err)
	defer null.Close()
	c.Stdin, c.Stdout = in, null
	if args[0] == "cp" || args[0] == "export" { // docker refuses to write archives to a terminal, and knows this is none
		c.Stderr = os.Stderr
	}
	assert.NilError(t, c.Run(), "docker %v", args)
}
