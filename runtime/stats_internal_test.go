package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

// A host whose kernel counts no memory answered that its running containers use nothing at all.
func TestMemoryStat(t *testing.T) {
	hierarchy := t.TempDir()
	for _, dir := range []string{"counted", "uncounted"} {
		assert.NilError(t, os.Mkdir(filepath.Join(hierarchy, dir), 0o755))
	}
	assert.NilError(t, os.WriteFile(filepath.Join(hierarchy, "counted", "memory.stat"), []byte("anon 7\nfile 8\n"), 0o644))
	for _, tc := range []struct {
		name, hierarchy, path string
		want                  map[string]uint64
		err                   error
	}{
		{name: "counted", hierarchy: hierarchy, path: "counted", want: map[string]uint64{"anon": 7, "file": 8}},
		{name: "cgroup v2 without the controller", hierarchy: hierarchy, path: "uncounted"},
		{name: "cgroup v1 without the controller", hierarchy: filepath.Join(hierarchy, "memory"), path: "x"},
		{name: "the cgroup is gone", hierarchy: hierarchy, path: "gone", err: fs.ErrNotExist},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := memoryStat(tc.hierarchy, tc.path)
			assert.Assert(t, errors.Is(err, tc.err), "%v", err)
			assert.DeepEqual(t, got, tc.want)
		})
	}
}
