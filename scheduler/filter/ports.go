package filter

import (
	"fmt"
	"strings"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// ports rules out hosts of which a container already has a port that is wanted. Only ports of the host's own count:
// those of containers in the host's network. Ports published by the mesh are the fleet's, and claimed at start.
type ports struct{ wanted []snapshot.Port }

// Name implements Filter.
func (ports) Name() string { return "port" }

// Fits implements Checker.
func (f ports) Fits(s *snapshot.Snapshot, slot int) bool {
	for _, p := range f.wanted {
		if s.PortTaken(slot, p) {
			return false
		}
	}
	return true
}

// Why implements Filter.
func (f ports) Why(_ *snapshot.Snapshot, out snapshot.Set, all int) string {
	names := make([]string, len(f.wanted))
	for i, p := range f.wanted {
		names[i] = fmt.Sprintf("%d/%s", p.Port, p.Proto)
	}
	return of(out.Len(), all, "has", "have") + " port " + strings.Join(names, " or ") + " in use by a container in the host's network"
}
