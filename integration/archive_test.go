//go:build integration

package integration

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// copyLab is a host with a container that has links of all kinds, a volume, a bind and a tmpfs, and a folder with something
// to copy.
func copyLab(t *testing.T) (*lab.Host, string) {
	t.Helper()
	h := lab.NewWithBusybox(t)
	dir := t.TempDir()
	for _, d := range []string{"dir/sub", "bind"} {
		assert.NilError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for name, body := range map[string]string{"file": "hello\n", "dir/a": "a\n", "dir/sub/b": "b\n"} {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644))
	}
	assert.NilError(t, os.Symlink("file", filepath.Join(dir, "link")))
	h.Docker(t, "run", "-d", "--name", "box", "--network", "none", "-h", "boxed", "-v", "vol:/vol", "-v", filepath.Join(dir, "bind")+":/bind:ro", "--tmpfs", "/scratch", "busybox", "sh", "-c", `
		mkdir -p /real/dir /d; echo x >/real/f; ln -s /real/dir /abs; ln -s ../real/dir /d/rel; ln -s /nosuch /dangling
		ln -s /real/f /flink; ln -s /proc/self/root/etc /proot; ln -s ../../../../../etc/hostname /escape; echo ready; sleep 600`)
	eventuallyLogged(t, h, "box", "ready")
	return h, dir
}

func eventuallyLogged(t *testing.T, h *lab.Host, name, words string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if said := h.Docker(t, "logs", name); !strings.Contains(said, words) {
			return fmt.Errorf("%s says %q", name, said)
		}
		return nil
	})
}

