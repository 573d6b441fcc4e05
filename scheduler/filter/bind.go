package filter

import (
	"fmt"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// bind ties a container that mounts a path of the host to the endpoint's host: it is there that the user means.
type bind struct{ pin }

// Name implements Filter.
func (bind) Name() string { return "bind" }

// Why implements Filter.
func (f bind) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	return fmt.Sprintf("%s out for the bind mount of %s: it means this endpoint's host, %s",
		of(out.Len(), all, "is", "are"), f.pin.Name, f.where(s))
}
