package filter

import "github.com/nereid-paas/nereid/scheduler/snapshot"

// places rules out hosts that have as many containers, running or not, as their label containerslots allows.
type places struct{}

// Name implements Filter.
func (places) Name() string { return "containerslots" }

// Fits implements Checker.
func (places) Fits(s *snapshot.Snapshot, slot int) bool {
	most := s.Host(slot).MaxContainers
	return most == 0 || s.Containers(slot) < most
}

// Why implements Filter.
func (places) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	return of(out.Len(), all, "has", "have") + " as many containers as the label containerslots allows (" + named(s, out) + ")"
}
