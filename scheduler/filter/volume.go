package filter

import (
	"fmt"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// volume ties a container to the home of a volume it mounts.
type volume struct{ pin }

// Name implements Filter.
func (volume) Name() string { return "volume" }

// Why implements Filter.
func (f volume) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	return fmt.Sprintf("%s not have volume %s: its data is on %s", of(out.Len(), all, "does", "do"), f.pin.Name, f.where(s))
}
