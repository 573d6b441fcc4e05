//go:build integration

package integration

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	saved "github.com/google/go-containerregistry/pkg/v1/tarball"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestCommit makes images of containers in every state and looks at what is in them.
func TestCommit(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "up", "-e", "A=1", "-v", "/data", "--label", "l=1", "-p", "80", "busybox", "sh", "-c", "echo one >/made; rm /www/index.html; echo no >/data/x; sleep 600")
	h.Docker(t, "run", "-d", "--name", "paused", "busybox", "sleep", "600")
	h.Docker(t, "exec", "paused", "touch", "/made")
	h.Docker(t, "pause", "paused")
	h.Docker(t, "run", "--name", "ended", "busybox", "touch", "/made")
	h.Docker(t, "create", "--name", "new", "busybox", "true")
	eventually(t, 30*time.Second, func() error {
		if r := h.Try(t, "exec", "up", "ls", "/data/x"); r.Code != 0 {
			return fmt.Errorf("%s", r.Combined())
		}
		return nil
	})
	since := fmt.Sprint(time.Now().Unix())
	runCases(t, h, []cliCase{
		{name: "running", args: "commit -m why -a me up made:up", out: "~sha256:"},
		{name: "its files", args: "run --rm made:up cat /made", out: "one"},
		{name: "what it removed", args: "run --rm made:up ls /www", out: ""},
		{name: "not its volumes", args: "run --rm made:up ls /data", out: ""},
		{name: "nothing of the engine's", args: "diff up", out: "A /data\nA /made\nC /www\nD /www/index.html"},
		{name: "author", args: "inspect -f '{{.Author}} {{.Comment}}' made:up", out: "me why"},
		{name: "configuration", args: "inspect -f '{{.Config.Env}} {{.Config.Labels}} {{.Config.ExposedPorts}} {{.Config.Volumes}}' made:up",
			out: "[A=1 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin] map[l:1] map[80/tcp:{}] map[/data:{}]"},
		{name: "history", args: "history --no-trunc --format '{{.CreatedBy}}|{{.Comment}}' made:up", out: "~sh -c echo one >/made; rm /www/index.html; echo no >/data/x; sleep 600|why"},
		{name: "still running", args: "inspect -f {{.State.Status}} up", out: "running"},
		{name: "paused", args: "commit paused made:paused", out: "~sha256:"},
		{name: "still paused", args: "inspect -f {{.State.Status}} paused", out: "paused"},
		{name: "ended", args: "commit ended made:ended", out: "~sha256:"},
		{name: "its file", args: "run --rm made:ended ls /made", out: "/made"},
		{name: "created", args: "commit new made:new", out: "~sha256:"},
		{name: "runs", args: "run --rm made:new echo hi", out: "hi"},
		{name: "not paused", args: "commit --pause=false up made:live", out: "~sha256:"},
		{name: "no name", args: "commit up", out: "~sha256:"},
		{name: "dangling", args: "images -f dangling=true --format {{.Repository}}", out: "<none>"},
		{name: "changes", args: `commit -c 'CMD ["echo", "changed"]' -c 'ENV B=2' -c 'EXPOSE 81/udp' -c 'LABEL m=n' -c 'USER nobody' -c 'WORKDIR /tmp' -c 'STOPSIGNAL SIGINT' -c 'HEALTHCHECK CMD true' up made:changed`, out: "~sha256:"},
		{name: "changed command", args: "run --rm made:changed", out: "changed"},
		{name: "changed rest", args: "run --rm made:changed sh -c 'id -u; pwd; echo $A$B'", out: "65534\n/tmp\n12"},
		{name: "changed configuration", args: "inspect -f '{{.Config.StopSignal}} {{.Config.Healthcheck.Test}} {{.Config.ExposedPorts}}' made:changed", out: "~SIGINT [CMD-SHELL true]"},
		{name: "entrypoint resets the command", args: `commit -c 'ENTRYPOINT ["echo", "entered"]' up made:entry`, out: "~sha256:"},
		{name: "run it", args: "run --rm made:entry", out: "entered"},
		{name: "bad change", args: "commit -c 'FROM x' up", code: 1, stderr: "FROM is not a valid change command"},
		{name: "bad reference", args: "commit up UPPER", code: 1, stderr: "repository name (library/UPPER) must be lowercase"},
		{name: "no such container", args: "commit nosuch x", code: 1, stderr: "No such container: nosuch"},
		{name: "keep what is built on", args: "rmi busybox", code: 1, stderr: "conflict"},
	})
	h.Docker(t, "save", "-o", filepath.Join(h.Dir, "up.tar"), "made:up")
	assert.Equal(t, topLayer(t, filepath.Join(h.Dir, "up.tar")), "data/ made www/ www/.wh.index.html")
	parent := h.Docker(t, "inspect", "-f", "{{.Id}}", "busybox")
	assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.Parent}}", "made:up"), parent)
	told := h.Docker(t, "events", "--since", since, "--until", fmt.Sprint(time.Now().Unix()+1), "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.imageRef}}", "-f", "container=up", "-f", "event=commit", "-f", "event=pause", "-f", "event=unpause")
	assert.Assert(t, is.Contains(told, "container pause <no value>\ncontainer commit made:up\ncontainer unpause"), told)
	assert.Equal(t, strings.Count(h.Docker(t, "history", "-q", "made:up"), "\n"), 1, "two steps: ours and busybox's")
}

