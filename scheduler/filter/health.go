package filter

import "github.com/nereid-paas/nereid/scheduler/snapshot"

// alive rules out hosts that are rumoured to be away.
type alive struct{}

// Name implements Filter.
func (alive) Name() string { return "health" }

// Cut implements Cutter.
func (alive) Cut(s *snapshot.Snapshot, in snapshot.Set) { in.Keep(s.Alive()) }

// Why implements Filter.
func (alive) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	return of(out.Len(), all, "does", "do") + " not answer (" + named(s, out) + ")"
}

// open rules out hosts that an operator has closed to new containers.
type open struct{}

// Name implements Filter.
func (open) Name() string { return "cordon" }

// Cut implements Cutter.
func (open) Cut(s *snapshot.Snapshot, in snapshot.Set) { in.Keep(s.Open()) }

// Why implements Filter.
func (open) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	return of(out.Len(), all, "takes", "take") + " no new containers (drained: " + named(s, out) + ")"
}
