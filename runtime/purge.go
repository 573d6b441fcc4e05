package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// purge removes what neither shim nor containerd knows of: a runc that was killed while it made a container, with its
// daemon or by a start that was given up, leaves processes, the cgroup and its own record, on which the next start would
// stumble. The shim must be gone. Mostly there is nothing.
func (r *Runtime) purge(ctx context.Context, key Key, cgroup string) error {
	if err := r.purgeRunc(ctx, key); err != nil {
		return err
	}
	if filepath.Base(cgroup) != string(key.ID) {
		return nil // never known, and nobody else's is touched
	}
	return purgeCgroup(ctx, cgroup)
}

func (r *Runtime) purgeRunc(ctx context.Context, key Key) error {
	var errs []error
	for name, program := range r.host.Runtimes {
		errs = append(errs, r.purgeRuncRecord(ctx, key, program, filepath.Join(r.runcRoot(name), string(key.Account))))
	}
	return errors.Join(errs...)
}

func (r *Runtime) purgeRuncRecord(ctx context.Context, key Key, program, root string) error {
	dir := filepath.Join(root, string(key.ID))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r.log.Warn("half a container found, removing it", zap.String("container", string(key.ID)))
	out, err := exec.CommandContext(ctx, program, "--root", root, "delete", "--force", string(key.ID)).CombinedOutput()
	if err == nil {
		return nil
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // it is gone all the same
	}
	return fmt.Errorf("remove half a container: %w: %s", err, strings.TrimSpace(string(out)))
}

// purgePause is between two looks whether killed processes have left their cgroup.
const purgePause = 5 * time.Millisecond

// purgeCgroup ends all that is in a cgroup and removes it, in every hierarchy that has it.
func purgeCgroup(ctx context.Context, cgroup string) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for {
		var left error
		for _, dir := range cgroupDirs(cgroup) {
			killIn(dir)
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				left = fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
		if left == nil {
			return nil
		}
		select {
		case <-time.After(purgePause):
		case <-ctx.Done():
			return errors.Join(left, ctx.Err())
		}
	}
}

// cgroupDirs are the directories of a cgroup and of those below it, deepest first. No parent's directory is read: one may
// have those of all containers.
func cgroupDirs(cgroup string) []string {
	tops := []string{filepath.Join(cgroupRoot, cgroup)}
	hierarchies, _ := os.ReadDir(cgroupRoot) // without any there is nothing to remove
	for _, h := range hierarchies {
		tops = append(tops, filepath.Join(cgroupRoot, h.Name(), cgroup))
	}
	var dirs []string
	for _, top := range tops {
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append([]string{path}, dirs...)
			}
			return nil // what vanishes meanwhile is no loss
		})
	}
	return dirs
}

// killIn kills the processes of one directory.
func killIn(dir string) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return // gone
	}
	for line := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL) // gone, or seen by the next look
		}
	}
}

// purgeStrangers removes what runc has of containers without a task.
func (r *Runtime) purgeStrangers(ctx context.Context) error {
	var errs []error
	for name := range r.host.Runtimes {
		dirs, err := filepath.Glob(filepath.Join(r.runcRoot(name), "*", "*"))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			account, id := filepath.Split(dir)
			key := Key{Account: nereid.Account(filepath.Base(account)), ID: nereid.ContainerID(id)}
			if _, err := r.task(key); err == nil {
				continue
			}
			errs = append(errs, r.purge(ctx, key, filepath.Join(r.cfg.CgroupParent, string(key.ID))))
		}
	}
	return errors.Join(errs...)
}
