package filter

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nereid-paas/nereid/scheduler/expr"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// Constraint rules out hosts whose labels are not as an expression wants them. A host without the label equals
// nothing: == fails, != holds.
type Constraint struct{ Expr *expr.Expr }

// Name implements Filter.
func (Constraint) Name() string { return "constraint" }

// Cut implements Cutter.
func (f Constraint) Cut(s *snapshot.Snapshot, in snapshot.Set) {
	keep(in, f.Expr.Not, s.HostsWhere(f.Expr.Key, f.Expr.Pattern))
}

// keep leaves the hosts that match, or with not those that do not.
func keep(in snapshot.Set, not bool, matching snapshot.Set) {
	if not {
		in.Drop(matching)
		return
	}
	in.Keep(matching)
}

// Why implements Filter.
func (f Constraint) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	there := labelled(s, f.Expr.Key)
	switch {
	case f.Expr.Not:
		there = named(s, out)
	case f.Expr.Key == snapshot.KeyNode:
		there = "hosts: " + named(s, s.Known())
	}
	return fmt.Sprintf("%s not meet constraint %s (%s)", of(out.Len(), all, "does", "do"), f.Expr, there)
}

// labelled tells which values of a label there are, the commonest first.
func labelled(s *snapshot.Snapshot, key string) string {
	values := s.LabelValues(key)
	if len(values) == 0 {
		return "no host has the label " + key
	}
	names := slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Or(cmp.Compare(values[b], values[a]), cmp.Compare(a, b))
	})
	if len(names) > maxNamed {
		names = append(names[:maxNamed], "...")
	}
	for i, n := range names {
		if c := values[n]; c > 0 {
			names[i] = fmt.Sprintf("%s on %d", n, c)
		}
	}
	return key + ": " + strings.Join(names, ", ")
}
