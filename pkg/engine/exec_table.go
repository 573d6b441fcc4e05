package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime"
)

// execRecord is what is known of one exec, as its file has it. A record in the table is never changed, only replaced.
type execRecord struct {
	ID        nereid.ExecID
	Account   nereid.Account
	Container nereid.ContainerID
	Run       int // the container's count of starts: an exec belongs to one run
	Options   container.ExecOptions
	Probe     bool // of a health check
	Running   bool
	Pid       int
	ExitCode  *int
	EndedAt   time.Time
}

func (e execRecord) key() runtime.Key { return runtime.Key{Account: e.Account, ID: e.Container} }

// execTable holds the execs of this host's containers, in memory and in a small file each, so that a daemon that starts
// again knows those that run on. It has no truth to lose: the files lie where a reboot empties them.
type execTable struct {
	dir string

	mu     sync.Mutex
	all    map[nereid.ExecID]execRecord
	begins map[nereid.ExecID]chan struct{} // closed when the exec has a process, or will have none any more
	ends   map[nereid.ExecID]chan struct{} // closed when the exec has ended
}

const (
	// endedExecs is how many ended execs of one container are kept to be inspected, and endedAge how long the others:
	// health checks of a container that runs for years must not fill the memory.
	endedExecs = 64
	endedAge   = 5 * time.Minute
)

func execDir(execRoot string) string { return filepath.Join(execRoot, "exec") }

// add enters a new exec.
func (t *execTable) add(e execRecord) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.saveLocked(e); err != nil {
		return err
	}
	t.enterLocked(e)
	t.trimLocked(e.key())
	return nil
}

func (t *execTable) enterLocked(e execRecord) {
	if t.all == nil {
		t.all = map[nereid.ExecID]execRecord{}
		t.begins, t.ends = map[nereid.ExecID]chan struct{}{}, map[nereid.ExecID]chan struct{}{}
	}
	t.all[e.ID] = e
	if t.ends[e.ID] == nil {
		t.begins[e.ID], t.ends[e.ID] = make(chan struct{}), make(chan struct{})
	}
	if e.Pid != 0 {
		closeOnce(t.begins[e.ID])
	}
}

func (t *execTable) get(a nereid.Account, id nereid.ExecID) (execRecord, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.all[id]
	return e, ok && e.Account == a
}

// change replaces a record by what do makes of it, unless do fails or the exec is gone.
func (t *execTable) change(id nereid.ExecID, do func(*execRecord) error) (execRecord, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.all[id]
	if !ok {
		return e, errNoSuchExec(string(id))
	}
	if err := do(&e); err != nil {
		return e, err
	}
	t.all[id] = e
	if e.Pid != 0 {
		closeOnce(t.begins[id])
	}
	if e.ExitCode != nil {
		t.endLocked(id)
	}
	return e, t.saveLocked(e)
}

func (t *execTable) endLocked(id nereid.ExecID) {
	closeOnce(t.begins[id])
	closeOnce(t.ends[id])
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// begun returns a channel that is closed when the exec has a process, has ended or is gone.
func (t *execTable) begun(id nereid.ExecID) <-chan struct{} { return t.await(id, &t.begins) }

// ended returns a channel that is closed when the exec has ended or is gone.
func (t *execTable) ended(id nereid.ExecID) <-chan struct{} { return t.await(id, &t.ends) }

func (t *execTable) await(id nereid.ExecID, in *map[nereid.ExecID]chan struct{}) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := (*in)[id]; ok {
		return c
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}

// running lists the user's execs of a container that have not ended, as inspect shows them.
func (t *execTable) running(key runtime.Key) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id, e := range t.all {
		if e.key() == key && e.ExitCode == nil && !e.Probe {
			ids = append(ids, string(id))
		}
	}
	slices.Sort(ids)
	return ids
}

// containerEnded drops the execs of an ended container that have no end of their own; those that ended can still be
// inspected.
func (t *execTable) containerEnded(key runtime.Key) {
	t.drop(func(e execRecord) bool { return e.key() == key && e.ExitCode == nil })
}

// forget drops all execs of a container.
func (t *execTable) forget(key runtime.Key) {
	t.drop(func(e execRecord) bool { return e.key() == key })
}

func (t *execTable) drop(which func(execRecord) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, e := range t.all {
		if which(e) {
			t.dropLocked(id)
		}
	}
}

func (t *execTable) dropLocked(id nereid.ExecID) {
	t.endLocked(id)
	delete(t.all, id)
	delete(t.begins, id)
	delete(t.ends, id)
	_ = os.Remove(t.path(id)) // found again at the next start, and dropped then
}

// trimLocked drops the oldest ended execs of a container above the number kept.
func (t *execTable) trimLocked(key runtime.Key) {
	var ended []execRecord
	for _, e := range t.all {
		if e.key() == key && e.ExitCode != nil {
			ended = append(ended, e)
		}
	}
	if len(ended) <= endedExecs {
		return
	}
	slices.SortFunc(ended, func(a, b execRecord) int { return b.EndedAt.Compare(a.EndedAt) })
	for _, e := range ended[endedExecs:] {
		if time.Since(e.EndedAt) > endedAge {
			t.dropLocked(e.ID)
		}
	}
}

func (t *execTable) path(id nereid.ExecID) string { return filepath.Join(t.dir, string(id)+".json") }

// saveLocked writes the exec's file as a whole.
func (t *execTable) saveLocked(e execRecord) error {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	tmp := t.path(e.ID) + ".new"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, t.path(e.ID))
}

// load reads the files of a daemon that was here before and drops those that keep does not want. A file that cannot be
// read is dropped: nothing but an exec's exit code is lost with it.
func (t *execTable) load(keep func(execRecord) bool) error {
	files, err := os.ReadDir(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load execs: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range files {
		e, err := readExec(filepath.Join(t.dir, f.Name()))
		if err != nil || !keep(e) {
			_ = os.Remove(filepath.Join(t.dir, f.Name()))
			continue
		}
		if _, known := t.all[e.ID]; known {
			continue // its end was reported already
		}
		t.enterLocked(e)
		if e.ExitCode != nil {
			t.endLocked(e.ID)
		}
	}
	return nil
}

func readExec(path string) (execRecord, error) {
	var e execRecord
	if !strings.HasSuffix(path, ".json") {
		return e, fs.ErrInvalid // a file whose writing was cut short
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(raw, &e)
}

// snapshot is a copy of all records.
func (t *execTable) snapshot() []execRecord {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.all))
}
