package filter

import (
	"fmt"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// dependency ties a container to the host of another, whose namespaces or volumes it shares, or which it links to.
type dependency struct{ pin }

var dependencyWords = map[snapshot.PinKind]string{
	snapshot.PinLink:        "--link",
	snapshot.PinVolumesFrom: "--volumes-from",
	snapshot.PinNetwork:     "--network container:",
	snapshot.PinPID:         "--pid container:",
	snapshot.PinIPC:         "--ipc container:",
}

// Name implements Filter.
func (dependency) Name() string { return "dependency" }

// Why implements Filter.
func (f dependency) Why(s *snapshot.Snapshot, out snapshot.Set, all int) string {
	return fmt.Sprintf("%s not run container %s (%s), which is on %s",
		of(out.Len(), all, "does", "do"), f.pin.Name, dependencyWords[f.Kind], f.where(s))
}
