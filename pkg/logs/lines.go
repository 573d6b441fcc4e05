package logs

import (
	"bytes"
	"io"
	"slices"
)

const (
	readSize = 64 << 10
	// maxRecord bounds the memory for one line of a log file. A piece of 16 KiB grows at most sixfold; older Dockers
	// did not split lines. What is longer is not a record.
	maxRecord = 8 << 20
)

// lines cuts what a reader gives into lines. At the end of the reader it keeps what it has of the last line: when the
// file has grown, next goes on with it.
type lines struct {
	r        io.Reader
	buf      []byte // buf[from:to] is read and not yet given out
	from, to int
	scanned  int  // of buf[from:to], how much has no newline
	skipping bool // within a line too long
}

// next gives a line with its newline, valid until the next call. io.EOF: there is none yet.
func (l *lines) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(l.buf[l.from+l.scanned:l.to], '\n'); i >= 0 {
			end := l.from + l.scanned + i + 1
			line := l.buf[l.from:end]
			l.from, l.scanned = end, 0
			if !l.skipping && len(line) <= maxRecord {
				return line, nil
			}
			l.skipping = false
			continue
		}
		l.scanned = l.to - l.from
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
}

// rest gives the last line, which has no newline, at the end of a file that will not grow.
func (l *lines) rest() []byte {
	rest := l.buf[l.from:l.to]
	if l.skipping {
		rest = nil
	}
	l.reset(l.r)
	return rest
}

// reset forgets what was read and goes on with another reader.
func (l *lines) reset(r io.Reader) {
	l.r, l.from, l.to, l.scanned, l.skipping = r, 0, 0, 0, false
}

func (l *lines) fill() error {
	if l.to-l.from > maxRecord {
		l.skipping = true
		l.from, l.to, l.scanned = 0, 0, 0
	}
	if l.from > 0 && cap(l.buf)-l.to < readSize/2 {
		l.to = copy(l.buf, l.buf[l.from:l.to])
		l.from = 0
	}
	if cap(l.buf)-l.to < readSize/2 {
		l.buf = slices.Grow(l.buf[:l.to], max(readSize, l.to))
	}
	l.buf = l.buf[:cap(l.buf)]
	n, err := l.r.Read(l.buf[l.to:])
	l.to += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.EOF
	}
	return err
}
