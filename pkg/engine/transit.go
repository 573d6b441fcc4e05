package engine

import (
	"context"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// edit changes a container's record. It gets a copy that is its own to change, returns what belongs to the same
// transaction, and must have no other effect, since it runs again when someone else wrote the record meanwhile.
type edit func(*state.Container) ([]state.Op, error)

// maxTransitTries bounds how often a transaction is tried on newer records: only a network's connect and disconnect
// write beside the holder of the container's lock, but port records are everybody's.
const maxTransitTries = 32

// transit applies an edit in one transaction and returns the new record. The container's lock is held.
func (c *Containers) transit(ctx context.Context, key runtime.Key, e edit) (*state.Container, error) {
	for try := 1; ; try++ {
		old, ok := c.State.View().Container(key.Account, key.ID)
		if !ok {
			return nil, errNoSuchContainer(string(key.ID))
		}
		next := old.Clone()
		ops, err := e(next)
		if err != nil {
			return nil, err
		}
		_, err = c.State.Commit(ctx, append([]state.Op{state.Update(next)}, ops...)...)
		if err == nil {
			return next, nil
		}
		if !overtaken(err) || try == maxTransitTries {
			return nil, err
		}
	}
}

// overtaken tells whether a transaction failed because someone else was faster, so that the same may be tried on what
// there is now: all but a name, which the user asked for.
func overtaken(err error) bool {
	conflict, ok := state.AsConflict(err)
	if !ok {
		return false
	}
	_, name := conflict.Record.(*state.Name)
	return !name
}
