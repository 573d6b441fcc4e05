//go:build integration

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// seeds is how many files the image of the test has at its volume.
const seeds = 400

// TestKill9WhileVolumesComeAndGo kills the daemon while volumes are made, filled from an image, mounted and removed.
// After that no container has a volume that is filled in part, no device is mounted that nobody uses, and nothing is
// on the disk of what is not listed.
func TestKill9WhileVolumesComeAndGo(t *testing.T) {
	h := lab.NewWithBusybox(t)
	files := []lab.File{{Name: "data/", Mode: 0o755}}
	for i := range seeds {
		files = append(files, lab.File{Name: fmt.Sprint("data/", i), Mode: 0o644, Body: strings.Repeat("x", 512)})
	}
	h.Load(t, "seeded:latest", lab.WithConfig(t, lab.AddLayer(t, lab.Busybox(t), files), func(c *v1.Config) { c.Volumes = map[string]struct{}{"/data": {}} }))
	for round := range 4 {
		stop := comeAndGo(t, h, round)
		time.Sleep(time.Duration(300+rand.IntN(900)) * time.Millisecond) //nolint:forbidigo // the random instant is what is tested
		h.Kill9(t)
		stop()
		h.Start(t)
		eventually(t, 30*time.Second, func() error { return wholeVolumes(t, h) })
	}
	eventually(t, 30*time.Second, func() error { // one with --rm may be going by itself
		ids := strings.Fields(h.Docker(t, "ps", "-aq"))
		if len(ids) == 0 {
			return nil
		}
		return fmt.Errorf("there were %s", h.Try(t, append([]string{"rm", "-fv"}, ids...)...).Combined())
	})
	if names := strings.Fields(h.Docker(t, "volume", "ls", "-q")); len(names) > 0 {
		h.Docker(t, append([]string{"volume", "rm"}, names...)...)
	}
	left, err := filepath.Glob(filepath.Join(h.Dir, "data", "volumes", "admin", "*"))
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0, "%v", left)
}

// comeAndGo makes and removes volumes in all ways at once until the daemon is gone and stop is called.
func comeAndGo(t *testing.T, h *lab.Host, round int) (stop func()) {
	t.Helper()
	ended := make(chan struct{})
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-ended:
					return
				default:
				}
				name := fmt.Sprintf("v%d-%d-%d", round, w, i)
				for _, args := range [][]string{
					{"create", "--name", name, "-v", name + ":/data", "seeded"},
					{"run", "--rm", "-v", name + ":/data", "--mount", "type=volume,dst=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs,src=mem" + fmt.Sprint(w), "seeded", "true"},
					{"run", "--rm", "seeded", "true"},
					{"rm", "-v", name},
					{"volume", "rm", name},
				}[:5-2*(i%2)] { // every other one stays
					h.Try(t, args...) // it may be cut
				}
			}
		})
	}
	return func() { close(ended); all.Wait() }
}

// wholeVolumes looks for what a killed daemon must not leave.
func wholeVolumes(t *testing.T, h *lab.Host) error {
	t.Helper()
	if running := h.Docker(t, "ps", "-q"); running == "" {
		if m := volumeMounts(h); len(m) > 0 {
			return fmt.Errorf("mounted, and nobody uses it: %v", m)
		}
	}
	for line := range strings.Lines(h.Docker(t, "ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.Mounts}}")) {
		name, vols, _ := strings.Cut(strings.TrimSpace(line), " ")
		for vol := range strings.SplitSeq(vols, ",") {
			if strings.HasPrefix(vol, "mem") {
				continue // empty unless mounted
			}
			entries, err := os.ReadDir(filepath.Join(h.Dir, "data", "volumes", "admin", vol, "_data"))
			if err != nil || len(entries) != seeds {
				return fmt.Errorf("container %s: volume %s has %d files of %d (%w)", name, vol, len(entries), seeds, err)
			}
		}
	}
	listed := map[string]bool{}
	for _, v := range strings.Fields(h.Docker(t, "volume", "ls", "-q")) {
		listed[v] = true
	}
	there, err := os.ReadDir(filepath.Join(h.Dir, "data", "volumes", "admin"))
	if err != nil && !os.IsNotExist(err) { // it was killed before there was any
		return err
	}
	for _, e := range there {
		if !listed[e.Name()] {
			return fmt.Errorf("%s is on the disk and not in the list", e.Name())
		}
	}
	odd, err := filepath.Glob(filepath.Join(h.Dir, "data", "volumes", ".*"))
	if err != nil || len(odd) > 0 {
		return fmt.Errorf("left: %v (%w)", odd, err)
	}
	return nil
}
