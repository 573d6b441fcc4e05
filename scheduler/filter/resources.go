package filter

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// limited tells whether reservations are counted against hosts at all. One host alone takes what it is given, as a
// Docker Engine does: there is no other host that would be better.
func limited(s *snapshot.Snapshot) bool { return s.Hosts() > 1 }

// memory rules out hosts where less memory can be reserved than is asked.
type memory struct{ asked int64 }

// Name implements Filter.
func (memory) Name() string { return "memory" }

// Fits implements Checker.
func (f memory) Fits(s *snapshot.Snapshot, slot int) bool {
	free, counts, _ := s.Free(slot)
	return !counts || f.asked <= free.Memory
}

// Why implements Filter.
func (f memory) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	var largest int64
	for slot := range out.All() {
		free, _, _ := s.Free(slot)
		largest = max(largest, free.Memory)
	}
	return fmt.Sprintf("%s memory (largest free %s, asked %s)", of(out.Len(), all, "lacks", "lack"), bytesDown(largest), bytesUp(f.asked))
}

// cpus rules out hosts where fewer CPUs can be reserved than are asked.
type cpus struct{ asked int64 }

// Name implements Filter.
func (cpus) Name() string { return "cpus" }

// Fits implements Checker.
func (f cpus) Fits(s *snapshot.Snapshot, slot int) bool {
	free, _, counts := s.Free(slot)
	return !counts || f.asked <= free.CPUs
}

// Why implements Filter.
func (f cpus) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	var most int64
	for slot := range out.All() {
		free, _, _ := s.Free(slot)
		most = max(most, free.CPUs)
	}
	return fmt.Sprintf("%s CPUs (most free %s, asked %s)", of(out.Len(), all, "lacks", "lack"), decimal(float64(most)/1e9, math.Floor), decimal(float64(f.asked)/1e9, math.Ceil))
}

// bytesDown and bytesUp show memory with at most two decimals, rounded so that what is asked never looks smaller than
// what is free when it is not.
func bytesDown(n int64) string { return bytes(n, math.Floor) }
func bytesUp(n int64) string   { return bytes(n, math.Ceil) }

func bytes(n int64, round func(float64) float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return decimal(v, round) + units[i]
}

// decimal shows a number with at most two decimals.
func decimal(v float64, round func(float64) float64) string {
	text := strconv.FormatFloat(round(v*100)/100, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
