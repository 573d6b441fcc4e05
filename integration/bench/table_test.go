//go:build bench

package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// The rows by what they say.
const (
	rowRun         = "docker run --rm busybox true"
	rowRunNone     = "same, --network none"
	rowSequence    = "run -d one after another, each"
	rowParallel    = "run -d eight at a time"
	rowPsMeanwhile = "docker ps during that, the slowest in ten"
	rowPs          = "docker ps, 100 running"
	rowInspect     = "docker inspect"
	rowCommand     = "the docker command alone, docker --version"
	rowMemory      = "memory of the engine, 100 running"
	rowShim        = "shim, proportional share each"
	rowRemove      = "docker rm -f of 100 running"
	rowWriting     = "run that writes lines to its client"
	rowLogs        = "docker logs of them"
	rowExec        = "exec of a cat"
	rowCopy        = "cp of a file out"
	rowExport      = "export"
	rowSave        = "save"
	rowLoad        = "load"
	rowMemoryAfter = "memory of the engine after that"
	rowSurvival    = "containers that outlive a killed daemon, logs whole"
	rowAnswers     = "name service: A questions"
	rowAnswersCPU  = "· the core's time per A answer"
	rowAnswersNSD  = "· A questions, beside NSD"
	rowMixed       = "name service: all types, one in ten names not there"
	rowMixedCPU    = "· the core's time per mixed answer"
	rowMixedNSD    = "· all types, beside NSD"
	rowPlaced      = "scheduler: with affinity, 10,000 hosts, 1,000,000 containers"
	rowPlacedSlow  = "· p99 of one"
	rowPs50k       = "docker ps of 50,000 through the API, p99"
	rowPs50kSome   = "· the slowest filter, p99"
	rowForwarded   = "a request forwarded, over the same at home"
	rowNameThere   = "container started, its name on every host, p99"
	rowNameGone    = "process died, its name gone on every host, p99"
	rowHostGone    = "host died, its names hidden on every host, the slowest"
)

// row is one line of the table. A target is a bound of ours/theirs, or of ours alone.
type row struct {
	what, unit, target string
	met                func(ours, theirs float64) bool // nil: no target
	// peer is who else was measured, where that is not the table's; ours and theirs are set when it was.
	peer         string
	ours, theirs float64 // theirs: 0 where there is nobody else
	measured     bool
}

// table has a row for every number there is to reach.
type table struct {
	rows []*row
	peer string // the engine beside ours, as it calls itself
}

func newTable() *table {
	below := func(bound float64) func(o, _ float64) bool { return func(o, _ float64) bool { return o <= bound } }
	above := func(bound float64) func(o, _ float64) bool { return func(o, _ float64) bool { return o >= bound } }
	part := func(bound float64) func(o, th float64) bool { return func(o, th float64) bool { return o <= bound*th } }
	tb := &table{peer: "docker.io"}
	// times is a bound for what is little more than the command itself.
	times := func(bound float64) func(o, _ float64) bool {
		return func(o, _ float64) bool { return o <= bound*tb.row(rowCommand).ours }
	}
	tb.rows = []*row{
		{what: rowRun, unit: "ms", target: "<= 0.35 x", met: part(0.35)},
		{what: rowRunNone, unit: "ms", target: "<= 0.35 x", met: part(0.35)},
		{what: rowSequence, unit: "ms", target: "<= 80 ms", met: below(80)},
		{what: rowParallel, unit: "/s", target: ">= 25 /s", met: above(25)},
		{what: rowPsMeanwhile, unit: "ms"},
		{what: rowPs, unit: "ms", target: "<= 2 x the command alone", met: times(2)},
		{what: rowInspect, unit: "ms", target: "<= 1.3 x the command alone", met: times(1.3)},
		{what: rowCommand, unit: "ms"},
		{what: rowMemory, unit: "MB", target: "<= 150 MB", met: below(150)},
		{what: rowShim, unit: "MB", target: "<= 4.1 MB", met: below(4.1)},
		{what: rowRemove, unit: "s", target: "<= 2.5 s", met: below(2.5)},
		{what: rowWriting, unit: "MB/s"},
		{what: rowLogs, unit: "MB/s"},
		{what: rowExec, unit: "MB/s"},
		{what: rowCopy, unit: "MB/s"},
		{what: rowExport, unit: "MB/s"},
		{what: rowSave, unit: "MB/s"},
		{what: rowLoad, unit: "MB/s"},
		{what: rowMemoryAfter, unit: "MB"},
		{what: rowSurvival, unit: fmt.Sprintf("of %d", survivors), target: "all", met: above(survivors)},
		{what: rowAnswers, unit: "/s", target: ">= 5 x", met: func(o, th float64) bool { return o >= 5*th }},
		{what: rowAnswersCPU, unit: "µs", target: "<= 0.2 x", met: part(0.2)},
		{what: rowAnswersNSD, unit: "/s"},
		{what: rowMixed, unit: "/s", target: ">= 5 x", met: func(o, th float64) bool { return o >= 5*th }},
		{what: rowMixedCPU, unit: "µs", target: "<= 0.2 x", met: part(0.2)},
		{what: rowMixedNSD, unit: "/s"},
		{what: rowPlaced, unit: "/s", target: ">= 10000 /s", met: above(10_000)},
		{what: rowPlacedSlow, unit: "ms", target: "< 1 ms", met: below(1)},
		{what: rowPs50k, unit: "ms", target: "< 150 ms", met: below(150)},
		{what: rowPs50kSome, unit: "ms", target: "< 10 ms", met: below(10)},
		{what: rowForwarded, unit: "ms", target: "<= 2 ms", met: below(2)},
		{what: rowNameThere, unit: "ms", target: "< 100 ms", met: below(100)},
		{what: rowNameGone, unit: "ms", target: "< 100 ms", met: below(100)},
		{what: rowHostGone, unit: "ms", target: "< 3000 ms", met: below(3000)},
	}
	return tb
}

