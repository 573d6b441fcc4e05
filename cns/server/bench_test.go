package server

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/cnstest"
	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/record"
)

// BenchmarkFirstAsk asks for every address of a large fleet once: what it costs to make an answer ready, and the memory
// that those kept take.
func BenchmarkFirstAsk(b *testing.B) {
	for _, records := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint("records=", records), func(b *testing.B) {
			builder, err := publish.NewBuilder(publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal"})
			assert.NilError(b, err)
			set, _ := builder.Apply(cnstest.Large(records), 1)
			var requests [][]byte
			last := ""
			set.Each(builder.Apex(), func(r record.Record) bool {
				if r.Type == record.A && r.Name != last {
					last = r.Name
					requests = append(requests, request(b, r.Name, dns.TypeA, nil))
				}
				return true
			})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			out := make([]byte, 0, udpSize)
			b.ResetTimer()
			var w *worker
			for b.Loop() {
				w, _ = testWorker(set)
				for _, p := range requests {
					w.plainly(set, p, out)
				}
			}
			b.StopTimer()
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
			b.ReportMetric(float64(len(requests)), "names")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(requests)), "ns/name")
			runtime.KeepAlive(w)
		})
	}
}
