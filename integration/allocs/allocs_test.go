package allocs

import (
	"testing"

	"gotest.tools/v3/assert"
)

var sink []byte

func TestFigures(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv(rewrite, "write")
	path := Path{"two", func() { sink = make([]byte, 100); sink = make([]byte, 200) }}
	Check(t, path)
	assert.DeepEqual(t, read(t), map[string]float64{"two": 2})
	t.Setenv(rewrite, "")
	Check(t, path)
}

func TestMargin(t *testing.T) {
	for _, c := range []struct {
		measured, figure float64
		want             bool
	}{
		{100, 100, false}, {122, 100, false}, {123, 100, true}, {2, 0, false}, {3, 0, true}, {50, 100, false},
	} {
		assert.Equal(t, exceeds(c.measured, c.figure), c.want, "%v over %v", c.measured, c.figure)
	}
}
