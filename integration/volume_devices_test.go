//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// volumeMounts are the places where devices of the host's volumes are mounted.
func volumeMounts(h *lab.Host) []string {
	var found []string
	for _, m := range h.Mounts() {
		if strings.HasPrefix(m, filepath.Join(h.Dir, "data", "volumes")+"/") {
			found = append(found, m)
		}
	}
	return found
}

// TestVolumeDevices: what the local driver's options ask for is mounted while a container uses it, and no longer.
func TestVolumeDevices(t *testing.T) {
	h := lab.NewWithBusybox(t)
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("of the host\n"), 0o644))
	img := filepath.Join(t.TempDir(), "disk.img")
	assert.Equal(t, h.On(t, "mkfs.ext4", "-q", img, "64m").Code, 0)
	data := filepath.Join(h.Dir, "data", "volumes", "admin")
	runCases(t, h, []cliCase{
		{name: "tmpfs", args: "volume create -d local -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=1000 --label a=b mem", out: "mem"},
		{name: "bind", args: "volume create -o type=none -o device=" + dir + " -o o=bind dir", out: "dir"},
		{name: "bind read-only", args: "volume create -o type=none -o device=" + dir + " -o o=bind,ro dirro", out: "dirro"},
		{name: "ext4", args: "volume create -o type=ext4 -o device=" + img + " -o o=loop disk", out: "disk"},
		{name: "nothing is mounted yet", args: "volume inspect -f '{{.Mountpoint}} {{.Options}}' mem", out: data + "/mem/_data map[device:tmpfs o:size=1m,uid=1000 type:tmpfs]"},
		{name: "tmpfs in use", args: "run --rm -v mem:/m busybox sh -c 'stat -c %u /m; df -k /m | tail -1 | tr -s \" \" | cut -d\" \" -f2'", out: "1000\n1024"},
		{name: "tmpfs is full", args: "run --rm -v mem:/m busybox dd if=/dev/zero of=/m/x bs=2M count=1", code: 1, stderr: "No space left on device"},
		{name: "bind in use", args: "run --rm -v dir:/m busybox sh -c 'cat /m/f; echo more >/m/g'", out: "of the host"},
		{name: "read-only device", args: "run --rm -v dirro:/m busybox sh -c 'cat /m/g; touch /m/h'", code: 1, out: "more", stderr: "Read-only file system"},
		{name: "disk", args: "run --rm -v disk:/m busybox sh -c 'echo kept >/m/f'"},
		{name: "disk is kept", args: "run --rm -v disk:/m busybox sh -c 'cat /m/f; ls -d /m/lost+found; mount | grep -c \"/m type ext4\"'", out: "kept\n/m/lost+found\n1"},
		{name: "subpath of a device", args: "run --rm --mount type=volume,src=disk,dst=/m,volume-subpath=lost+found busybox ls /m", out: ""},
		{name: "subpath of a directory", args: "run --rm -v plain:/m busybox sh -c 'mkdir -p /m/sub/deep; echo there >/m/sub/deep/f; ln -s /etc /m/out'"},
		{name: "subpath", args: "run --rm --mount type=volume,src=plain,dst=/m,volume-subpath=sub/deep busybox cat /m/f", out: "there"},
		{name: "subpath of one file, read-only", args: "run --rm --mount type=volume,src=plain,dst=/m,volume-subpath=sub/deep/f,readonly busybox sh -c 'cat /m; echo x >/m'", out: "there", code: 1, stderr: "Read-only file system"},
		{name: "subpath leads out", args: "run --rm --mount type=volume,src=plain,dst=/m,volume-subpath=out busybox true", code: 125, stderr: "path concatenation escapes the base directory, base: " + data + "/plain/_data, subpath: out"},
		{name: "subpath is relative", args: "run --rm --mount type=volume,src=plain,dst=/m,volume-subpath=../x busybox true", code: 125, stderr: "subpath must be a relative path within the volume"},
		{name: "copy out of a subpath", args: "create --name part --mount type=volume,src=plain,dst=/m,volume-subpath=sub busybox", out: "~"},
		{name: "copied", args: "cp part:/m/deep/f -", out: "~there"},
		{name: "no longer needed", args: "rm part", out: "part"},
		{name: "no such subpath", args: "run --rm --mount type=volume,src=disk,dst=/m,volume-subpath=nope busybox ls /m", code: 127, stderr: "no such file or directory"},
		{name: "a part of its own", args: "run --rm -v plain:/m busybox mkdir /m/www"},
		{name: "copy-up into a part", args: "run --rm --mount type=volume,src=plain,dst=/www,volume-subpath=www busybox cat /www/index.html", out: "hello from busybox"},
		{name: "and nowhere else", args: "run --rm -v plain:/m busybox ls /m /m/www", out: "/m:\nout\nsub\nwww\n\n/m/www:\nindex.html"},
		{name: "no copy-up into a missing part", args: "run --rm --mount type=volume,src=fresh,dst=/www,volume-subpath=www busybox true", code: 127, stderr: "no such file or directory"},
		{name: "the volume stays empty", args: "run --rm -v fresh:/m busybox ls -A /m", out: ""},
		{name: "rm", args: "volume rm fresh", out: "fresh"},
		{name: "one file over the image's", args: "run --rm --mount type=volume,src=plain,dst=/etc/group,volume-subpath=sub/deep/f busybox cat /etc/group", out: "there"},
		{name: "inline", args: "run --rm --mount type=volume,src=mem2,dst=/m,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-label=x=y busybox sh -c 'mount | grep -c \"/m type tmpfs\"'", out: "1"},
		{name: "inline is a volume", args: "volume ls -q --filter label=x=y", out: "mem2"},
		{name: "missing device", args: "volume create -o type=none -o device=/no/such -o o=bind bad", out: "bad"},
		{name: "missing device is told at start", args: "run --rm -v bad:/m busybox true", code: 127, stderr: "error while mounting volume '" + data + "/bad/_data': failed to mount local volume: mount /no/such:" + data + "/bad/_data, flags: 0x1000: no such file or directory"},
		{name: "nfs", args: "volume create -o type=nfs -o device=:/export -o o=addr=localhost,vers=4,retry=0 net", out: "net"},
		{name: "nfs is told at start", args: "run --rm -v net:/m busybox true", code: 125, stderr: "data: addr=127.0.0.1,vers=4,retry=0: "},
		{name: "unknown option", args: "volume create -o color=blue x1", code: 1, stderr: `create x1: invalid option: "color"`},
		{name: "device needs a type", args: "volume create -o device=/x x1", code: 1, stderr: `create x1: missing required option: "type"`},
		{name: "size without quotas", args: "volume create -o size=10g x1", code: 1, stderr: "create x1: quota size requested but no quota support"},
		{name: "update is for swarms", args: "volume update mem --availability drain", code: 1, stderr: "can only update cluster volumes"},
		{name: "prune leaves devices", args: "volume prune -af", out: "~Total reclaimed space:"},
		{name: "all are there", args: "volume ls -q", out: "bad\ndir\ndirro\ndisk\nmem\nmem2\nnet"},
	})
	t.Run("xfs", func(t *testing.T) {
		if known, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(known), "\txfs\n") {
			t.Skip("the kernel has no xfs")
		}
		img := filepath.Join(t.TempDir(), "xfs.img")
		assert.NilError(t, os.WriteFile(img, nil, 0o600))
		assert.NilError(t, os.Truncate(img, 320<<20)) // mkfs.xfs makes nothing below 300 MB
		assert.Equal(t, h.On(t, "mkfs.xfs", "-q", img).Code, 0)
		runCases(t, h, []cliCase{
			{name: "create", args: "volume create -o type=xfs -o device=" + img + " -o o=loop big", out: "big"},
			{name: "copy-up", args: "run --rm -v big:/www busybox cat /www/index.html", out: "hello from busybox"},
			{name: "kept", args: "run --rm -v big:/m busybox sh -c 'cat /m/index.html; mount | grep -c \"/m type xfs\"'", out: "hello from busybox\n1"},
			{name: "rm", args: "volume rm big", out: "big"},
		})
	})
	assert.DeepEqual(t, volumeMounts(h), []string(nil))
	h.Docker(t, "volume", "rm", "bad", "dir", "dirro", "disk", "mem", "mem2", "net")
	left, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 2, "what a device holds is not the volume's to delete")
}