func (tb *table) row(what string) *row {
	if i := slices.IndexFunc(tb.rows, func(r *row) bool { return r.what == what }); i >= 0 {
		return tb.rows[i]
	}
	return nil
}

// set is what a row came to; theirs is 0 where nobody else was measured.
func (tb *table) set(t *testing.T, what string, ours, theirs float64) *row {
	t.Helper()
	r := tb.row(what)
	assert.Assert(t, r != nil, "the table has no row %q", what)
	r.ours, r.theirs, r.measured = ours, theirs, true
	t.Logf("%-62s %10.1f %10.1f %s", what, ours, theirs, r.unit)
	return r
}

func (tb *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what | nereid | %s | ratio | target | met |\n|---|---|---|---|---|---|\n", tb.peer)
	for _, r := range tb.rows {
		fmt.Fprintf(&b, "| %s | %s |\n", r.what, r.cells())
	}
	return b.String()
}

func (r *row) cells() string {
	if !r.measured {
		return fmt.Sprintf("not measured: see the output |  |  | %s | no", r.target)
	}
	ours := fmt.Sprintf("%s %s", figure(r.ours), r.unit)
	theirs, ratio, met := "", "", ""
	if r.theirs > 0 {
		theirs, ratio = strings.TrimSpace(fmt.Sprintf("%s %s %s", figure(r.theirs), r.unit, r.peer)), fmt.Sprintf("%.2f", r.ours/r.theirs)
	}
	if r.met != nil {
		met = map[bool]string{true: "yes", false: "no"}[r.met(r.ours, r.theirs)]
	}
	return strings.Join([]string{ours, theirs, ratio, r.target, met}, " | ")
}

// figure has the digits that mean something.
func figure(f float64) string {
	switch {
	case f >= 1000 || f == float64(int(f)):
		return fmt.Sprintf("%.0f", f)
	case f < 1:
		return fmt.Sprintf("%.3f", f)
	}
	return fmt.Sprintf("%.1f", f)
}

// TestTableSaysWhatWasNotMeasured: a row without a figure is not met, and says so.
func TestTableSaysWhatWasNotMeasured(t *testing.T) {
	tb := newTable()
	tb.set(t, rowPs, 15.25, 17)
	tb.set(t, rowCommand, 10, 0)
	text := tb.markdown()
	assert.Assert(t, strings.Contains(text, "| docker ps, 100 running | 15.2 ms | 17 ms | 0.90 | <= 2 x the command alone | yes |"), text)
	assert.Assert(t, strings.Contains(text, "| docker inspect | not measured: see the output |  |  | <= 1.3 x the command alone | no |"), text)
}
