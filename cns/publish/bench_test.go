package publish_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// perContainer is how many records a container of member has.
const perContainer = 9

// member is the i-th container of a large fleet; services have twenty members each.
func member(i int, status string) *state.Container {
	return &state.Container{
		Account: nereid.Admin, ID: nereid.ContainerID(fmt.Sprintf("%08x%056x", i, i)), Name: fmt.Sprintf("app-%d", i), Host: "h1",
		Config: &container.Config{Labels: map[string]string{"nereid.cns.services": fmt.Sprintf("web%d:80", i/20)}},
		State:  state.RunState{Status: status},
		Networks: map[string]*state.Endpoint{"bridge": {Network: "n1",
			Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 8)}},
	}
}

// large is the state of a fleet of so many records, as changes from nothing.
func large(records int, settings ...state.Record) []state.Change {
	changes := []state.Change{
		{New: &state.Host{Name: "h1", Advertise: netip.MustParseAddr("192.0.2.1")}},
		{New: &state.Network{Account: nereid.Admin, ID: "n1", Name: "bridge", Predefined: true, Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}}},
	}
	for _, r := range settings {
		changes = append(changes, state.Change{New: r})
	}
	for i := range records / perContainer {
		changes = append(changes, state.Change{New: member(i, state.StatusRunning)})
	}
	return changes
}

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
				builder.Apply(large(records, settings...), 1)
				up, down := member(records, state.StatusRunning), member(records, state.StatusExited)
				rev := state.Revision(1)
				b.ResetTimer()
				for b.Loop() {
					rev += 2
					builder.Apply([]state.Change{{New: up}}, rev)
					builder.Apply([]state.Change{{Old: up, New: down}}, rev+1)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(2*b.N), "µs/change")
			})
		}
	}
}

// BenchmarkRebuild is what all zones cost at once, in time and in memory that stays.
func BenchmarkRebuild(b *testing.B) {
	for _, records := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("records=%d", records), func(b *testing.B) {
			changes := large(records)
			var before, after runtime.MemStats
			var set *zone.Set
			var builder *publish.Builder
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				builder = newBench(b)
				set, _ = builder.Apply(changes, 1)
			}
			b.StopTimer()
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
			runtime.KeepAlive(set)
			runtime.KeepAlive(builder)
			runtime.KeepAlive(changes)
		})
	}
	b.Run("signed", func(b *testing.B) {
		changes := large(10_000, signedBench(b)...) // a hundred thousand take seconds
		for b.Loop() {
			newBench(b).Apply(changes, 1)
		}
	})
}
