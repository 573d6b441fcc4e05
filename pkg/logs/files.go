package logs

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// identity is what a log file is known by while it is renamed.
type identity struct{ dev, inode uint64 }

func identify(f *os.File) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return identity{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return identity{st.Dev, st.Ino}, nil
}

func identifyPath(path string) (identity, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return identity{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return identity{st.Dev, st.Ino}, nil
}

// logFile is one file of a log, open for reading.
type logFile struct {
	*os.File
	id     identity
	gzip   bool
	last   time.Time // of a compressed file: no record is later; zero when unknown
	origin origin    // of a compressed file: what it was
}

// origin is what a compressed file was before. Inodes are used again; together with when a file was last written to,
// one is never taken for another.
type origin struct {
	Inode   uint64 `json:"inode,omitempty"`
	Written int64  `json:"written,omitempty"` // nanoseconds since 1970
}

func originOf(f *os.File) (origin, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return origin{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return origin{st.Ino, st.Mtim.Nano()}, nil
}

// same says that two files, both open, are one, or one of them the other compressed.
func (f logFile) same(o logFile) bool {
	if f.id == o.id {
		return true
	}
	if !f.gzip && !o.gzip {
		return false
	}
	a, b := f.origin, o.origin
	if !f.gzip {
		a, _ = originOf(f.File)
	}
	if !o.gzip {
		b, _ = originOf(o.File)
	}
	return a == b && a != origin{}
}

// openFiles opens the files of a log that are newer than one that is open, all when there is none such or it is nil,
// and returns them oldest first. It may run while the log is rotated: going from the newest to the oldest it can meet
// a file twice, or one that is newer than the first it met, both of which it notices, but miss none.
func openFiles(path string, maxFiles int, after *logFile) (_ []logFile, retErr error) {
	var files []logFile
	defer func() {
		if retErr != nil {
			closeFiles(files)
		}
	}()
	first := 0 // where the first file we met is by now
	for n := 0; n < maxFiles; n++ {
		f, err := openFile(path, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if after != nil && f.same(*after) {
			f.Close()
			break
		}
		if slices.ContainsFunc(files, f.same) {
			f.Close()
			continue
		}
		if len(files) > 0 {
			if first = placeOf(files[0], path, first, maxFiles); first > n { // it is newer, and what is older is further on
				f.Close()
				n = first
				continue
			}
		}
		files = append(files, f)
	}
	slices.Reverse(files)
	return files, nil
}

// placeOf finds where a file of a log is now, from where it was earlier: rotation only moves it on. One that is gone is behind
// all that there are.
func placeOf(f logFile, path string, from, maxFiles int) int {
	for n := from; n < maxFiles; n++ {
		at, err := openFile(path, n)
		if err != nil {
			continue // a gap, in the middle of a rotation
		}
		same := at.same(f)
		at.Close()
		if same {
			return n
		}
	}
	return maxFiles
}

func closeFiles(files []logFile) {
	for _, f := range files {
		f.Close()
	}
}

// openFile opens the nth file of a log, 0 being the current one.
func openFile(path string, n int) (logFile, error) {
	if n == 0 {
		return openPlain(path)
	}
	f, err := openPlain(rotated(path, n))
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	return openCompressed(compressedName(rotated(path, n)))
}

func openPlain(path string) (logFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return logFile{}, err
	}
	id, err := identify(f)
	if err != nil {
		f.Close()
		return logFile{}, err
	}
	return logFile{File: f, id: id}, nil
}

func openCompressed(path string) (logFile, error) {
	lf, err := openPlain(path)
	if err != nil {
		return logFile{}, err
	}
	lf.gzip = true
	z, err := gzip.NewReader(lf)
	if err == nil {
		var extra gzipExtra
		if json.Unmarshal(z.Extra, &extra) == nil {
			lf.last, lf.origin = extra.LastTime, extra.origin
		}
	}
	_, err = lf.Seek(0, io.SeekStart)
	if err != nil {
		lf.Close()
	}
	return lf, err
}
