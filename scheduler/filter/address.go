package filter

import (
	"fmt"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// address ties a container that publishes a port on one address to the host that has it. Loopback addresses are the
// endpoint's.
type address struct{ pin }

// Name implements Filter.
func (address) Name() string { return "address" }

// Why implements Filter.
func (f address) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	return fmt.Sprintf("%s out for the port published on %s: that is an address of %s",
		of(out.Len(), all, "is", "are"), f.pin.Name, f.where(s))
}
