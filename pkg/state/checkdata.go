package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// checkData refuses a directory over whose data etcd would give up, for etcd gives up by ending the process, some of
// it in goroutines nobody can catch. It reads the database and the log once; what etcd can repair, a last record that
// was being written when the power failed, is no damage.
func checkData(dir string) error {
	dbPath, walDir := filepath.Join(dir, "member", "snap", "db"), filepath.Join(dir, "member", "wal")
	log, err := readLog(walDir)
	if err != nil {
		return damaged(dir, err)
	}
	db, err := os.Stat(dbPath)
	switch {
	case errors.Is(err, os.ErrNotExist) && !log.exists:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return damaged(dir, fmt.Errorf("%q is missing", dbPath))
	case err != nil:
		return fmt.Errorf("look at the state: %w", err)
	case db.Size() == 0 && !log.exists: // the first boot was cut short
		return nil
	case db.Size() == 0:
		return damaged(dir, fmt.Errorf("%q is empty", dbPath))
	}
	applied, err := readDatabase(dbPath)
	if errors.Is(err, errdefs.ErrUnavailable) {
		return fmt.Errorf("the state in %q: %w", dir, err)
	}
	if err != nil {
		return damaged(dir, err)
	}
	if err := log.fits(applied); err != nil {
		return damaged(dir, err)
	}
	return nil
}

// fits tells whether the log begins where the database ends or earlier, and ends there or later.
func (l logExtent) fits(applied uint64) error {
	switch {
	case !l.exists && applied > 0:
		return errors.New("the log is missing")
	case applied > l.last:
		return fmt.Errorf("the log ends at index %d, before the database's %d", l.last, applied)
	case applied < l.snapshot:
		return fmt.Errorf("the database ends at index %d, before the log begins at %d", applied, l.snapshot)
	}
	return nil
}

func damaged(dir string, why error) error {
	return fmt.Errorf("the state in %q is damaged; restore it, or move it away to begin with an empty one: %w: %w",
		dir, why, errdefs.ErrDataLoss)
}

// caught runs a reader of untrusted bytes and makes a panic its error.
func caught(what string, read func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", what, p)
		}
	}()
	return read()
}
