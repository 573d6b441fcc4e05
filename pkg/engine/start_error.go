package engine

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/runtime"
)

// Exit codes of a container whose process could not be started, as shells have them and the docker CLI passes them on.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitUnknown       = 128
)

// taskError is a failure of the runtime to start a process, with runc's words.
type taskError struct{ words string }

func (e *taskError) Error() string { return e.words }

// asTaskError keeps the words of a failed specification as they are: to Docker it is the host's failure, whatever the user
// asked for, for it may depend on other containers.
func asTaskError(err error) error {
	if err == nil {
		return nil
	}
	if bad := new(runtime.SpecError); errors.As(err, &bad) {
		return errInternal("%s", bad)
	}
	words := err.Error()
	if errdefs.IsUnknown(err) && !strings.HasSuffix(words, unknownClass) {
		words += unknownClass // as Docker shows what containerd has no class for
	}
	return &taskError{words}
}

const unknownClass = ": unknown"

// asNetworkError says that the networks failed, keeping the error's class.
func asNetworkError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("failed to set up container networking: %w", err)
}

// startExitCode gives a failed start its exit code, and the error the user sees its class and Docker's words: what the
// user can mend is ErrInvalidArgument.
func startExitCode(err error) (int, error) {
	var task *taskError
	if !errors.As(err, &task) {
		return exitUnknown, err
	}
	words, lower := task.words, strings.ToLower(task.words)
	switch {
	case strings.Contains(lower, syscall.EACCES.Error()):
		return exitNotExecutable, errInvalid("%s", words)
	case strings.Contains(lower, syscall.EISDIR.Error()):
		// The CLI looks for EACCES' words to tell 126 from 125.
		return exitNotExecutable, errInvalid("%s: %s", words, syscall.EACCES)
	case strings.Contains(lower, syscall.ENOTDIR.Error()):
		return exitNotFound, errInvalid("%s: Are you trying to mount a directory onto a file (or vice-versa)? "+
			"Check if the specified host path exists and is the expected type", words)
	case noSuchCommand(lower):
		return exitNotFound, errInvalid("%s", words)
	}
	return exitUnknown, errdefs.ErrUnknown.WithMessage(words)
}

func noSuchCommand(lower string) bool {
	for _, sign := range []string{"executable file not found", "no such file or directory", "failed to run runc create/exec call"} {
		if strings.Contains(lower, sign) {
			return true
		}
	}
	return false
}
