package publish_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/cnstest"
	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/state"
)

func newBench(b *testing.B) *publish.Builder {
	b.Helper()
	builder, err := publish.NewBuilder(publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal"})
	assert.NilError(b, err)
	return builder
}

// signedBench is the settings of a default zone that is signed.
func signedBench(b *testing.B) []state.Record {
	b.Helper()
	k, private, err := sign.Generate()
	assert.NilError(b, err)
	return []state.Record{
		&state.Zone{Apex: apex, Kind: state.ZoneInner, DNSSEC: true, Epoch: sign.Epoch(time.Now())},
		&state.ZoneKey{Apex: apex, Tag: k.Tag(), Private: private},
	}
}

// processorTime is how long this process has run on all processors together: what can be compared on a busy machine.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkChange is what the start and the exit of one container cost, each with all its records.
func BenchmarkChange(b *testing.B) {
	for _, records := range []int{1_000, 10_000, 100_000, 1_000_000} {
		for _, signed := range []bool{false, true} {
			if signed && records > 100_000 {
				continue // signing it all first takes its time
			}
			b.Run(fmt.Sprintf("records=%d/signed=%v", records, signed), func(b *testing.B) {
				builder := newBench(b)
				var settings []state.Record
				if signed {
					settings = signedBench(b)
				}
				builder.Apply(cnstest.Large(records, settings...), 1)
				up, down := cnstest.Member(records, state.StatusRunning), cnstest.Member(records, state.StatusExited)
				rev := state.Revision(1)
				b.ResetTimer()
				begin := processorTime()
				for b.Loop() {
					rev += 2
					builder.Apply([]state.Change{{New: up}}, rev)
					builder.Apply([]state.Change{{Old: up, New: down}}, rev+1)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(2*b.N), "µs/change")
				b.ReportMetric(float64((processorTime()-begin).Microseconds())/float64(2*b.N), "cpu-µs/change")
			})
		}
	}
}

// BenchmarkRebuild is what all zones cost at once, in time and in memory that stays.
func BenchmarkRebuild(b *testing.B) {
	for _, c := range []struct {
		records int
		signed  bool
	}{{100_000, false}, {1_000_000, false}, {100_000, true}} {
		b.Run(fmt.Sprintf("records=%d/signed=%v", c.records, c.signed), func(b *testing.B) {
			var settings []state.Record
			if c.signed {
				settings = signedBench(b)
			}
			changes := cnstest.Large(c.records, settings...)
			var before, after runtime.MemStats
			var set *zone.Set
			var builder *publish.Builder
			begin := processorTime()
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				builder = newBench(b)
				set, _ = builder.Apply(changes, 1)
			}
			b.StopTimer()
			b.ReportMetric((processorTime()-begin).Seconds()/float64(b.N), "cpu-s")
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
			runtime.KeepAlive(set)
			runtime.KeepAlive(builder)
			runtime.KeepAlive(changes)
		})
	}
}
