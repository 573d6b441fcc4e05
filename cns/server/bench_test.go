package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
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

// BenchmarkMixed asks for every record of a large zone in no order, as many clients do, so that an answer is not in the
// processor's caches from the time before: for addresses, for all types, and for names that are not there.
func BenchmarkMixed(b *testing.B) {
	builder, err := publish.NewBuilder(publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal"})
	assert.NilError(b, err)
	set, _ := builder.Apply(cnstest.Large(14_000), 1)
	apex := builder.Apex()
	kinds := map[string][][]byte{}
	seen := map[string]bool{}
	set.Each(apex, func(r record.Record) bool {
		if asked := fmt.Sprint(r.Name, r.Type); !seen[asked] && r.Type != record.SOA && r.Type != record.NS {
			seen[asked] = true
			p := request(b, r.Name, uint16(r.Type), nil)
			kinds["all types"] = append(kinds["all types"], p)
			kinds[dns.TypeToString[uint16(r.Type)]] = append(kinds[dns.TypeToString[uint16(r.Type)]], p)
			kinds["nobody"] = append(kinds["nobody"], request(b, fmt.Sprintf("nobody-%d.svc.admin.%s", len(seen), apex), dns.TypeA, nil))
		}
		return true
	})
	kinds["all types, one in ten nobody"] = append(slices.Clone(kinds["all types"]), kinds["nobody"][:len(seen)/9]...)
	w, _ := testWorker(set)
	out := make([]byte, 0, udpSize)
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		requests := kinds[name]
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
		size := 0
		for _, p := range requests {
			size += len(w.plainly(set, p, out))
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				w.plainly(set, requests[i%len(requests)], out)
			}
			b.ReportMetric(float64(size)/float64(len(requests)), "octets")
			b.ReportMetric(float64(len(requests)), "questions")
		})
	}
}
