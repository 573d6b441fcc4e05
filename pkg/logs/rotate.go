package logs

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// The files of a log: path is the current one, path.1 the one before, and so on, each maybe compressed to path.N.gz.

func rotated(path string, n int) string { return path + "." + strconv.Itoa(n) }

func compressedName(plain string) string { return plain + ".gz" }

// rotate puts the current file aside and begins a new one. Every step leaves a log that readers and a further
// rotation understand, wherever the process dies. A failure leaves the current file in use.
func (l *jsonFile) rotate() error {
	l.awaitCompression()
	if err := l.putAside(); err != nil {
		return fmt.Errorf("rotate container log %q: %w", l.path, err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("rotate container log %q: %w", l.path, err)
	}
	l.f.Close()
	l.f = f
	if l.opts.compress && l.opts.maxFiles > 1 {
		l.compressAside()
	}
	return nil
}

func (l *jsonFile) putAside() error {
	if l.opts.maxFiles < 2 {
		return ignoreMissing(os.Remove(l.path))
	}
	if err := l.shift(); err != nil {
		return err
	}
	return ignoreMissing(os.Rename(l.path, rotated(l.path, 1)))
}

// shift renames path.1 to path.2 and so on, the oldest of as many as may be kept going away. A gap, as a rotation
// that was cut off leaves, is filled instead.
func (l *jsonFile) shift() error {
	last := 1
	for last < l.opts.maxFiles-1 && (exists(rotated(l.path, last)) || exists(compressedName(rotated(l.path, last)))) {
		last++
	}
	for n := last; n > 1; n-- {
		for _, name := range []func(string) string{plainName, compressedName} {
			if err := move(name(rotated(l.path, n-1)), name(rotated(l.path, n))); err != nil {
				return err
			}
		}
	}
	if last == 1 {
		return ignoreMissing(os.Remove(compressedName(rotated(l.path, 1))))
	}
	return nil
}

func plainName(s string) string { return s }

// move renames from to to; nothing at from means nothing at to, either.
func move(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		return ignoreMissing(os.Remove(to))
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// compressAside compresses what was put aside in the background. The next rotation waits for it.
func (l *jsonFile) compressAside() {
	done := make(chan struct{})
	l.compressed = done
	go func() {
		defer close(done)
		for n := 1; n < l.opts.maxFiles; n++ {
			// A file that cannot be compressed stays as it is: readers take either.
			_ = compressFile(rotated(l.path, n), l.path+".gz.tmp")
		}
	}()
}

func (l *jsonFile) awaitCompression() {
	if l.compressed != nil {
		<-l.compressed
	}
}

// gzipExtra is in the header of compressed files, as Docker writes it, with what the file was before: a reader that
// holds that one open must not take the compressed one for another.
type gzipExtra struct {
	LastTime time.Time `json:"lastTime,omitempty"`
	origin
}

// compressFile replaces a file by its compressed form, complete or not at all. No file is no error.
func compressFile(path, temp string) (retErr error) {
	in, err := os.Open(path)
	if err != nil {
		return ignoreMissing(err)
	}
	defer in.Close()
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if retErr != nil {
			out.Close()
			os.Remove(temp)
		}
	}()
	if err := writeGzip(out, in); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, compressedName(path)); err != nil {
		return err
	}
	return os.Remove(path)
}

func writeGzip(out io.Writer, in *os.File) error {
	extra, err := extraOf(in)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	z.Extra = extra
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	return z.Close()
}

func extraOf(f *os.File) ([]byte, error) {
	o, err := originOf(f)
	if err != nil {
		return nil, err
	}
	// The last record was written when the file was last changed, by a clock that may be some milliseconds behind.
	last := time.Unix(0, o.Written).UTC().Truncate(time.Second).Add(2 * time.Second)
	return json.Marshal(gzipExtra{last, o})
}