func TestCopy(t *testing.T) {
	h, dir := copyLab(t)
	secret := filepath.Join(t.TempDir(), "never")
	steps := []struct{ name, line, out, err string }{
		{name: "a file", line: "docker cp file box:/ && docker exec box cat /file", out: "hello"},
		{name: "under another name", line: "docker cp file box:/other && docker exec box cat /other", out: "hello"},
		{name: "into a directory that is not there", line: "docker cp file box:/nosuch/f", err: "Could not find the file /nosuch in container box"},
		{name: "a directory as a new one", line: "docker cp dir box:/new && docker exec box find /new", out: "/new\n/new/sub\n/new/sub/b\n/new/a"},
		{name: "a directory into one", line: "docker cp dir box:/new && docker exec box cat /new/dir/a", out: "a"},
		{name: "the content of a directory", line: "docker cp dir/. box:/new2 && docker exec box cat /new2/a", out: "a"},
		{name: "a directory over a file", line: "docker cp dir box:/file", err: "cannot copy directory"},
		{name: "through an absolute link", line: "docker cp file box:/abs && docker exec box cat /real/dir/file", out: "hello"},
		{name: "through a link above", line: "docker cp file box:/d/rel/g && docker exec box cat /real/dir/g", out: "hello"},
		{name: "over a dangling link", line: "docker cp file box:/dangling && docker exec box cat /nosuch", out: "hello"},
		{name: "over a link to a file", line: "docker cp file box:/flink && docker exec box cat /real/f", out: "hello"},
		{name: "a link", line: "docker cp link box:/link && docker exec box readlink /link", out: "file"},
		{name: "what a link leads to", line: "docker cp -L link box:/link2 && docker exec box cat /link2", out: "hello"},
		{name: "out of it, a link", line: "docker cp box:/flink out1 && readlink out1", out: "/real/f"},
		{name: "out of it, what a link leads to", line: "docker cp -L box:/flink out2 && cat out2", out: "hello"},
		{name: "out of it, a directory", line: "docker cp box:/new/. out3 && cat out3/sub/b", out: "b"},
		{name: "out of it, what is not there", line: "docker cp box:/nothing out4", err: "Could not find the file /nothing in container box"},
		{name: "out of it, a file as a directory", line: "docker cp box:/real/f/ out4", err: "not a directory"},
		{name: "from a stream", line: "docker exec box mkdir /stream; tar c dir | docker cp - box:/stream && docker exec box cat /stream/dir/sub/b", out: "b"},
		{name: "to a stream", line: "docker cp box:/new - | tar t | sort | head -2", out: "new/\nnew/a"},
		{name: "a stream that is no archive", line: "echo junk | docker cp - box:/stream", err: "unexpected EOF"},
		{name: "owners are kept", line: "chown 1234:2345 file; docker cp -a file box:/o2 && docker exec box stat -c %u:%g /o2", out: "1234:2345"},
		{name: "a volume", line: "docker cp file box:/vol/f && docker exec box cat /vol/f", out: "hello"},
		{name: "a read-only bind", line: "docker cp file box:/bind/f", err: "mounted volume is marked read-only"},
		{name: "a bind", line: "echo bound >bind/b; docker cp box:/bind/b out5 && cat out5", out: "bound"},
		{name: "a tmpfs is the container's own", line: "docker cp file box:/scratch/f && docker exec box ls /scratch"},
		{name: "its hostname file", line: "docker cp box:/etc/hostname out6 && cat out6", out: "boxed"},
		{name: "its hosts file is a mount", line: "docker cp file box:/etc/hosts", err: "device or resource busy"},
		{name: "its proc is not the host's", line: "docker cp box:/proc/version out7", err: "Could not find the file /proc/version in container box"},
		{name: "links stay inside", line: "docker cp -L box:/escape out8 && cat out8", out: "boxed"},
		{name: "proc leads nowhere", line: "echo x >" + secret + "; docker cp " + secret + " box:/proot/never", err: "Could not find the file /proot in container box"},
		{name: "no such file", line: "docker cp nosuch box:/", err: "no such file or directory"},
		{name: "no such container", line: "docker cp file nosuch:/", err: "no such directory"},
		{name: "paused", line: "docker pause box >/dev/null; docker cp file box:/p; docker cp box:/p out9; docker unpause box >/dev/null; cat out9", out: "hello"},
		{name: "stopped", line: "docker stop -t 0 box >/dev/null; docker cp file box:/s; docker cp box:/s out10; cat out10", out: "hello"},
		{name: "created, its own files", line: "docker create --name fresh busybox true >/dev/null; for f in hosts hostname resolv.conf; do docker cp fresh:/etc/$f - | tar tv | cut -c1-10; done", out: "-rwxr-xr-x\n-rwxr-xr-x\n-rwxr-xr-x"},
		{name: "created, nothing changed by a look", line: "docker diff fresh; docker inspect -s -f {{.SizeRw}} fresh", out: "0"},
		{name: "created, a hosts file put", line: "docker cp file fresh:/etc/hosts && docker diff fresh && docker cp fresh:/etc/hosts - | tar xO", out: "C /etc\nC /etc/hosts\nhello"},
		{name: "created, started over it", line: "docker start -a fresh && docker cp fresh:/etc/hosts - | tar xO | head -1", out: "127.0.0.1\tlocalhost"},
		{name: "created, its working directory", line: "docker create --name dir -w /made/deep busybox true >/dev/null && docker cp file dir:/made/deep && docker cp dir:/made/deep out12 && cat out12/file", out: "hello"},
		{name: "created, read-only", line: "docker create --name ro --read-only -v vol:/vol busybox true >/dev/null; docker cp file ro:/x", err: "container rootfs is marked read-only"},
		{name: "created, read-only, its volume", line: "docker cp file ro:/vol/r && docker cp ro:/vol/r out11 && cat out11", out: "hello"},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			r := h.Shell(t, dir, s.line)
			if s.err != "" {
				assert.Assert(t, r.Code != 0, "%s\n%s", s.line, r.Combined())
				assert.Assert(t, is.Contains(r.Stderr, s.err))
				return
			}
			assert.Equal(t, r.Code, 0, "%s\n%s", s.line, r.Combined())
			out := strings.TrimSpace(r.Stdout)
			if strings.HasPrefix(s.line, "docker exec box find") || s.name == "a directory as a new one" {
				assert.DeepEqual(t, sortedLines(out), sortedLines(s.out))
				return
			}
			assert.Equal(t, out, s.out, r.Stderr)
		})
	}
}

