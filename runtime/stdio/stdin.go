package stdio

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stdin is the FIFO to the process, shared by the attached clients.
//
// The shim opens its end in the background, so that it may still be doing that when it has answered that the process
// is created. Before it has, our writer must not be closed: what is in the FIFO would go with it.
type stdin struct {
	path     string
	closed   func() // told when it is closed for good
	w        *os.File
	opened   chan struct{} // closed when the shim has its end, or will not have it
	released chan struct{} // closed by release

	mu      sync.Mutex // guards what follows; not held over a write
	reader  hold       // ours, until the shim should have its own: keeps what is written before that
	ready   bool       // opened is closed
	closing bool       // close was asked for
}

const (
	// readerPoll is how soon it is looked again whether the shim has opened its end; each further time it is twice as
	// long, up to readerPollMax.
	readerPoll    = time.Millisecond
	readerPollMax = 50 * time.Millisecond
	// readerPatience is after how long it will not open it any more: the process is gone, or closed its stdin while no
	// daemon was there.
	readerPatience = 10 * time.Second
)

// openStdin opens the FIFO, unless the process's stdin was closed in an earlier life of the daemon: then its FIFO is
// gone while that of stdout is there. Writing would keep the process from seeing the end.
func (io *IO) openStdin() error {
	if !io.cfg.Stdin {
		return nil
	}
	s := &stdin{path: io.path(stdinName), closed: io.cfg.StdinClosed, reader: noHold,
		opened: make(chan struct{}), released: make(chan struct{})}
	io.stdin = s
	if exists(io.path(stdout)) && !exists(s.path) {
		s.closing = true
		return nil
	}
	if err := makeFifo(s.path); err != nil {
		return err
	}
	var err error
	if s.reader, err = openHold(s.path, unix.O_RDONLY); err != nil {
		return err
	}
	if s.w, err = os.OpenFile(s.path, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
		return err
	}
	s.closing = io.cfg.StdinOnce && exists(io.path(attachedMark))
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Write blocks until the process has room for it. When stdin is closed or the process gone, it is an error.
func (s *stdin) Write(p []byte) (int, error) {
	if s.w == nil {
		return 0, os.ErrClosed
	}
	for done := 0; ; {
		waited := isClosed(s.opened)
		n, err := s.w.Write(p[done:])
		done += n
		if waited || !errors.Is(err, unix.EPIPE) {
			return done, err
		}
		// The shim did not have its end yet.
		select {
		case <-s.opened:
		case <-s.released:
			return done, err
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// started drops our reader. When the shim has its own, a close that was asked for before is carried out.
func (s *stdin) started() {
	s.mu.Lock()
	s.reader.drop()
	s.mu.Unlock()
	if s.w == nil || s.hasReader() {
		s.shimOpened()
		return
	}
	go s.awaitReader()
}

func (s *stdin) awaitReader() {
	patience := time.NewTimer(readerPatience)
	defer patience.Stop()
	for wait := readerPoll; !s.hasReader(); wait = min(2*wait, readerPollMax) {
		select {
		case <-time.After(wait):
		case <-patience.C:
			s.shimOpened()
			return
		case <-s.released:
			return
		}
	}
	s.shimOpened()
}

// hasReader says that somebody has the FIFO open for reading; also when there is no FIFO any more.
func (s *stdin) hasReader() bool {
	raw, err := s.w.SyscallConn()
	if err != nil {
		return true
	}
	broken := false
	err = raw.Control(func(fd uintptr) { broken, err = pollFor(int(fd), unix.POLLERR) })
	return err != nil || !broken
}

func (s *stdin) shimOpened() {
	s.mu.Lock()
	finish := s.closing && !isClosed(s.released)
	s.ready = true
	close(s.opened)
	s.mu.Unlock()
	if finish {
		// The process goes on; what can fail is removing the name.
		_ = s.finish()
	}
}

// close ends the input, when the shim has opened its end.
func (s *stdin) close() error {
	s.mu.Lock()
	finish := s.ready && !s.closing && !isClosed(s.released)
	s.closing = true
	s.mu.Unlock()
	if !finish {
		return nil
	}
	return s.finish()
}

// finish closes for good. The FIFO goes away, which is how a later daemon knows; it tells the shim again, since we may
// die before that is done.
func (s *stdin) finish() error {
	var err error
	if s.w != nil {
		err = errors.Join(s.w.Close(), ignoreMissing(os.Remove(s.path)))
	}
	if s.closed != nil {
		s.closed()
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// release closes our ends without ending the input for the shim, which has a writer of its own.
func (s *stdin) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isClosed(s.released) {
		return
	}
	close(s.released)
	s.reader.drop()
	if s.w != nil {
		s.w.Close()
	}
}
