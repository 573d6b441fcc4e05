package logs

import (
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/allocs"
)

func TestAllocations(t *testing.T) {
	line := []byte(strings.Repeat("GET /index.html HTTP/1.1 200 ", 4) + "\n")
	w := openTest(t, filepath.Join(t.TempDir(), "log"), map[string]string{"max-size": "64m"})
	allocs.Check(t, allocs.Path{Name: "a line into the log", Do: func() {
		assert.NilError(t, w.Log(Batch{Stream: "stdout", Data: line, Time: testTime}, nil))
	}})
}
