// Package allocs compares how often hot paths allocate memory with figures that are checked in. Seconds differ from machine
// to machine and from day to day; allocations do not, and a path that got slower by design shows in them.
package allocs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// Path is one that is measured, by the name of its figure. Do runs it once.
type Path struct {
	Name string
	Do   func()
}

const (
	// file is where a package's figures are: a name, a tab and the allocations of one run per line.
	file = "testdata/allocs.txt"
	// rewrite is the environment variable that has the figures written instead of compared.
	rewrite = "ALLOCS"
	runs    = 200
	// margin is what a path may exceed its figure by, as a part of it, and slack what it may besides: background work of
	// the same process is counted, too.
	margin = 0.2
	slack  = 2
)

// Check measures every path and fails for those that allocate more often than their figures in testdata/allocs.txt
// allow. ALLOCS=write writes the figures. Under the race detector, which allocates as it likes, it skips the test.
func Check(t *testing.T, paths ...Path) {
	t.Helper()
	if race {
		t.Skip("the race detector changes what is allocated")
	}
	measured := make([]float64, len(paths))
	for i, p := range paths {
		measured[i] = testing.AllocsPerRun(runs, p.Do)
	}
	if os.Getenv(rewrite) == "write" {
		write(t, paths, measured)
		return
	}
	want := read(t)
	for i, p := range paths {
		figure, ok := want[p.Name]
		if !ok {
			t.Errorf("%s: no figure in %s: %s=write writes one", p.Name, file, rewrite)
			continue
		}
		t.Logf("%s: %.0f allocations, figure %.0f", p.Name, measured[i], figure)
		if exceeds(measured[i], figure) {
			t.Errorf("%s: %.0f allocations, with a figure of %.0f: what made it more expensive? If it is worth that, %s=write", p.Name, measured[i], figure, rewrite)
		}
	}
}

func exceeds(measured, figure float64) bool { return measured > figure*(1+margin)+slack }

func write(t *testing.T, paths []Path, measured []float64) {
	t.Helper()
	var b strings.Builder
	for i, p := range paths {
		fmt.Fprintf(&b, "%s\t%.0f\n", p.Name, measured[i])
	}
	assert.NilError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	assert.NilError(t, os.WriteFile(file, []byte(b.String()), 0o644))
}

func read(t *testing.T) map[string]float64 {
	t.Helper()
	b, err := os.ReadFile(file)
	assert.NilError(t, err)
	figures := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		name, figure, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		assert.Assert(t, ok, "%s: %q is no name, tab and figure", file, line)
		var f float64
		_, err := fmt.Sscanf(figure, "%g", &f)
		assert.NilError(t, err, "%s: %q", file, line)
		figures[name] = f
	}
	return figures
}
