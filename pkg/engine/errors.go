package engine

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Errors here carry Docker's own words and nothing else, because users and their scripts read them: the class is in the
// type, not in the text.

func errInvalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func errConflict(format string, args ...any) error {
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf(format, args...))
}

func errInternal(format string, args ...any) error {
	return errdefs.ErrInternal.WithMessage(fmt.Sprintf(format, args...))
}

func errNotModified(what string) error { return errdefs.ErrNotModified.WithMessage(what) }

func errNoSuchContainer(ref string) error {
	return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

func errNoSuchExec(id string) error {
	return errdefs.ErrNotFound.WithMessage("No such exec instance: " + id)
}

func errNotRunning(id nereid.ContainerID) error {
	return errConflict("container %s is not running", id)
}

func errRestarting(id nereid.ContainerID) error {
	return errConflict("Container %s is restarting, wait until the container is running", id)
}

func errNameTaken(name string, by nereid.ContainerID) error {
	return errConflict("Conflict. The container name %q is already in use by container %q. "+
		"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, by)
}

func errNoSuchNetwork(ref string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
}
