//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestReadme types what the README's "Try it" tells a newcomer to type, in its order, on a machine of its own: the
// lab's host stands in for `make run`, and what wants a person at a terminal gets a line to read or an end.
func TestReadme(t *testing.T) {
	h := lab.New(t)
	root, err := filepath.Abs("..")
	assert.NilError(t, err)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	assert.NilError(t, err)
	_, try, ok := strings.Cut(string(readme), "## Try it")
	assert.Assert(t, ok)
	try, _, ok = strings.Cut(try, "\n## ")
	assert.Assert(t, ok)

	want := map[string]string{ // what must be seen of a line that starts so
		"docker run --rm": "hi\n",
		"curl":            "hello from busybox\n",
		"dig":             "IN\tA\t10.",
		"docker exec -it": "web-shell",
		"docker stop":     "web\n",
	}
	seen := 0
	for i, block := range strings.Split(try, "```") {
		if i%2 == 0 {
			continue
		}
		for line := range strings.Lines(strings.TrimPrefix(block, "sh\n")) {
			line = strings.TrimSpace(line)
			if line == "" || line == "make run" || strings.HasPrefix(line, "export DOCKER_HOST=") {
				continue
			}
			typed := line
			switch {
			case strings.HasPrefix(line, "docker exec -it"):
				typed = "echo 'echo web-shell' | " + strings.Replace(line, "-it", "-i", 1)
			case strings.HasPrefix(line, "docker logs -f"):
				typed = "timeout 1 " + line + " || true"
			}
			var wanted string
			for start, text := range want {
				if strings.HasPrefix(line, start) {
					wanted = text
					seen++
				}
			}
			eventually(t, 60*time.Second, func() error { // what listens and what is published does so in a moment
				r := h.Shell(t, root, typed)
				if r.Code != 0 || !strings.Contains(r.Combined(), wanted) {
					return &lineError{line, r.Combined()}
				}
				return nil
			})
		}
	}
	assert.Equal(t, seen, len(want), "the README lacks a command that this test knows")
}

// lineError is a line of the README that failed.
type lineError struct{ line, out string }

func (e *lineError) Error() string { return e.line + "\n" + e.out }
