package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
)

// start is where reading a file begins.
type start struct {
	skip   bool  // nothing of the file is wanted
	offset int64 // of a plain file
	lines  int   // of a compressed one: how many to pass over
}

// tailStarts finds where the last n records of the files begin, oldest file first. Plain files are searched from their
// ends; compressed ones have to be read, but only those that are needed. Negative n: all.
func tailStarts(ctx context.Context, files []logFile, n int) ([]start, error) {
	starts := make([]start, len(files))
	if n < 0 {
		return starts, nil
	}
	for i := len(files) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return nil, errStop
		}
		if n == 0 && i < len(files)-1 {
			starts[i].skip = true
			continue
		}
		found, err := starts[i].find(files[i], n)
		if err != nil {
			return nil, err
		}
		n -= found
	}
	return starts, nil
}

func (s *start) find(f logFile, n int) (found int, err error) {
	if !f.gzip {
		s.offset, found, err = tailPlain(f, n)
		return found, err
	}
	all, err := countLines(f)
	if err != nil {
		return 0, err
	}
	found = min(n, all)
	s.lines = all - found
	s.skip = found == 0
	return found, nil
}

// tailPlain finds the offset of the last n whole lines and how many there are, up to n. What follows the last newline
// is a record being written, or torn: it does not count.
func tailPlain(f logFile, n int) (offset int64, found int, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, readSize)
	newlines := 0
	for end := st.Size(); end > 0; {
		from := max(0, end-int64(len(buf)))
		block := buf[:end-from]
		if k, err := f.ReadAt(block, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		} else {
			block = block[:k] // cut short by who truncated the file meanwhile
		}
		for i := bytes.LastIndexByte(block, '\n'); i >= 0; i = bytes.LastIndexByte(block[:i], '\n') {
			newlines++
			if newlines > n {
				return from + int64(i) + 1, n, nil
			}
		}
		end = from
	}
	return 0, newlines, nil
}

func countLines(f logFile) (n int, err error) {
	z, err := gzip.NewReader(f)
	if err != nil {
		return 0, nil // damaged: see [start.open]
	}
	buf := make([]byte, readSize)
	for {
		k, err := z.Read(buf)
		n += bytes.Count(buf[:k], []byte{'\n'})
		if err != nil {
			_, err = f.Seek(0, io.SeekStart)
			return n, err
		}
	}
}
