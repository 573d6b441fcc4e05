package engine

import (
	"regexp"
	"strings"

	"github.com/docker/docker/pkg/namesgenerator"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

const nameChars = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

var validName = regexp.MustCompile(`^` + nameChars + `+$`)

// checkName returns the name without the slash that old clients write before it.
func checkName(name string) (string, error) {
	bare := strings.TrimPrefix(name, "/")
	if !validName.MatchString(bare) {
		return "", errInvalid("Invalid container name (%s), only %s are allowed", name, nameChars)
	}
	return bare, nil
}

// randomNameTries is how many invented names are tried before the container is named by its id.
const randomNameTries = 6

// inventName proposes a name nobody asked for; the number of the try makes a collision less likely each time. Whether
// it is free is for the transaction to say.
func (c *Containers) inventName(id nereid.ContainerID, try int) string {
	if try >= randomNameTries {
		return id.Short()
	}
	return namesgenerator.GetRandomName(try)
}

// nameConflict turns a failed transaction into Docker's words when it failed over the name.
func nameConflict(err error, name string) error {
	conflict, ok := state.AsConflict(err)
	if !ok {
		return err
	}
	if _, ok := conflict.Record.(*state.Name); !ok {
		return err
	}
	var by nereid.ContainerID
	if holder, ok := conflict.Existing.(*state.Name); ok {
		by = holder.Container
	}
	return errNameTaken(name, by)
}