func sortedLines(s string) map[string]bool {
	lines := map[string]bool{}
	for l := range strings.FieldsSeq(s) {
		lines[l] = true
	}
	return lines
}

// archiveRequest asks the archive endpoint and returns status, header and body.
func archiveRequest(t *testing.T, h *lab.Host, method, query string, body []byte) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://nereid/containers/box/archive?"+query, bytes.NewReader(body))
	assert.NilError(t, err)
	res, err := h.Client().Do(req)
	assert.NilError(t, err)
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	assert.NilError(t, err)
	return res.StatusCode, res.Header, string(said)
}

// tarOf is an archive of entries in their order; one with a link is a symbolic link.
func tarOf(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		body := "evil\n"
		if e.Typeflag != tar.TypeReg {
			body = ""
		}
		e.Size, e.Mode = int64(len(body)), 0o755
		assert.NilError(t, w.WriteHeader(&e))
		_, err := io.WriteString(w, body)
		assert.NilError(t, err)
	}
	assert.NilError(t, w.Close())
	return buf.Bytes()
}

func TestArchiveEndpoint(t *testing.T) {
	h, _ := copyLab(t)
	stat := func(query string) (int, container.PathStat) {
		code, header, _ := archiveRequest(t, h, http.MethodHead, query, nil)
		var s container.PathStat
		if raw, err := base64.StdEncoding.DecodeString(header.Get("X-Docker-Container-Path-Stat")); err == nil && len(raw) > 0 {
			assert.NilError(t, json.Unmarshal(raw, &s))
		}
		return code, s
	}
	code, s := stat("path=/escape")
	assert.Equal(t, code, http.StatusOK)
	assert.Equal(t, s.LinkTarget, "/etc/hostname")
	assert.Assert(t, s.Mode&os.ModeSymlink != 0)
	code, s = stat("path=/real/")
	assert.Equal(t, code, http.StatusOK)
	assert.Equal(t, s.Name, "real")
	assert.Assert(t, s.Mode.IsDir())
	code, _ = stat("path=/nosuch")
	assert.Equal(t, code, http.StatusNotFound)

	file := tarOf(t, tar.Header{Name: "real", Typeflag: tar.TypeReg})
	outside := filepath.Join(t.TempDir(), "outside")
	for _, c := range []struct {
		name, query, words string
		body               []byte
		code               int
	}{
		{"a file over a directory", "path=/&noOverwriteDirNonDir=true", "cannot overwrite directory", file, http.StatusInternalServerError},
		{"into a file", "path=/real/f", "extraction point is not a directory", file, http.StatusBadRequest},
		{"into nothing", "path=/nosuch", "Could not find the file /nosuch in container box", file, http.StatusNotFound},
		{"without a path", "", "bad parameter: path", file, http.StatusBadRequest},
		{"up and away", "path=/real", "", tarOf(t, tar.Header{Name: "../../../../../.." + outside, Typeflag: tar.TypeReg}), 0},
		{"through a link of the archive", "path=/real", "", tarOf(t,
			tar.Header{Name: "out", Linkname: filepath.Dir(outside), Typeflag: tar.TypeSymlink},
			tar.Header{Name: "out/outside", Typeflag: tar.TypeReg}), 0},
		{"over a link of the archive", "path=/real", "", tarOf(t,
			tar.Header{Name: "l", Linkname: outside, Typeflag: tar.TypeSymlink}, tar.Header{Name: "l", Typeflag: tar.TypeReg}), 0},
		{"a hard link to the host", "path=/real", "", tarOf(t, tar.Header{Name: "shadow", Linkname: "/../../../etc/shadow", Typeflag: tar.TypeLink}), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, said := archiveRequest(t, h, http.MethodPut, c.query, c.body)
			if c.code != 0 {
				assert.Equal(t, code, c.code, said)
				assert.Assert(t, is.Contains(said, c.words))
			}
			_, err := os.Lstat(outside)
			assert.Assert(t, os.IsNotExist(err), "written outside of the container")
		})
	}
}

