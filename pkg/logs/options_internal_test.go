package logs

import (
	"testing"

	"gotest.tools/v3/assert"
)

// TestMostFiles: a log of all the files that a number can count was searched for them at each `docker logs`.
func TestMostFiles(t *testing.T) {
	opts := map[string]string{"max-file": "2147483647", "max-size": "1k"}
	for _, driver := range []string{JSONFile, Local} {
		o, err := fileOptions(driver, opts)
		assert.NilError(t, err)
		assert.Equal(t, o.maxFiles, mostFiles, driver)
	}
}
