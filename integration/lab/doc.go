package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// Doc types what a page of the documentation says: every line of its sh blocks, in their order, in one folder. Each has
// to succeed; "# prints X" at its end wants X in what it prints, and "# fails: X" wants it to fail with X. A yaml block
// that begins with "# NAME" is a file of that name.
func (h *Host) Doc(t *testing.T, page, dir string, env ...string) {
	t.Helper()
	text, err := os.ReadFile(page)
	assert.NilError(t, err)
	lines := 0
	for i, block := range strings.Split(string(text), "```") {
		kind, body, _ := strings.Cut(block, "\n")
		switch {
		case i%2 == 0:
		case kind == "yaml":
			name, _, _ := strings.Cut(body, "\n")
			file := filepath.Join(dir, strings.TrimPrefix(name, "# "))
			assert.NilError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			assert.NilError(t, os.WriteFile(file, []byte(body), 0o644))
		case kind == "sh":
			for line := range strings.Lines(body) {
				if line = strings.TrimSpace(line); line != "" {
					h.docLine(t, dir, line, env)
					lines++
				}
			}
		}
	}
	assert.Assert(t, lines > 0, "%s says nothing to type", page)
}

func (h *Host) docLine(t *testing.T, dir, line string, env []string) {
	t.Helper()
	typed, want, prints := strings.Cut(line, "# prints ")
	var fails bool
	if !prints {
		typed, want, fails = strings.Cut(line, "# fails: ")
	}
	r := execute(t, Cmd{Env: env}, h.Env(), "nsenter", "--net=/run/netns/"+h.netns, "--wd="+dir, "bash", "-o", "pipefail", "-c", typed)
	assert.Equal(t, r.Code != 0, fails, "%s\n%s", line, r.Combined())
	assert.Assert(t, is.Contains(r.Combined(), strings.TrimSpace(want)), line)
}
