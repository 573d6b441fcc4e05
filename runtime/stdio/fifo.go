package stdio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Names of the FIFOs in the directory of a process.
const (
	stdinName = "stdin"
	stdout    = "stdout"
	stderr    = "stderr"
	// attachedMark is there when a client was attached to the stdin of a process.
	attachedMark = "attached"
)

// makeFifo makes a FIFO that is not there. Anything else in its place is an error.
func makeFifo(path string) error {
	err := unix.Mkfifo(path, 0o600)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeNamedPipe {
		return fmt.Errorf("%q is not a FIFO", path)
	}
	return nil
}

// hold is a raw end of a FIFO that is kept open and never used.
type hold int

const noHold hold = -1

func openHold(path string, flag int) (hold, error) {
	fd, err := unix.Open(path, flag|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return noHold, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return hold(fd), nil
}

// drop closes the end. Dropping it again does nothing.
func (h *hold) drop() {
	if *h != noHold {
		unix.Close(int(*h))
		*h = noHold
	}
}
