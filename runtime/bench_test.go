package runtime_test

import (
	"slices"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// BenchmarkRun is one `docker run --rm` as far as the runtime goes; medians of its parts are reported in ms.
func BenchmarkRun(b *testing.B) {
	g := newRig(b)
	parts := map[string][]time.Duration{}
	timed := func(name string, do func() error) {
		start := time.Now()
		assert.NilError(b, do())
		parts[name] = append(parts[name], time.Since(start))
	}
	for b.Loop() {
		s := g.spec("true")
		timed("prepare", func() error { return g.rt.Prepare(g.ctx, s) })
		timed("create", func() error { _, err := g.rt.CreateTask(g.ctx, s); return err })
		timed("start", func() error { return g.rt.StartTask(g.ctx, s.Key) })
		timed("exit", func() error { g.handler.exitOf(b, s.Key); return nil })
		timed("delete", func() error { return g.rt.DeleteTask(g.ctx, s.Key) })
		timed("discard", func() error { return g.rt.Discard(g.ctx, s.Key) })
	}
	for name, took := range parts {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, name+"-ms")
	}
}
