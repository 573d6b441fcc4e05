package stdio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/logs"
)

const (
	// maxRead is how much is taken from a FIFO at once: all that it holds by default.
	maxRead = 64 << 10
	// idleAfter is how long an output is silent before the memory of its buffer is given back.
	idleAfter = 2 * time.Second
	// maxLastDrain bounds what Close still reads from a FIFO that somebody goes on writing to.
	maxLastDrain = 1 << 20
)

// source is where an intake puts what it reads: a journal, or plain memory when there is no log.
type source interface {
	makeRoom(n int) int
	read(fd, n int) ([]byte, error)
	grown() bool
	shrink()
}

// intake takes one output of the process in.
type intake struct {
	name   string
	stream stream
	io     *IO
	path   string
	file   *os.File // the FIFO
	raw    syscall.RawConn
	hold   hold     // a writer of ours until the shim has its own: no end is seen before
	j      *journal // nil without a log
	src    source

	lastTime time.Time // of the last record
	warned   bool      // the log does not go well
	stopping stopping

	// What await and its callback tell each other.
	available int
	waitErr   error
}

func openIntake(io *IO, s stream, name string) (_ *intake, retErr error) {
	in := &intake{name: name, stream: s, io: io, path: io.path(name), hold: noHold}
	defer func() {
		if retErr != nil {
			in.release()
		}
	}()
	if err := in.openSource(); err != nil {
		return nil, err
	}
	if err := makeFifo(in.path); err != nil {
		return nil, err
	}
	var err error
	if in.file, err = os.OpenFile(in.path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, err
	}
	if in.hold, err = openHold(in.path, unix.O_WRONLY); err != nil {
		return nil, err
	}
	in.raw, err = in.file.SyscallConn()
	return in, err
}

func (in *intake) openSource() error {
	if in.io.cfg.Log == nil {
		in.src = &plainBuffer{}
		return nil
	}
	j, err := openJournal(in.io.path(journalName(in.name)))
	if err != nil {
		return err
	}
	in.j, in.src = j, j
	return nil
}

func (in *intake) dropHold() { in.hold.drop() }

// release closes what is open, when the intake does not run (any more).
func (in *intake) release() {
	in.hold.drop()
	if in.file != nil {
		in.file.Close()
	}
	if in.j != nil {
		_ = in.j.close()
		in.j = nil
	}
}

// recover completes what was under way when a daemon died. A log that cannot be written is no error, now as ever.
func (in *intake) recover() error {
	if in.j == nil {
		return nil
	}
	left := 0
	var err error
	if cerr := in.raw.Control(func(fd uintptr) { left, err = waiting(int(fd)) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("ask the FIFO how much it holds: %w", err)
	}
	in.j.settleRead(left)
	if at, data, first, ok := in.j.unwritten(); ok {
		in.warn(in.io.cfg.Log.Rewind(at))
		in.warn(in.io.cfg.Log.Log(in.batch(data, first), in.j))
	}
	return nil
}

// run takes in until the output ends or the intake is stopped, and tells whether the output is complete.
func (in *intake) run() bool {
	in.store()
	for {
		n, err := in.await()
		if n > 0 {
			in.takeIn(n)
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !in.stopping.asked() {
			in.src.shrink()
			continue
		}
		break
	}
	if in.stopping.asked() {
		if in.stopping.leave() {
			return false
		}
		in.lastDrain()
	}
	in.flush()
	return true
}

// takeIn reads n bytes that are there, or as many as there is room for, and hands them on.
func (in *intake) takeIn(n int) bool {
	room := in.src.makeRoom(min(n, maxRead))
	if room == 0 {
		// No memory for more of a line that is not at its end: what there is of it goes to the log as a piece.
		in.flush()
		room = in.src.makeRoom(min(n, maxRead))
	}
	var data []byte
	err := in.raw.Control(func(fd uintptr) { data, _ = in.src.read(int(fd), room) })
	in.store()
	if len(data) > 0 {
		in.io.hub.broadcast(in.stream, data)
	}
	return err == nil && len(data) > 0
}

// await blocks until there is something to read and tells how much. 0 and no error: the output has ended.
func (in *intake) await() (int, error) {
	var deadline time.Time
	if in.src.grown() {
		deadline = time.Now().Add(idleAfter)
	}
	if err := in.file.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	if in.stopping.asked() { // after the deadline was set: stop sets its own after asking
		return 0, os.ErrDeadlineExceeded
	}
	in.available, in.waitErr = 0, nil
	if err := in.raw.Read(in.look); err != nil {
		return 0, err
	}
	return in.available, in.waitErr
}

// look is await's callback: it says that there is an answer. The answer must not come from read(2): what that returns
// would be in no journal.
func (in *intake) look(fd uintptr) bool {
	// Whether there are writers is asked first: what the last one wrote is then seen below.
	over, err := hungUp(int(fd))
	if err != nil {
		in.waitErr = err
		return true
	}
	n, err := waiting(int(fd))
	if err != nil {
		in.waitErr = err
		return true
	}
	in.available = n
	return n > 0 || over
}

// waiting is how much the FIFO holds.
func waiting(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCINQ) } // FIONREAD by its other name

// hungUp says that the FIFO has no writers any more.
func hungUp(fd int) (bool, error) { return pollFor(fd, unix.POLLHUP) }

// pollFor says that one of the events, which need not be asked for, holds now.
func pollFor(fd int, events int16) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd)}}
	for {
		_, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return p[0].Revents&events != 0, err
		}
	}
}

// lastDrain takes in what the FIFO holds.
func (in *intake) lastDrain() {
	for total := 0; total < maxLastDrain; {
		n := 0
		if in.raw.Control(func(fd uintptr) { n, _ = waiting(int(fd)) }) != nil {
			return
		}
		if n == 0 || !in.takeIn(n) {
			return
		}
		total += n
	}
}

// store writes to the log what is whole.
func (in *intake) store() {
	if in.j == nil {
		return
	}
	data := in.j.pending()
	in.log(data[:logs.Whole(data)])
}

// flush writes to the log all there is: the last line has no newline.
func (in *intake) flush() {
	if in.j != nil {
		in.log(in.j.pending())
	}
}

func (in *intake) log(data []byte) {
	if len(data) == 0 {
		return
	}
	in.warn(in.io.cfg.Log.Log(in.batch(data, in.now(len(data))), in.j))
}

// warn tells of trouble with the log, once until it goes well again.
func (in *intake) warn(err error) {
	if err != nil && !in.warned && in.io.cfg.Warn != nil {
		in.io.cfg.Warn(fmt.Errorf("log of %q: %w", in.path, err))
	}
	in.warned = err != nil
}

func (in *intake) batch(data []byte, first time.Time) logs.Batch {
	return logs.Batch{Stream: in.name, Data: data, Time: first, Partial: in.j.partial()}
}

// now is the time of a batch of at most n records: later than that of every one before it.
func (in *intake) now(n int) time.Time {
	now := time.Now().Round(0)
	if !now.After(in.lastTime) {
		now = in.lastTime.Add(1)
	}
	in.lastTime = now.Add(time.Duration(n))
	return now
}

// stop asks run to end; it does not wait for it.
func (in *intake) stop(leave bool) {
	in.stopping.ask(leave)
	if err := in.file.SetReadDeadline(time.Unix(1, 0)); err != nil && !errors.Is(err, fs.ErrClosed) {
		in.file.Close()
	}
}
