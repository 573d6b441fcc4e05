package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// jsonFile is the Writer of the driver json-file.
type jsonFile struct {
	path    string
	opts    options
	dropped atomic.Uint64

	mu         sync.Mutex // guards what follows, and is held over each write
	f          *os.File   // nil when closed
	enc        encoder
	checkTail  bool          // the file may end within a record
	compressed chan struct{} // closed when the compression under way has ended; nil when there was none
}

// buffers hold encoded records while they are written. They are a cache, shared so that an idle log keeps none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 128<<10); return &b }}

// maxKept keeps a rare huge buffer (a line of control characters grows sixfold) out of the cache.
const maxKept = 1 << 20

func openJSONFile(path string, o options, attrs []byte) (_ *jsonFile, retErr error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	return &jsonFile{path: path, opts: o, f: f, enc: encoder{attrs: attrs}, checkTail: true}, nil
}

func (l *jsonFile) Dropped() uint64 { return l.dropped.Load() }

func (l *jsonFile) Log(b Batch, j Journal) error {
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxKept {
			buffers.Put(buf)
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mendTail()
	var errs []error
	limit := l.opts.maxSize
	for len(b.Data) > 0 {
		if err := l.makeRoom(limit); err != nil {
			errs = append(errs, err)
			limit = 0 // better a file too large than none
		}
		at, err := l.place()
		if err != nil {
			l.dropped.Add(uint64(len(b.Data)))
			dropPiece(j, b)
			return errors.Join(append(errs, err)...)
		}
		if err := l.writePiece(&b, at, limit, buf, j); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// makeRoom rotates when the current file has reached its limit; 0 is none.
func (l *jsonFile) makeRoom(limit int64) error {
	if limit == 0 {
		return nil
	}
	at, err := l.place()
	if err != nil || at.Size < limit {
		return nil // an error comes up again where it is dealt with
	}
	return l.rotate()
}

// dropPiece tells the journal that the rest of the batch is used up although there is no place for it.
func dropPiece(j Journal, b Batch) {
	if j != nil {
		j.Begin(Piece{Len: len(b.Data), Time: b.Time})
		j.End()
	}
}

// writePiece writes as much of the batch as the file may still hold, at least one record, and takes it off.
func (l *jsonFile) writePiece(b *Batch, at Place, limit int64, buf *[]byte, j Journal) error {
	piece := Piece{At: at, Time: b.Time}
	*buf = l.encode((*buf)[:0], b, limit, &piece)
	if j != nil {
		j.Begin(piece)
		defer j.End()
	}
	n, err := l.f.Write(*buf)
	if err == nil {
		return nil
	}
	// A record that is only half there would join with the next one: it goes.
	kept := at.Size + int64(lastRecord((*buf)[:n]))
	l.checkTail = l.f.Truncate(kept) != nil
	l.dropped.Add(uint64(piece.Len))
	return fmt.Errorf("write container log %q: %w", l.path, err)
}

// lastRecord is the length of the whole records of encoded ones that are cut off.
func lastRecord(encoded []byte) int {
	for n := len(encoded); n > 0; n-- {
		if encoded[n-1] == '\n' {
			return n
		}
	}
	return 0
}

// encode makes records of the batch until the file has reached the limit, and takes what it used off the batch.
func (l *jsonFile) encode(buf []byte, b *Batch, limit int64, p *Piece) []byte {
	partial := unixNano(b.Partial)
	nanos := unixNano(b.Time)
	data := b.Data
	for len(data) > 0 && (limit == 0 || len(buf) == 0 || p.At.Size+int64(len(buf)) < limit) {
		n, ended := cut(data)
		line, at := data[:n], nanos
		if ended {
			line = line[:n-1]
		}
		if partial != 0 {
			at = partial
		}
		buf = l.enc.record(buf, b.Stream, line, ended, at)
		partial = at
		if ended {
			partial = 0
		}
		data = data[n:]
		nanos++
	}
	p.Len = len(b.Data) - len(data)
	p.Partial = fromUnixNano(partial)
	b.Data, b.Time, b.Partial = data, time.Unix(0, nanos), p.Partial
	return buf
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// place is the end of the current file. It asks the file, because others may truncate it (logrotate's copytruncate).
func (l *jsonFile) place() (Place, error) {
	if l.f == nil {
		return Place{}, fmt.Errorf("container log %q: %w", l.path, os.ErrClosed)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(l.f.Fd()), &st); err != nil {
		return Place{}, fmt.Errorf("stat container log %q: %w", l.path, err)
	}
	return Place{Dev: st.Dev, Inode: st.Ino, Size: st.Size}, nil
}

func (l *jsonFile) Rewind(at Place) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := l.place()
	if err != nil {
		return err
	}
	if now.Dev != at.Dev || now.Inode != at.Inode || now.Size <= at.Size {
		return nil
	}
	return l.f.Truncate(at.Size)
}

// mendTail ends a record that was cut off, by a machine that crashed or a full disk, so that the next one stands on
// its own line. What is there of it stays; readers skip it.
func (l *jsonFile) mendTail() {
	if !l.checkTail {
		return
	}
	at, err := l.place()
	if err != nil {
		return
	}
	l.checkTail = at.Size > 0 && l.lastByte(at.Size) != '\n'
	if l.checkTail {
		_, err = l.f.Write([]byte{'\n'})
		l.checkTail = err != nil
	}
}

func (l *jsonFile) lastByte(size int64) byte {
	f, err := os.Open(l.path)
	if err != nil {
		return '\n'
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], size-1); err != nil {
		return '\n'
	}
	return b[0]
}

func (l *jsonFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	l.awaitCompression()
	return err
}
