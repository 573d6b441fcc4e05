// Package logs writes and reads the logs of containers, in Docker's json-file format on disk, and sends them to syslog,
// Fluentd and Graylog.
package logs

import (
	"fmt"
	"time"

	"github.com/containerd/errdefs"
)

// Writer appends to the log of one container. All methods may be called at once.
type Writer interface {
	// Log cuts the batch into records and appends them, with one write(2) for as many as fit the file. What cannot be
	// written (disk full) is dropped and counted, and an error tells of it; the log stays whole and the next call
	// tries again. The batch is always used up: a log never stops a container. The journal, nil for none, is told of
	// every piece before and after it is written.
	Log(b Batch, j Journal) error
	// Rewind forgets what was written at or after a place: the write that a crash cut off. A place in a file that is
	// not the current one any more is left alone.
	Rewind(at Place) error
	// Dropped counts the bytes of output that were not written.
	Dropped() uint64
	// Close releases the file. A rotated file that is being compressed is waited for.
	Close() error
}

// Batch is a run of one stream's output, to become records.
type Batch struct {
	Stream string // stdout, stderr
	// Data is cut into lines, and longer ones into pieces (see [Whole]). A last line without its newline is written as
	// an unfinished one, so hand over only what is whole, until the stream ends.
	Data []byte
	// Time of the first record; each further one is a nanosecond later, so that no two of a stream have the same.
	// What is written depends on the batch only: the same batch gives the same bytes again.
	Time time.Time
	// Partial is the time of the first piece of the line that Data continues; zero when Data begins a line.
	Partial time.Time
}

// Journal makes the append of a piece of a batch safe against the death of the process. Its methods are called under
// the lock of the log, so that at most one piece of a log is under way. They must not call the log.
type Journal interface {
	// Begin says what is going to be written, before a byte of it is.
	Begin(Piece)
	// End says that the piece is written, or dropped for good.
	End()
}

// Piece is as much of a batch as is written at once.
type Piece struct {
	At      Place
	Len     int       // bytes of the batch, from where the piece before ended
	Time    time.Time // of its first record
	Partial time.Time // as Batch.Partial, for what follows the piece
}

// Place is a position in a log, which lasts over a restart.
type Place struct {
	Dev, Inode uint64
	Size       int64
}

// Open opens a container's log for appending; the file is made when it is not there. Labels, environment and the rest
// of what attributes are made of are unknown: see [OpenFor]. The driver none has no log: a nil Writer. Errors:
// invalid argument with Docker's words for a driver or option that is not known or has a bad value.
func Open(driver, path string, opts map[string]string) (Writer, error) {
	return OpenFor(Info{}, driver, path, opts)
}

// OpenFor is Open with what the options labels, labels-regex, env, env-regex and tag take their values from. A receiver
// that the driver sends to is reached first, or that it cannot be is the error.
func OpenFor(info Info, driver, path string, opts map[string]string) (Writer, error) {
	return openFor(info, driver, path, opts, true)
}

// Reopen is OpenFor for a container that runs already: its receiver is reached when it can be.
func Reopen(info Info, driver, path string, opts map[string]string) (Writer, error) {
	return openFor(info, driver, path, opts, false)
}

func openFor(info Info, driver, path string, opts map[string]string, wait bool) (Writer, error) {
	if err := Validate(driver, opts); err != nil {
		return nil, err
	}
	if driver == None {
		return nil, nil
	}
	return open(info, driver, path, opts, wait)
}

// invalid keeps the words of an error and makes it an invalid argument.
func invalid(err error) error { return errdefs.ErrInvalidArgument.WithMessage(err.Error()) }

func invalidf(format string, args ...any) error { return invalid(fmt.Errorf(format, args...)) }
