package volume

import (
	"context"
	"os"
	"path/filepath"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Doom notes on the disk that a volume is about to be taken out of the state. A daemon that ends before it deletes the
// data leaves the note to the next one, which could not otherwise tell such data from that of a state that was lost.
func (s *Store) Doom(_ context.Context, v *state.Volume) error {
	dir, err := s.dir(v)
	if err != nil {
		return err
	}
	return ignoreAbsent(os.WriteFile(filepath.Join(dir, doomName), nil, 0o600))
}

// Spare takes the note back. Not there is no error.
func (s *Store) Spare(_ context.Context, v *state.Volume) error {
	dir, err := s.dir(v)
	if err != nil {
		return err
	}
	return ignoreAbsent(os.Remove(filepath.Join(dir, doomName)))
}

// Doomed lists the volumes with such a note, by account and name alone.
func (s *Store) Doomed(context.Context) ([]*state.Volume, error) {
	notes, err := filepath.Glob(filepath.Join(s.root, "*", "*", doomName))
	if err != nil {
		return nil, err
	}
	var found []*state.Volume
	for _, n := range notes {
		dir := filepath.Dir(n)
		found = append(found, &state.Volume{Account: nereid.Account(filepath.Base(filepath.Dir(dir))), Name: filepath.Base(dir)})
	}
	return found, nil
}