// TestVolumeDeviceIsShared: one mount serves all its users, over a daemon's death, and goes with the last.
func TestVolumeDeviceIsShared(t *testing.T) {
	h := lab.NewWithBusybox(t)
	since := fmt.Sprint(time.Now().Add(-time.Second).Unix())
	h.Docker(t, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem")
	h.Docker(t, "run", "-d", "--name", "aa", "-v", "mem:/m", "busybox", "sleep", "600")
	h.Docker(t, "exec", "aa", "sh", "-c", "echo shared >/m/f")
	h.Docker(t, "run", "-d", "--name", "bb", "-v", "mem:/m:ro", "--volumes-from", "aa", "busybox", "sleep", "600")
	assert.Equal(t, h.Docker(t, "exec", "bb", "cat", "/m/f"), "shared")
	h.Docker(t, "create", "--name", "cc", "-v", "mem:/m", "busybox")
	h.Docker(t, "cp", "cc:/m/f", filepath.Join(t.TempDir(), "f"))
	assert.Equal(t, len(volumeMounts(h)), 1)
	h.Docker(t, "rm", "-f", "aa")
	assert.Equal(t, h.Docker(t, "exec", "bb", "cat", "/m/f"), "shared")

	h.Kill9(t)
	h.Start(t)
	assert.Equal(t, len(volumeMounts(h)), 1, "bb still uses it")
	assert.Equal(t, h.Docker(t, "run", "--rm", "-v", "mem:/m", "busybox", "cat", "/m/f"), "shared")
	r := h.Try(t, "volume", "rm", "mem")
	assert.Equal(t, r.Code, 1)
	for _, user := range []string{"bb", "cc"} {
		assert.Assert(t, is.Contains(r.Stderr, h.Docker(t, "inspect", "-f", "{{.Id}}", user)))
	}
	pid := h.Docker(t, "inspect", "-f", "{{.State.Pid}}", "bb")
	h.Kill9(t)
	assert.Equal(t, h.On(t, "kill", "-9", pid).Code, 0)
	h.Start(t)
	eventually(t, 30*time.Second, func() error {
		if m := volumeMounts(h); len(m) > 0 {
			return fmt.Errorf("nobody uses it: %v", m)
		}
		return nil
	})
	h.Docker(t, "rm", "bb", "cc")
	h.Docker(t, "volume", "rm", "mem")
	want := "create\nmount\nmount\nunmount\nmount\nunmount\nunmount\ndestroy"
	eventually(t, 30*time.Second, func() error { // "until now" ends with the last whole second
		got := h.Docker(t, "events", "--since", since, "--until", "0s", "--filter", "type=volume", "--filter", "volume=mem", "--format", "{{.Action}}")
		if got != want {
			return fmt.Errorf("events: %s", strings.Fields(got))
		}
		return nil
	})
}
