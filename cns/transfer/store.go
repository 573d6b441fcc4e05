package transfer

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// store keeps journals in files, one a zone: the changes that are remembered, the zone they led to, and the changes
// since. Writing lags behind and needs no fsync: what is lost of a journal's end is found again by comparing the zone
// with what the journal led to, as one change.
type store struct {
	dir  string
	log  *zap.Logger
	wake chan struct{} // never closed

	mu    sync.Mutex
	tasks map[string]*task
	sizes map[string]int // records appended to a file since it was written whole
}

// task is what is to be written of a zone.
type task struct {
	gone    bool
	set     *zone.Set   // to write whole, with the changes in before
	before  []zone.Diff // see set
	changes []zone.Diff // to append
}

func newStore(dir string, log *zap.Logger) *store {
	return &store{dir: dir, log: log, wake: make(chan struct{}, 1), tasks: map[string]*task{}, sizes: map[string]int{}}
}

func (s *store) path(apex string) string { return filepath.Join(s.dir, apex+"journal") }

// put replaces a zone's task.
func (s *store) put(apex string, edit func(*task)) {
	if s.dir == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tasks[apex] == nil {
		s.tasks[apex] = &task{}
	}
	edit(s.tasks[apex])
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *store) forget(apex string) { s.put(apex, func(t *task) { *t = task{gone: true} }) }

// whole has a zone written anew with what is remembered of it.
func (s *store) whole(set *zone.Set, h *history) {
	entries := append([]zone.Diff(nil), h.entries...)
	s.put(h.apex, func(t *task) { *t = task{set: set, before: entries} })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[h.apex] = 0
}

// append has a change added; a file that has grown past the zone is written anew instead.
func (s *store) append(set *zone.Set, h *history, d zone.Diff) {
	s.mu.Lock()
	s.sizes[h.apex] += size(d)
	grown := s.sizes[h.apex] > 2*max(minKept, set.Names(h.apex))
	s.mu.Unlock()
	if grown {
		s.whole(set, h)
		return
	}
	s.put(h.apex, func(t *task) { t.gone = false; t.changes = append(t.changes, d) })
}

// run writes until the context ends, then what is left.
func (s *store) run(ctx context.Context) {
	if s.dir == "" {
		<-ctx.Done()
		return
	}
	for {
		select {
		case <-ctx.Done():
			s.flush()
			return
		case <-s.wake:
			s.flush()
		}
	}
}

func (s *store) flush() {
	s.mu.Lock()
	tasks := s.tasks
	s.tasks = map[string]*task{}
	s.mu.Unlock()
	for apex, t := range tasks {
		if err := s.write(apex, t); err != nil {
			s.log.Warn("journal of a zone not written: after a restart its secondaries will need all of it", zap.String("zone", apex), zap.Error(err))
		}
	}
}

func (s *store) write(apex string, t *task) error {
	if t.gone {
		if err := os.Remove(s.path(apex)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if t.set != nil {
		if err := s.writeWhole(apex, t); err != nil {
			return err
		}
	}
	if len(t.changes) == 0 {
		return nil
	}
	f, err := os.OpenFile(s.path(apex), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for _, d := range t.changes {
		if err := writeBlock(w, blockChange, appendDiff(nil, d)); err != nil {
			return err
		}
	}
	return w.Flush()
}

// writeWhole replaces a zone's file at once.
func (s *store) writeWhole(apex string, t *task) (retErr error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if retErr != nil {
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriter(f)
	for _, d := range t.before {
		if err := writeBlock(w, blockChange, appendDiff(nil, d)); err != nil {
			return err
		}
	}
	if err := writeZone(w, t.set, apex); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.path(apex))
}

// load reads what a run before left of a zone; nil: nothing that is of use.
func (s *store) load(apex string) *past {
	if s.dir == "" {
		return nil
	}
	f, err := os.Open(s.path(apex))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("journal of a zone not read: its secondaries will need all of it", zap.String("zone", apex), zap.Error(err))
		}
		return nil
	}
	defer f.Close()
	p := &past{apex: apex, records: map[record.Record]bool{}}
	if err := p.read(bufio.NewReader(f)); err != nil {
		s.log.Warn("journal of a zone is damaged: its secondaries will need all of it", zap.String("zone", apex), zap.Error(err))
		return nil
	}
	if len(p.records) == 0 {
		return nil
	}
	return p
}
