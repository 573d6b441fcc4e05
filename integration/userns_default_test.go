//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// withoutRemapUser takes the user dockremap and its ranges away, and puts everything back when the test ends.
func withoutRemapUser(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/etc/subuid", "/etc/subgid"} {
		before, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			t.Cleanup(func() { _ = os.Remove(path) })
			continue
		}
		assert.NilError(t, err)
		var kept strings.Builder
		for line := range strings.Lines(string(before)) {
			if !strings.HasPrefix(line, "dockremap:") {
				kept.WriteString(line)
			}
		}
		assert.NilError(t, os.WriteFile(path, []byte(kept.String()), 0o644))
		t.Cleanup(func() { assert.Check(t, os.WriteFile(path, before, 0o644)) })
	}
	if exec.Command("getent", "passwd", "dockremap").Run() != nil {
		t.Cleanup(func() { _ = exec.Command("userdel", "dockremap").Run() })
	}
}

// rangeOf is the first id and the count of a user's only range.
func rangeOf(t *testing.T, path string) (first, count int) {
	t.Helper()
	all, err := os.ReadFile(path)
	assert.NilError(t, err)
	found := 0
	for line := range strings.Lines(string(all)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if f[0] != "dockremap" || len(f) != 3 {
			continue
		}
		found++
		first, err = strconv.Atoi(f[1])
		assert.NilError(t, err)
		count, err = strconv.Atoi(f[2])
		assert.NilError(t, err)
	}
	assert.Equal(t, found, 1, "%s: %s", path, all)
	return first, count
}

// TestUserNamespacesByDefault: --userns-remap default makes the user it is for, once, and its containers are his.
func TestUserNamespacesByDefault(t *testing.T) {
	withoutRemapUser(t)
	h := lab.NewWithBusybox(t, "--userns-remap", "default")
	uid, uids := rangeOf(t, "/etc/subuid")
	gid, gids := rangeOf(t, "/etc/subgid")
	assert.Equal(t, uids, 65536)
	assert.Equal(t, gids, 65536)
	assert.Check(t, is.Contains(h.On(t, "getent", "passwd", "dockremap").Stdout, "dockremap"))
	h.Docker(t, "run", "-d", "--name", "box", "-v", "data:/data", "busybox", "sh", "-c", "touch /data/f; sleep 600")
	mapped := func() {
		t.Helper()
		for file, first := range map[string]int{"uid_map": uid, "gid_map": gid} {
			f := strings.Fields(h.Docker(t, "exec", "box", "cat", "/proc/self/"+file))
			assert.DeepEqual(t, f, []string{"0", fmt.Sprint(first), "65536"})
		}
		owner := h.On(t, "stat", "-c", "%u:%g", "/proc/"+h.Docker(t, "inspect", "-f", "{{.State.Pid}}", "box"))
		assert.Equal(t, strings.TrimSpace(owner.Stdout), fmt.Sprintf("%d:%d", uid, gid), "its processes are the user's")
	}
	mapped()
	h.Stop(t)
	h.Start(t) // the user is there now
	again, _ := rangeOf(t, "/etc/subuid")
	assert.Equal(t, again, uid)
	mapped()
	assert.Equal(t, h.Docker(t, "run", "--rm", "-v", "data:/data", "busybox", "stat", "-c", "%u:%g", "/data/f"), "0:0")
	assert.Check(t, is.Contains(h.Docker(t, "info", "-f", "{{.SecurityOptions}}"), "name=userns"))
}
