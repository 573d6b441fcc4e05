package logs

import (
	"errors"
	"io"
	"time"
)

// follower reads a log as it grows. Its current file may have been renamed meanwhile, which does not matter: it is
// known by its identity.
type follower struct {
	*reader
	watch  *watcher
	file   *logFile // the last one that was begun; nil before the log is there
	ours   bool     // file is to be closed by us
	offset int64    // up to where a plain file is read
}

// follow reads on from the offset of a plain file, or behind a compressed one, or from the beginning when there is none.
func (r *reader) follow(watch *watcher, f *logFile, offset int64) error {
	fl := &follower{reader: r, watch: watch}
	defer func() { fl.closeCurrent() }()
	fl.use(f, offset, false)
	until := r.untilTimer()
	for {
		// Asked before reading: what was written before the end is then read.
		ended := fl.ended(until)
		moved, err := fl.catchUp()
		if err != nil {
			return err
		}
		if moved {
			continue
		}
		if ended {
			return fl.finish()
		}
		if err := fl.wait(until); err != nil {
			return err
		}
	}
}

func (r *reader) untilTimer() <-chan time.Time {
	if r.opts.Until.IsZero() {
		return nil
	}
	return time.After(time.Until(r.opts.Until))
}

func (fl *follower) ended(until <-chan time.Time) bool {
	if !fl.opts.Until.IsZero() && time.Now().After(fl.opts.Until) {
		return true
	}
	select {
	case <-fl.opts.Done:
		return true
	default:
		return false
	}
}

// finish gives the last line, should it be a record without its newline.
func (fl *follower) finish() error { return fl.message(fl.lines.rest()) }

func (fl *follower) wait(until <-chan time.Time) error {
	select {
	case <-fl.ctx.Done():
		return errStop
	case <-fl.opts.Done:
	case <-until:
	case <-fl.watch.changed:
	}
	return nil
}

// catchUp reads what there is, and tells whether it moved on to a newer file, which is to be read then.
func (fl *follower) catchUp() (moved bool, err error) {
	if err := fl.drain(); err != nil {
		return false, err
	}
	if !fl.replaced() {
		return false, nil
	}
	// Who rotates writes no more to the old file: what it holds now is all of it.
	if err := fl.drain(); err != nil {
		return false, err
	}
	return fl.advance()
}

// replaced says that the log's current file is another one than ours.
func (fl *follower) replaced() bool {
	id, err := identifyPath(fl.path)
	return err == nil && (fl.file == nil || id != fl.file.id)
}

// advance reads the files that came after ours, but for the newest, which becomes ours.
func (fl *follower) advance() (moved bool, err error) {
	if fl.plain() {
		if err := fl.message(fl.lines.rest()); err != nil {
			return false, err
		}
	}
	newer, err := openFiles(fl.path, fl.maxFiles, fl.file)
	if err != nil || len(newer) == 0 {
		return false, err
	}
	last := len(newer) - 1
	defer closeFiles(newer[:last])
	for _, f := range newer[:last] {
		if err := fl.reader.file(f, start{}); err != nil {
			newer[last].Close()
			return false, err
		}
	}
	fl.use(&newer[last], 0, true)
	return true, nil
}

// plain says that there is a file to read as it grows.
func (fl *follower) plain() bool { return fl.file != nil && !fl.file.gzip }

func (fl *follower) use(f *logFile, offset int64, ours bool) {
	fl.closeCurrent()
	fl.file, fl.offset, fl.ours = f, offset, ours
	fl.lines.reset(fl)
}

func (fl *follower) closeCurrent() {
	if fl.ours {
		fl.file.Close()
	}
}

// Read reads the current file from where it was left.
func (fl *follower) Read(p []byte) (int, error) {
	n, err := fl.file.ReadAt(p, fl.offset)
	fl.offset += int64(n)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// drain yields the whole lines up to the end of the current file. What was there of a further line is read again: its
// writer may have taken it back and written something else.
func (fl *follower) drain() error {
	if !fl.plain() {
		return nil
	}
	fl.offset -= int64(fl.lines.to - fl.lines.from)
	fl.lines.reset(fl)
	if err := fl.noticeTruncation(); err != nil {
		return err
	}
	for {
		line, err := fl.lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fl.message(line); err != nil {
			return err
		}
	}
}

// noticeTruncation begins anew with a file that has lost lines that were yielded: it was emptied.
func (fl *follower) noticeTruncation() error {
	st, err := fl.file.Stat()
	if err != nil {
		return err
	}
	if st.Size() < fl.offset {
		fl.offset = 0
	}
	return nil
}
