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
	// tries are how often a path that exceeds its figure is measured again: what an earlier test left to do ends meanwhile.
	tries = 5
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
	if os.Getenv(rewrite) == "write" {
		write(t, paths)
		return
	}
	want := read(t)
	for _, p := range paths {
		figure, ok := want[p.Name]
		if !ok {
			t.Errorf("%s: no figure in %s: %s=write writes one", p.Name, file, rewrite)
			continue
		}
		measured := p.measure()
		for range tries {
			if exceeds(measured, figure) {
				measured = min(measured, p.measure())
			}
		}
		t.Logf("%s: %.0f allocations, figure %.0f", p.Name, measured, figure)
		if exceeds(measured, figure) {
			t.Errorf("%s: %.0f allocations, with a figure of %.0f: what made it more expensive? If it is worth that, %s=write", p.Name, measured, figure, rewrite)
		}
	}
}

func (p Path) measure() float64 { return testing.AllocsPerRun(runs, p.Do) }

func exceeds(measured, figure float64) bool { return measured > figure*(1+margin)+slack }

func write(t *testing.T, paths []Path) {
	t.Helper()
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "%s\t%.0f\n", p.Name, p.measure())
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
