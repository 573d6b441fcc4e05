package schedtest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// gotest.tools has a flag -update already.
func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// TestTranscripts runs every file of testdata. With -update it writes down what comes of them now: read the difference.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	assert.NilError(t, err)
	assert.Assert(t, len(files) > 0)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			assert.NilError(t, err)
			got := Run(string(want))
			if updating() {
				assert.NilError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			assert.Equal(t, got, string(want))
		})
	}
}
