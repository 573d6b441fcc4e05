//go:build integration

package integration

import (
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// withRanges gives root subordinate users and groups while a test runs.
func withRanges(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/etc/subuid", "/etc/subgid"} {
		before, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Skip(err)
		}
		var kept []string
		for line := range strings.Lines(string(before)) {
			if !strings.HasPrefix(line, "root:") && !strings.HasPrefix(line, "0:") {
				kept = append(kept, line)
			}
		}
		kept = append(kept, "root:2000000:65536\n")
		assert.NilError(t, os.WriteFile(path, []byte(strings.Join(kept, "")), 0o644))
		t.Cleanup(func() { assert.Check(t, os.WriteFile(path, before, 0o644)) })
	}
}

func TestUserNamespaces(t *testing.T) {
	withRanges(t)
	h := lab.NewWithBusybox(t, "--userns-remap", "root")
	h.Docker(t, "run", "-d", "--name", "web", "-v", "site:/www", "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
	run := "run --rm --network none "
	runCases(t, h, []cliCase{
		{name: "is in one", args: "exec web cat /proc/self/uid_map", out: "0    2000000      65536"},
		{name: "has its root", args: run + "busybox sh -c 'stat -c %u:%g / /bin /etc/hosts /dev/shm /.dockerenv | sort -u'", out: "0:0"},
		{name: "writes", args: run + "busybox sh -c 'touch /x && echo more >>/etc/group && echo 10.0.0.1 x >>/etc/hosts && stat -c %u /x'", out: "0"},
		{name: "as a user", args: run + "-u nobody -w /made busybox sh -c 'id -u; stat -c %u /made; echo out >/dev/stdout'", out: "65534\n0\nout"},
		{name: "shared memory", args: run + "--ipc shareable busybox sh -c 'touch /dev/shm/x && echo made'", out: "made"},
		{name: "reaches the network", args: "run --rm busybox sh -c 'wget -q -O- http://web/index.html || ping -c 1 web >/dev/null && echo ping'", out: "~hello from busybox"},
		{name: "owns its network", args: run + "--cap-add NET_ADMIN busybox ip link set lo mtu 1400"},
		{name: "joins a network", args: "run --rm --network container:web busybox wget -q -O- http://127.0.0.1/index.html", out: "hello from busybox"},
		{name: "joins network and processes", args: "run --rm --network container:web --pid container:web busybox sh -c 'tr \"\\0\" \" \" </proc/1/cmdline'", out: "httpd -f -p 80 -h /www"},
		{name: "cannot join processes alone", args: run + "--pid container:web busybox true", code: 125, stderr: "cannot share the PID namespace of a container in another user namespace"},
		{name: "its volume's users are its own", args: "exec web sh -c 'touch /www/new; stat -c %u:%g /www /www/index.html /www/new | sort -u'", out: "0:0"},
		{name: "out of one", args: run + "--userns host --privileged -v site:/www busybox sh -c 'stat -c %u /www/new; cat /proc/self/uid_map'", out: "~4294967295"},
		{name: "a bind is the host's", args: run + "-v /usr:/host:ro busybox stat -c %u /host", out: "65534"},
		{name: "privileged", args: run + "--privileged busybox true", code: 125, stderr: "privileged mode is incompatible with user namespaces"},
		{name: "the host's network", args: "run --rm --network host busybox true", code: 125, stderr: "cannot share the host's network namespace when user namespaces are enabled"},
		{name: "the host's processes", args: run + "--pid host busybox true", code: 125, stderr: "cannot share the host PID namespace when user namespaces are enabled"},
		{name: "info", args: "info -f '{{.SecurityOptions}}'", out: "~name=userns"},
	})
	t.Run("files go in and out with the container's users", func(t *testing.T) {
		r := h.Shell(t, t.TempDir(), `echo hi >f; chown 1000:1001 f; docker cp -a f web:/f; docker exec web stat -c %u:%g /f
			docker cp web:/f - | tar tvn | grep -o 1000/1001; docker export web | tar tvn | grep ' f$' | grep -o 1000/1001
			docker commit web kept >/dev/null; docker run --rm --network none --userns host kept stat -c %u:%g /f; docker diff web`)
		assert.Equal(t, strings.TrimSpace(r.Stdout), "1000:1001\n1000/1001\n1000/1001\n1000:1001\nA /f", r.Stderr)
	})
	t.Run("over a restart of the daemon", func(t *testing.T) {
		h.Kill9(t)
		h.Start(t)
		h.Docker(t, "restart", "-t", "0", "web")
		assert.Assert(t, is.Contains(h.Docker(t, "exec", "web", "cat", "/proc/self/uid_map"), "2000000"))
		assert.Equal(t, h.Docker(t, "exec", "web", "stat", "-c", "%u:%g", "/f"), "1000:1001")
	})
}
