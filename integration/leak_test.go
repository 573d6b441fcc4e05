//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestTwoHundredRunsLeaveNothing wants the machine after 200 runs to be what it was before them: processes, mounts,
// network namespaces, links, nft elements, cgroups, FIFOs, files, snapshots, state records, descriptors.
func TestTwoHundredRunsLeaveNothing(t *testing.T) {
	h := lab.NewWithBusybox(t)
	before := settled(t, h)
	for i := range 200 {
		args := []string{"run", "--rm"}
		if i%2 == 0 {
			args = append(args, "-v", "/anon", "-p", "80")
		}
		h.Docker(t, append(args, "busybox", "true")...)
	}
	eventually(t, 30*time.Second, func() error {
		return differ(before, inventory(t, h))
	})
}

// settled is the inventory after a first run has made what is made once, and its remains are collected.
func settled(t *testing.T, h *lab.Host) map[string]string {
	t.Helper()
	h.Docker(t, "run", "--rm", "-v", "/anon", "-p", "80", "busybox", "true")
	var before map[string]string
	eventually(t, 60*time.Second, func() error {
		if s := snapshots(filepath.Join(h.Dir, "data")); strings.Contains(s, "\n") {
			return fmt.Errorf("the container's snapshot is still there:\n%s", s)
		}
		if l := h.On(t, "ip", "-o", "link", "show", "type", "veth").Stdout; strings.Count(l, "\n") > 1 { // one is the cable
			return fmt.Errorf("the container's link is still there:\n%s", l)
		}
		if shims := h.Shims(); len(shims) > 0 {
			return fmt.Errorf("the container's shim is still there: %v", shims)
		}
		was := before
		before = inventory(t, h)
		return differ(before, was) // what is still on its way out changes
	})
	return before
}

// inventory counts or lists what a container has on the host.
func inventory(t *testing.T, h *lab.Host) map[string]string {
	t.Helper()
	inv := map[string]string{
		"containers":   h.Docker(t, "ps", "-aq"),
		"volumes":      h.Docker(t, "volume", "ls", "-q"),
		"links":        h.On(t, "ip", "-o", "link", "show", "type", "veth").Stdout,
		"addresses":    h.On(t, "ip", "-o", "-4", "addr").Stdout,
		"nft":          h.On(t, "nft", "list", "ruleset").Stdout,
		"sockets":      h.On(t, "ss", "-Hlntu").Stdout,
		"shims":        fmt.Sprint(len(h.Shims())),
		"mounts":       strings.Join(h.Mounts(), "\n"),
		"cgroups":      strings.Join(h.Cgroups(), "\n"),
		"directories":  tree(filepath.Join(h.Dir, "exec")),
		"containerdir": tree(filepath.Join(h.Dir, "data", "containers")),
		"snapshots":    snapshots(filepath.Join(h.Dir, "data")),
		"records":      h.Records(t),
	}
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.Pid()))
	inv["descriptors"] = fmt.Sprint(len(fds))
	return inv
}

// slack is how many more there may be of what comes and goes by itself: descriptors of connections that are kept alive,
// goroutines that wait.
var slack = map[string]int{"descriptors": 7, "goroutines": 9}

func differ(a, b map[string]string) error {
	var errs []error
	for k := range a {
		if most, ok := slack[k]; ok {
			was, _ := strconv.Atoi(a[k])
			is, _ := strconv.Atoi(b[k])
			if is-was > most {
				errs = append(errs, fmt.Errorf("%s: were %d, are %d", k, was, is))
			}
			continue
		}
		if a[k] != b[k] {
			errs = append(errs, fmt.Errorf("%s: was\n%s\nis\n%s", k, a[k], b[k]))
		}
	}
	return errors.Join(errs...)
}

// tree lists all paths below a folder.
func tree(root string) string {
	var all []string
	_ = filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		if err == nil {
			all = append(all, p)
		}
		return nil
	})
	return strings.Join(all, "\n")
}

// snapshots lists the snapshots' folders, wherever the runtime keeps them below the data root.
func snapshots(data string) string {
	found, _ := filepath.Glob(filepath.Join(data, "*", "io.containerd.snapshotter.v1.*", "snapshots", "*"))
	return strings.Join(found, "\n")
}

func TestClientThatGoesAwayLeavesNothing(t *testing.T) {
	h := lab.NewWithBusybox(t)
	before := settled(t, h)
	for i := range 10 {
		name := fmt.Sprint("cut", i)
		cmd := h.Command(t.Context(), "run", "--rm", "--name", name, "busybox", "sleep", "600")
		assert.NilError(t, cmd.Start())
		ends := i%2 == 1 // the container, and --rm with nobody there who waits for it
		eventually(t, 30*time.Second, func() error {
			r := h.Try(t, "inspect", "-f", "{{.State.Running}}", name)
			if r.Code != 0 || ends && r.Stdout != "true\n" {
				return fmt.Errorf("not there yet: %s", r.Combined())
			}
			return nil
		})
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if ends {
			h.Docker(t, "kill", name)
		} else {
			h.Try(t, "rm", "-f", name)
		}
	}
	eventually(t, 30*time.Second, func() error { return differ(before, inventory(t, h)) })
}
