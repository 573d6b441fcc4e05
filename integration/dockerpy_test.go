//go:build integration

package integration

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestDockerPy runs the cases of dockerpy/cases.py: what a library that nobody here wrote makes of the API.
func TestDockerPy(t *testing.T) {
	h := lab.NewWithBusybox(t)
	reg := serveRegistry(t, h, "ann")
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "dockerpy/cases.py") // Debian's, which has Debian's library
	cmd.Env = append(h.Env(), "REGISTRY="+reg.addr)
	out, err := cmd.StdoutPipe()
	assert.NilError(t, err)
	cmd.Stderr = t.Output()
	assert.NilError(t, cmd.Start())
	ran := 0
	for lines := bufio.NewScanner(out); lines.Scan(); ran++ {
		var c struct{ Name, Failed string }
		assert.NilError(t, json.Unmarshal(lines.Bytes(), &c), lines.Text())
		t.Run(c.Name, func(t *testing.T) {
			if c.Failed != "" {
				t.Error(c.Failed)
			}
		})
	}
	assert.NilError(t, cmd.Wait())
	assert.Assert(t, ran > 0, "no case ran")
}
