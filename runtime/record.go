package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// What a runtime must know of a task to adopt it lies in a directory of the task's own, below State:
//
//	tasks/ACCOUNT/ID/spec.json      written before anything else of the task is made
//	tasks/ACCOUNT/ID/started        exists once the process was let run: only then is its end reported
//	tasks/ACCOUNT/ID/exit.json      the Exit, as soon as it is known
//	tasks/ACCOUNT/ID/oom            exists once the Handler was told of an OOM
//	tasks/ACCOUNT/ID/stdio/         FIFOs and journals
//	tasks/ACCOUNT/ID/exec/EXECID/   exec.json, stdio/
const (
	specFile    = "spec.json"
	startedFile = "started"
	exitFile    = "exit.json"
	oomFile     = "oom"
	execFile    = "exec.json"
	stdioDir    = "stdio"
	execDir     = "exec"
)

func (r *Runtime) taskDir(key Key) string {
	return filepath.Join(r.cfg.State, "tasks", string(key.Account), string(key.ID))
}

func (r *Runtime) execDir(key Key, id nereid.ExecID) string {
	return filepath.Join(r.taskDir(key), execDir, string(id))
}

// writeRecord replaces a file as a whole: a reader after a crash sees the old one or the new one.
func writeRecord(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func readRecord(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// removedPrefix hides a task's directory while it is removed.
const removedPrefix = "."

// removeRecord removes a task's directory as a whole: half of it would tell the next runtime of another end than the one
// that was.
func removeRecord(dir string) error {
	parent, name := filepath.Split(dir)
	hidden := filepath.Join(parent, removedPrefix+name)
	if err := os.RemoveAll(hidden); err != nil {
		return err
	}
	if err := os.Rename(dir, hidden); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	return os.RemoveAll(hidden)
}

// mark creates an empty file that says something happened.
func mark(dir, name string) error {
	return os.WriteFile(filepath.Join(dir, name), nil, 0o600)
}

func marked(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// recordedKeys lists the tasks that have a record, and removes the rest of those that were being removed.
func (r *Runtime) recordedKeys() ([]Key, error) {
	var keys []Key
	root := filepath.Join(r.cfg.State, "tasks")
	accounts, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		ids, err := os.ReadDir(filepath.Join(root, a.Name()))
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if strings.HasPrefix(id.Name(), removedPrefix) {
				if err := os.RemoveAll(filepath.Join(root, a.Name(), id.Name())); err != nil {
					return nil, err
				}
				continue
			}
			keys = append(keys, Key{Account: nereid.Account(a.Name()), ID: nereid.ContainerID(id.Name())})
		}
	}
	return keys, nil
}

func (r *Runtime) recordedExecs(key Key) ([]nereid.ExecID, error) {
	entries, err := os.ReadDir(filepath.Join(r.taskDir(key), execDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var ids []nereid.ExecID
	for _, e := range entries {
		ids = append(ids, nereid.ExecID(e.Name()))
	}
	return ids, err
}
