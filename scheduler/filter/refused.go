package filter

import (
	"strings"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// refused rules out hosts that were asked already.
type refused struct{ by []snapshot.Refused }

// Name implements Filter.
func (refused) Name() string { return "refused" }

// Cut implements Cutter.
func (f refused) Cut(s *snapshot.Snapshot, in snapshot.Set) {
	for _, r := range f.by {
		if slot, ok := s.Find(r.Host); ok {
			in.Remove(slot)
		}
	}
}

// Why implements Filter.
func (f refused) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	var words []string
	for _, r := range f.by {
		if slot, ok := s.Find(r.Host); ok && out.Has(slot) && len(words) < maxNamed {
			words = append(words, string(r.Host)+": "+r.Why)
		}
	}
	return of(out.Len(), all, "was", "were") + " asked and refused (" + strings.Join(words, "; ") + ")"
}