// TestCommitCutShort: a daemon that dies while it reads a container's files leaves no image, and the container running.
func TestCommitCutShort(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "big", "busybox", "sh", "-c", "head -c 200000000 /dev/urandom >/big; touch /done; sleep 600")
	eventually(t, 60*time.Second, func() error {
		if r := h.Try(t, "exec", "big", "ls", "/done"); r.Code != 0 {
			return fmt.Errorf("%s", r.Combined())
		}
		return nil
	})
	status := func() string { return h.Docker(t, "inspect", "-f", "{{.State.Status}}", "big") }
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	commit := h.Command(ctx, "commit", "big", "made:big")
	assert.NilError(t, commit.Start())
	eventually(t, 30*time.Second, func() error {
		if s := status(); s != "paused" {
			return fmt.Errorf("it is %s", s)
		}
		return nil
	})
	h.Kill9(t)
	assert.Assert(t, commit.Wait() != nil)
	h.Start(t)
	assert.Equal(t, status(), "running")
	assert.Equal(t, h.Docker(t, "exec", "big", "echo", "hi"), "hi")
	assert.Equal(t, h.Docker(t, "images", "-a", "--format", "{{.Repository}}"), "busybox")

	// The client that goes away ends it as well.
	gone, leave := context.WithCancel(t.Context())
	commit = h.Command(gone, "commit", "big", "made:big")
	assert.NilError(t, commit.Start())
	eventually(t, 30*time.Second, func() error {
		if s := status(); s != "paused" {
			return fmt.Errorf("it is %s", s)
		}
		return nil
	})
	leave()
	_ = commit.Wait()
	eventually(t, 30*time.Second, func() error {
		if s := status(); s != "running" {
			return fmt.Errorf("it is %s", s)
		}
		return nil
	})
	assert.Equal(t, h.Docker(t, "images", "-a", "--format", "{{.Repository}}"), "busybox")
}

// TestFilesThatChangeMeanwhile wants a container that makes and removes files, and has directories turn into links to the
// host's, to be looked at and committed all the same, without a file of the host's among the image's.
func TestFilesThatChangeMeanwhile(t *testing.T) {
	h := lab.NewWithBusybox(t)
	secret := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(secret, "f"), []byte("of the host"), 0o644))
	h.Docker(t, "run", "-d", "--name", "busy", "--network", "none", "busybox", "sh", "-c", `mkdir /w /real; cd /w; echo mine >/real/f
		while :; do i=$((i+1)); mkdir d$((i%20)) 2>/dev/null; echo $i >d$((i%20))/f; echo $i >f$((i%50)); rm -rf d$(((i+10)%20)) f$(((i+25)%50)); done &
		while :; do mkdir /t; echo mine >/t/f; rm -r /t; ln -s `+secret+` /t; rm /t; done`)
	eventually(t, 30*time.Second, func() error {
		if r := h.Shell(t, "/", "docker exec busy test -e /w/f40"); r.Code != 0 {
			return fmt.Errorf("it has not begun: %s", r.Combined())
		}
		return nil
	})
	for range 20 {
		h.Docker(t, "commit", "-p=false", "busy", "busy:1")
		assert.Check(t, h.Docker(t, "inspect", "-s", "-f", "{{.SizeRw}}", "busy") != "0")
		h.Docker(t, "diff", "busy")
		got := h.Shell(t, t.TempDir(), "docker create --name made busy:1 >/dev/null; docker cp made:/t/f - 2>/dev/null | tar xO 2>/dev/null; docker rm made >/dev/null")
		assert.Check(t, !strings.Contains(got.Stdout, "of the host"))
	}
}

// topLayer lists what is in the last layer of a saved image.
func topLayer(t *testing.T, path string) string {
	t.Helper()
	img, err := saved.ImageFromPath(path, nil)
	assert.NilError(t, err)
	layers, err := img.Layers()
	assert.NilError(t, err)
	content, err := layers[len(layers)-1].Uncompressed()
	assert.NilError(t, err)
	defer content.Close()
	var names []string
	for tr := tar.NewReader(content); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " ")
		}
		assert.NilError(t, err)
		names = append(names, hdr.Name)
	}
}