// TestCopyRacesWithLinks: a container swaps a directory for a link to the root while files are copied in and out. Whatever
// comes of it, nothing of the host is read or written.
func TestCopyRacesWithLinks(t *testing.T) {
	h, dir := copyLab(t)
	outside := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("of the host\n"), 0o644))
	h.Docker(t, "exec", "-d", "box", "sh", "-c", "mkdir -p /swap"+outside+"; while :; do mv /swap /away; ln -s / /swap; rm /swap; mv /away /swap; done")
	for range 20 {
		r := h.Shell(t, dir, "docker cp box:/swap"+outside+"/secret - ; docker cp file box:/swap"+outside+"/written")
		assert.Assert(t, !strings.Contains(r.Stdout, "of the host"), "read from the host")
	}
	left, err := os.ReadDir(outside)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 1)
}

func TestDiffExportImport(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "--name", "box", "--network", "none", "-v", "vol:/vol", "busybox", "sh", "-c", "echo new >/etc/new; rm /www/index.html; echo more >>/etc/group; mkdir /made; echo v >/vol/f")
	assert.DeepEqual(t, sortedLines(strings.ReplaceAll(h.Docker(t, "diff", "box"), " ", ":")), sortedLines(
		"C:/etc A:/etc/new C:/etc/group A:/made A:/vol C:/www D:/www/index.html"))
	flat := filepath.Join(t.TempDir(), "flat.tar")
	h.Docker(t, "export", "-o", flat, "box")
	listing, err := exec.CommandContext(t.Context(), "tar", "tf", flat).Output()
	assert.NilError(t, err)
	names := sortedLines(string(listing))
	for name, want := range map[string]bool{"etc/new": true, ".dockerenv": true, "made/": true, "vol/": true, "vol/f": false, "www/index.html": false} {
		assert.Equal(t, names[name], want, name)
	}
	h.Docker(t, "import", "-c", "CMD [\"cat\", \"/etc/new\"]", "-c", "ENV A=1", "-c", "USER nobody", "-m", "flattened", flat, "flat:1")
	h.Docker(t, "run", "--name", "below", "--network", "none", "busybox", "sh", "-c", `mkdir -p /d/s /kept; echo 1 >/d/a; echo 1 >/d/b; echo 1 >/dir; ln -s /etc /etc2; ln -s /nosuch /dangling`)
	h.Docker(t, "commit", "below", "below:1")
	h.Docker(t, "run", "--name", "anew", "--network", "none", "below:1", "sh", "-c", // a link to the host's /etc would tell what is there
		`rm -r /d; mkdir -p /d/s; echo 22 >/d/b; echo 2 >/d/c; rm /dir; mkdir /dir; touch /dir/in; rm /etc2; mkdir /etc2; touch /etc2/passwd /kept/new; rm /dangling; touch /dangling`)
	runCases(t, h, []cliCase{
		{name: "runs", args: "run --rm --network none flat:1", out: "new"},
		{name: "with its changes", args: "run --rm --network none flat:1 sh -c 'echo $A; id -un'", out: "1\nnobody"},
		{name: "says where from", args: "history --no-trunc --format '{{.Comment}}' flat:1", out: "flattened"},
		{name: "no such container", args: "export nosuch", code: 1, stderr: "No such container: nosuch"},
		{name: "to a terminal", args: "diff nosuch", code: 1, stderr: "No such container: nosuch"},
		{name: "bad change", args: "import -c NONSENSE " + flat, code: 1, stderr: "NONSENSE"},
		{name: "what lies below a directory made anew", args: "diff anew", out: "C /d\nD /d/a\nC /d/b\nA /d/c\nC /dangling\nC /dir\nA /dir/in\nC /etc2\nA /etc2/passwd\nC /kept\nA /kept/new"},
		{name: "marks of a container", args: "run --rm --network none busybox sh -c 'ls /.dockerenv; readlink /etc/mtab'", out: "/.dockerenv\n/proc/mounts"},
	})
}
