//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
	"github.com/nereid-paas/nereid/pkg/trace"
)

// tracedRuns are those that a figure of the trace is the median of.
const tracedRuns = 20

// step is one span of a run: when it begins, counted from the run's first, and how long it takes, in every run.
type step struct {
	path        string
	begin, took []time.Duration
}

// TestTrace tells where the time of a docker run goes, from what the daemon says with --trace.
func TestTrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	h := lab.NewWithBusybox(t, "--debug=false", "--trace", file)
	h.Docker(t, "run", "--rm", "busybox", "true")
	var steps []*step
	for range tracedRuns {
		assert.NilError(t, os.Truncate(file, 0))
		h.Docker(t, "run", "--rm", "busybox", "true")
		steps = collect(t, steps, spansOf(t, file))
	}
	slices.SortStableFunc(steps, func(a, b *step) int { return int(median(a.begin) - median(b.begin)) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s, medians of %d runs.\n\n| begins, ms | takes, ms | step |\n|---|---|---|\n", machine(), tracedRuns)
	for _, s := range steps {
		if len(s.took) < tracedRuns/2 {
			continue // not of every run
		}
		names := strings.Split(s.path, trace.Separator)
		fmt.Fprintf(&b, "| %.1f | %.1f | %s%s |\n", ms(median(s.begin)), ms(median(s.took)), strings.Repeat("· ", len(names)-1), names[len(names)-1])
	}
	fmt.Println(b.String())
	keep(t, "trace", b.String())
}

// spansOf waits for the whole of a run, to the removal behind it, and returns its spans: those about its container, and
// the requests. The removal behind the run before may still go on.
func spansOf(t *testing.T, file string) []trace.Line {
	t.Helper()
	var spans []trace.Line
	until(t, func() bool {
		var whole bool
		spans, whole = parseRun(t, file)
		return whole
	})
	return spans
}

func parseRun(t *testing.T, file string) (spans []trace.Line, whole bool) {
	t.Helper()
	b, err := os.ReadFile(file)
	assert.NilError(t, err)
	var all []trace.Line
	var container string
	for line := range strings.Lines(string(b)) {
		l, err := trace.ParseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, false // half a line
		}
		all = append(all, l)
		if strings.HasSuffix(l.Path, trace.Separator+"create") {
			container = l.Container
		}
	}
	for _, l := range all {
		if l.Container == container && container != "" || l.Container == "" && strings.HasPrefix(l.Path, "POST") {
			spans = append(spans, l)
			whole = whole || l.Path == "remove behind"
		}
	}
	return spans, whole
}

// collect adds the spans of one run to those of the others.
func collect(t *testing.T, steps []*step, spans []trace.Line) []*step {
	t.Helper()
	var first time.Time
	for _, l := range spans {
		if first.IsZero() || l.Start.Before(first) {
			first = l.Start
		}
	}
	seen := map[string]int{}
	slices.SortStableFunc(spans, func(a, b trace.Line) int { return a.Start.Compare(b.Start) })
	for _, l := range spans {
		seen[l.Path]++
		path := l.Path
		if n := seen[path]; n > 1 { // the second commit of a start
			path = fmt.Sprintf("%s (%d)", path, n)
		}
		i := slices.IndexFunc(steps, func(s *step) bool { return s.path == path })
		if i < 0 {
			steps = append(steps, &step{path: path})
			i = len(steps) - 1
		}
		steps[i].begin = append(steps[i].begin, l.Start.Sub(first))
		steps[i].took = append(steps[i].took, l.Took)
	}
	return steps
}

func median(d []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
