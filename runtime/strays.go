package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// shimProcess is a process of the shim's program, as its command line tells.
type shimProcess struct {
	Key
	pid    int
	errand bool // it starts a shim or cleans up behind one, for a containerd that waits for it
}

// shimProcesses are those of the containerd at an address, which every shim is told.
func shimProcesses(address string) ([]shimProcess, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []shimProcess
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		p, of, ok := parseShim(strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"))
		if !ok || of != address {
			continue
		}
		if p.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			found = append(found, p)
		}
	}
	return found, nil
}

// parseShim reads a command line; false when it is not a shim's.
func parseShim(args []string) (p shimProcess, address string, ok bool) {
	for i := 1; i+1 < len(args); i++ {
		switch args[i] {
		case "-namespace":
			p.Account = nereid.Account(args[i+1])
		case "-id":
			p.ID = nereid.ContainerID(args[i+1])
		case "-address":
			address = args[i+1]
		}
	}
	last := args[len(args)-1]
	p.errand = last == "start" || last == "delete"
	return p, address, p.Account != "" && p.ID != "" && address != ""
}

const (
	// strayTimeout bounds the wait for processes to die of SIGKILL.
	strayTimeout = 10 * time.Second
	strayPause   = 5 * time.Millisecond
)

// endStrayShims ends the shims that no containerd would ever find again, before one boots: those of no task, and those
// whose daemon died before it wrote down where they listen, which have no container yet. What runs errands for the dead
// daemon goes too: it might bring another stray.
func (r *Runtime) endStrayShims(ctx context.Context, keys []Key) error {
	recorded := make(map[Key]bool, len(keys))
	for _, key := range keys {
		recorded[key] = true
	}
	stray := func(p shimProcess) bool { return p.errand || !recorded[p.Key] || !r.reachable(p.Key) }
	return r.endProcesses(ctx, stray)
}

// reachable tells whether it is known where the shim of a container listens.
func (r *Runtime) reachable(key Key) bool {
	for _, bundle := range []string{bundleDir(r.cfg.State, key), hiddenBundle(r.cfg.State, key)} {
		if _, err := os.Stat(filepath.Join(bundle, bootstrapFile)); err == nil {
			return true
		}
	}
	return false
}

// endProcesses kills shims until none is left that should be.
func (r *Runtime) endProcesses(ctx context.Context, which func(shimProcess) bool) error {
	ctx, cancel := context.WithTimeout(ctx, strayTimeout)
	defer cancel()
	told := map[int]bool{}
	for {
		all, err := shimProcesses(grpcAddress(r.cfg.State))
		if err != nil {
			return err
		}
		left := 0
		for _, p := range all {
			if !which(p) {
				continue
			}
			left++
			if err := unix.Kill(p.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill stray shim %d: %w", p.pid, err)
			}
			if !told[p.pid] {
				told[p.pid] = true
				r.log.Warn("stray shim ended", zap.Int("pid", p.pid), zap.String("container", string(p.ID)))
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-time.After(strayPause):
		case <-ctx.Done():
			return fmt.Errorf("stray shims do not die: %w", ctx.Err())
		}
	}
}
