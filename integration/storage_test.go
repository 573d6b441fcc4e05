//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// quotaDisk is a directory on an XFS of its own with project quotas; the test is skipped where the kernel has none.
func quotaDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image, at := filepath.Join(dir, "disk"), filepath.Join(dir, "mounted")
	assert.NilError(t, os.Mkdir(at, 0o711))
	for _, line := range [][]string{
		{"truncate", "-s", "400M", image},
		{"mkfs.xfs", "-q", image},
		{"mount", "-o", "loop,pquota", image, at},
	} {
		if out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no XFS with project quotas here: %v: %s", line, out)
		}
	}
	t.Cleanup(func() {
		eventually(t, 30*time.Second, func() error { // the kernel ends mount namespaces of containers in its own time
			if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	})
	return at
}

func TestStorageLimit(t *testing.T) {
	root := quotaDisk(t)
	h := lab.NewWithBusybox(t, "--data-root", filepath.Join(root, "data"))
	run := "run --rm --network none "
	fill := " busybox sh -c 'dd if=/dev/zero of=/big bs=1M count=40 2>/dev/null; stat -c %s /big'"
	runCases(t, h, []cliCase{
		{name: "limited", args: run + "--storage-opt size=20m" + fill, out: "20971520"},
		{name: "without limit", args: run + fill, out: "41943040"},
		{name: "seen by df", args: run + "--storage-opt size=20m busybox sh -c 'df -m / | tail -1 | awk \"{print \\$2}\"'", out: "20"},
		{name: "misspelt", args: run + "--storage-opt size=big busybox true", code: 125, stderr: "invalid size: 'big'"},
		{name: "unknown", args: run + "--storage-opt foo=1 busybox true", code: 125, stderr: "Unknown option foo"},
	})
	h.Docker(t, "run", "-d", "--name", "small", "--network", "none", "--storage-opt", "size=10m", "busybox", "sleep", "600")
	big := filepath.Join(t.TempDir(), "big")
	assert.NilError(t, os.WriteFile(big, make([]byte, 20<<20), 0o644))
	r := h.Try(t, "cp", big, "small:/big")
	assert.Equal(t, r.Code, 1)
	h.Docker(t, "restart", "-t", "0", "small")
	assert.Equal(t, h.Docker(t, "exec", "small", "sh", "-c", "dd if=/dev/zero of=/more bs=1M count=40 2>/dev/null; df -m / | tail -1 | awk '{print $2, $4}'"), "10 0")
}

func TestStorageLimitRefused(t *testing.T) {
	h := lab.NewWithBusybox(t)
	if h.Shell(t, "/", "findmnt -no OPTIONS -T /tmp | grep -E 'prjquota|pquota'").Code == 0 {
		t.Skip("/tmp has project quotas")
	}
	runCases(t, h, []cliCase{
		{name: "no quotas", args: "run --rm --storage-opt size=1g busybox true", code: 125, stderr: "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"},
	})
}
