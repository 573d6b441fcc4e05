package engine

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/events"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Rename gives a container another name, under which other containers find it at once.
func (c *Containers) Rename(ctx context.Context, ref, name string) error {
	if ref == "" || name == "" {
		return errInvalid("Neither old nor new names may be empty")
	}
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	return c.asked(ctx, r, func(r *state.Container) error { return c.rename(ctx, r, name) })
}

func (c *Containers) rename(ctx context.Context, r *state.Container, name string) error {
	if strings.TrimPrefix(name, "/") == r.Name {
		return errInvalid("Renaming a container with the same name as its current name")
	}
	bare, err := checkName(name)
	if err != nil {
		return renameError(err)
	}
	ctx, cancel := work(ctx)
	defer cancel()
	_, err = c.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		old := r.Name
		r.Name = bare
		c.networks.renamed(r, old)
		return []state.Op{
			state.Create(&state.Name{Account: r.Account, Name: bare, Container: r.ID}),
			state.Delete(&state.Name{Account: r.Account, Name: old}),
			tell(r, events.ActionRename, "oldName", "/"+old),
		}, nil
	})
	return renameError(nameConflict(err, bare))
}

func renameError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("Error when allocating new name: %w", err)
}
