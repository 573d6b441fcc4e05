package logs

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// pollInterval is how often a log is looked at when the kernel has no inotify instance left for us (128 a user by
// default): prompt for people, and cheap: one stat(2).
const pollInterval = 20 * time.Millisecond

// watcher tells that something changed in the directory of a log.
type watcher struct {
	changed <-chan struct{} // never closed; holds one signal
	file    *os.File        // inotify; nil: polling
	ticker  *time.Ticker
	stop    chan struct{} // closed by close
}

const watched = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE

// newWatcher watches from when it returns. It always works, by polling if need be.
func newWatcher(path string) *watcher {
	changed := make(chan struct{}, 1)
	w := &watcher{changed: changed, stop: make(chan struct{})}
	if f, err := openInotify(filepath.Dir(path)); err == nil {
		w.file = f
		go w.readEvents(changed)
		return w
	}
	w.ticker = time.NewTicker(pollInterval)
	go w.tick(changed)
	return w
}

func openInotify(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, dir, watched); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

func (w *watcher) readEvents(changed chan<- struct{}) {
	buf := make([]byte, 4096)
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		signal(changed)
	}
}

func (w *watcher) tick(changed chan<- struct{}) {
	for {
		select {
		case <-w.stop:
			return
		case <-w.ticker.C:
			signal(changed)
		}
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *watcher) close() {
	close(w.stop)
	if w.file != nil {
		w.file.Close()
		return
	}
	w.ticker.Stop()
}
