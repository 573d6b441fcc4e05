//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestOldCLI drives the daemon with the docker CLI of 2021, which speaks API 1.41: what is newer must not be in its way.
func TestOldCLI(t *testing.T) {
	cli := filepath.Join(lab.Bin(t), "docker-20.10")
	_, err := os.Stat(cli)
	assert.NilError(t, err, "run `make bin/docker-20.10` first")
	h := lab.NewWithBusybox(t)
	reg := serveRegistry(t, h, "ann")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	assert.NilError(t, os.WriteFile(file, []byte("content\n"), 0o644))
	bound := mountBelow(t)
	runCasesWith(t, h, cli, []cliCase{
		{name: "version", args: "version --format '{{.Client.APIVersion}} {{.Server.APIVersion}}'", out: "1.41 1.51"},
		{name: "info", args: "info --format '{{.OSType}} {{.Swarm.LocalNodeState}}'", out: "linux inactive"},
		{name: "run", args: "run --rm -i busybox cat", stdin: "hi\n", out: "hi"},
		{name: "stdin alone", args: "run -i -a stdin --name fed busybox cat", stdin: "fed", out: "~"},
		{name: "stdin alone, ended", args: "wait fed", out: "0"},
		{name: "stdin alone, arrived", args: "logs fed", out: "fed"},
		{name: "stdin alone, removed", args: "rm fed", out: "fed"},
		{name: "run's exit code", args: "run --rm busybox sh -c 'exit 5'", code: 5},
		{name: "run of nothing", args: "run --rm busybox nosuch", code: 127, stderr: "executable file not found in $PATH"},
		{name: "read-only bind, and what is mounted below", args: "run --rm -v " + bound + ":/b:ro busybox sh -c 'touch /b/below/x && touch /b/x'", code: 1, stderr: "/b/x: Read-only file system"},
		{name: "read-only bind by mount", args: "run --rm --mount type=bind,src=" + bound + ",dst=/b,readonly busybox sh -c 'touch /b/below/x && touch /b/x'", code: 1, stderr: "/b/x: Read-only file system"},
		{name: "run in the background", args: "run -d --name web -p 127.0.0.1:8099:80 -l tier=front -v data:/data --init --memory 64m busybox sh -c 'echo started; exec sleep 600'", out: "~"},
		{name: "ps", args: "ps --format '{{.Names}} {{.Image}} {{.Ports}}'", out: "web busybox 127.0.0.1:8099->80/tcp"},
		{name: "ps with a filter", args: "ps -aq -f label=tier=back", out: ""},
		{name: "port", args: "port web", out: "80/tcp -> 127.0.0.1:8099"},
		{name: "logs", args: "logs web", out: "started", again: true},
		{name: "exec", args: "exec -e A=1 -w /tmp web sh -c 'echo $A $PWD'", out: "1 /tmp"},
		{name: "exec's exit code", args: "exec web sh -c 'exit 3'", code: 3},
		{name: "top", args: "top web -o pid,comm", out: "~sleep"},
		{name: "stats", args: "stats --no-stream --format '{{.Name}} {{.PIDs}}' web", out: "web 2", again: true}, // dashes when the client has waited for two seconds in vain
		{name: "copy in", args: "cp " + file + " web:/tmp/copied", out: ""},
		{name: "copied", args: "exec web cat /tmp/copied", out: "content"},
		{name: "copy out", args: "cp web:/etc/passwd " + dir, out: ""},
		{name: "copy of nothing", args: "cp web:/nosuch " + dir, code: 1, stderr: "No such container:path: web:/nosuch"},
		{name: "diff", args: "diff web", out: "~A /tmp/copied"},
		{name: "pause", args: "pause web", out: "web"},
		{name: "paused", args: "inspect -f {{.State.Status}} web", out: "paused"},
		{name: "unpause", args: "unpause web", out: "web"},
		{name: "update", args: "update --memory 128m --memory-swap 256m web", out: "web"},
		{name: "updated", args: "inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' web", out: "134217728 268435456"},
		{name: "rename", args: "rename web www", out: ""},
		{name: "restart", args: "restart -t 0 www", out: "www"},
		{name: "kill", args: "kill www", out: "www"},
		{name: "wait", args: "wait www", out: "137"},
		{name: "start", args: "start www", out: "www"},
		{name: "stop", args: "stop -t 0 www", out: "www"},
		{name: "rm", args: "rm -v www", out: "www"},
		{name: "rm of none", args: "rm www", code: 1, stderr: "No such container: www"},
		{name: "images", args: "images --digests --format '{{.Repository}} {{.Tag}} {{.Digest}}'", out: "busybox latest <none>"},
		{name: "history", args: "history --format {{.CreatedBy}} busybox", out: "made by the tests"},
		{name: "tag", args: "tag busybox " + reg.addr + "/team/app:1", out: ""},
		{name: "login with a wrong password", args: "login -u ann --password-stdin " + reg.addr, stdin: "guess", code: 1, stderr: "Error response from daemon: login attempt to http://" + reg.addr + "/v2/ failed with status: 401 Unauthorized"},
		{name: "login", args: "login -u ann --password-stdin " + reg.addr, stdin: "secret", out: "~Login Succeeded"},
		{name: "push", args: "push " + reg.addr + "/team/app:1", out: "~1: digest: sha256:"},
		{name: "rmi", args: "rmi " + reg.addr + "/team/app:1", out: "~Untagged: " + reg.addr + "/team/app:1"},
		{name: "pull", args: "pull -q " + reg.addr + "/team/app:1", out: reg.addr + "/team/app:1"},
		{name: "save", args: "save -o " + dir + "/saved.tar busybox", out: ""},
		{name: "load", args: "load -i " + dir + "/saved.tar", out: "Loaded image: busybox:latest"},
		{name: "volumes", args: "volume ls --format '{{.Name}} {{.Driver}}'", out: "data local"},
		{name: "volume rm", args: "volume rm data", out: "data"},
		{name: "networks", args: "network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'", out: "bridge bridge local\nhost host local\nnone null local"},
		{name: "df", args: "system df --format {{.Type}}", out: "Images\nContainers\nLocal Volumes\nBuild Cache"},
		{name: "df in full", args: "system df -v", out: "~SHARED SIZE"},
		{name: "prune", args: "system prune -f", out: "Total reclaimed space: 0B"},
		{name: "events", args: "events --since 10m --until -1s --filter event=rename --format '{{.Action}} {{index .Actor.Attributes \"oldName\"}}'", out: "rename /web"},
		{name: "no swarm", args: "node ls", code: 1, stderr: "This node is not a swarm manager."},
	})
}
