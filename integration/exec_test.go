//go:build integration

package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestExecElsewhere is exec where it is refused, and what is left to see of one afterwards.
func TestExecElsewhere(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "up", "busybox", "sleep", "600")
	h.Docker(t, "run", "-d", "--name", "paused", "busybox", "sleep", "600")
	h.Docker(t, "pause", "paused")
	h.Docker(t, "create", "--name", "new", "busybox", "true")
	runCases(t, h, []cliCase{
		{name: "paused", args: "exec paused true", code: 1, stderr: "Container paused is paused, unpause the container before exec"},
		{name: "not running", args: "exec new true", code: 1, stderr: " is not running"},
		{name: "bad detach keys", args: "exec --detach-keys bad up true", code: 1, stderr: "Invalid escape keys (bad) provided"},
		{name: "directory that is not there", args: "exec -w /nosuch up pwd", code: 127, out: `~chdir to cwd ("/nosuch")`},
		{name: "user by number", args: "exec -u 1234:55 up id", out: "uid=1234 gid=55 groups=55"},
		{name: "much input", args: "exec -i up wc -c", stdin: strings.Repeat("x", 300_000), out: "300000"},
		{name: "much output", args: "exec up sh -c 'head -c 3000000 /dev/zero | tr \\\\0 x; echo'", out: "~xxx"},
		{name: "environment of a terminal", args: "exec -t up env", out: "~TERM=xterm"},
	})

	// A process that stays behind with its streams ends neither the exec nor the client's wait.
	r := h.TryWith(t, lab.Cmd{Timeout: 9 * time.Second}, "exec", "up", "sh", "-c", "sleep 600 & echo started")
	assert.Equal(t, r.Code, 0)
	assert.Equal(t, r.Stdout, "started\n")

	a := newAsker(t, h)
	var made struct{ ID string }
	a.ask(201, "POST /containers/up/exec", object{"Cmd": []string{"sh", "-c", "exit 7"}}).into(t, &made)
	id := made.ID
	a.ask(200, "POST /exec/"+id+"/start", object{"Detach": true})
	var inspected string
	eventually(t, 30*time.Second, func() error {
		inspected = string(a.ask(200, "GET /exec/"+id+"/json").body)
		if !strings.Contains(inspected, `"ExitCode":7`) {
			return fmt.Errorf("%s", inspected)
		}
		return nil
	})
	assert.Assert(t, is.Contains(inspected, `"Running":false`))
	assert.Assert(t, is.Contains(inspected, `"CanRemove":false`))
	assert.Assert(t, is.Contains(string(a.ask(http.StatusConflict, "POST /exec/"+id+"/start", object{"Detach": true}).body), "exec command "+id+" has already run"))
	h.Docker(t, "rm", "-f", "up")
	a.ask(404, "GET /exec/"+id+"/json")
}
