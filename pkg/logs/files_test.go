package logs

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

// A reader that was held up while the log was rotated under it took newer files for older ones: it must see how far the
// first it met has moved.
func TestPlaceOfAFileThatIsRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	assert.NilError(t, os.WriteFile(path, []byte("x\n"), 0o600))
	f, err := openPlain(path)
	assert.NilError(t, err)
	defer f.Close()
	assert.Equal(t, placeOf(f, path, 0, 5), 0)
	assert.NilError(t, os.Rename(path, rotated(path, 2)))
	assert.NilError(t, os.WriteFile(path, []byte("y\n"), 0o600))
	assert.Equal(t, placeOf(f, path, 0, 5), 2)
	assert.NilError(t, compressFile(rotated(path, 2), path+".tmp"))
	assert.Equal(t, placeOf(f, path, 1, 5), 2)
	assert.NilError(t, os.Remove(compressedName(rotated(path, 2))))
	assert.Equal(t, placeOf(f, path, 2, 5), 5)
}
