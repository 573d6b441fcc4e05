//go:build integration

package compose

import (
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestDocs types the lines of the pages about volumes and compose.
func TestDocs(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Doc(t, "../../docs/volumes.md", t.TempDir())
	for _, c := range clients {
		if c.old {
			continue // the page's file is too new for it
		}
		p := &project{client: c, host: h}
		p.plug(t)
		page, err := filepath.Abs("../../docs/compose.md")
		assert.NilError(t, err)
		h.Doc(t, page, t.TempDir(), "DOCKER_CONFIG="+p.config(), "BUILDKIT_PROGRESS=plain", "COMPOSE_PROGRESS=plain")
	}
}
