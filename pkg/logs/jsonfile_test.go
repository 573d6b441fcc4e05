package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func openTest(t testing.TB, path string, opts map[string]string) Writer {
	t.Helper()
	w, err := Open(JSONFile, path, opts)
	assert.NilError(t, err)
	t.Cleanup(func() { w.Close() })
	return w
}

var testTime = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

func write(t testing.TB, w Writer, stream, data string) {
	t.Helper()
	assert.NilError(t, w.Log(Batch{Stream: stream, Data: []byte(data), Time: testTime}, nil))
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	assert.NilError(t, err)
	return string(b)
}

func TestBatchBecomesRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openTest(t, path, nil)
	write(t, w, "stdout", "one\ntwo\r\n\nunfinished")
	assert.Equal(t, content(t, path), `{"log":"one\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}
{"log":"two\r\n","stream":"stdout","time":"2024-01-02T03:04:05.000000001Z"}
{"log":"\n","stream":"stdout","time":"2024-01-02T03:04:05.000000002Z"}
{"log":"unfinished","stream":"stdout","time":"2024-01-02T03:04:05.000000003Z"}
`)
}

// All pieces of a line that was split carry the time of the first, over batches too.
func TestPiecesShareTheirTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openTest(t, path, nil)
	var p lastPiece
	b := Batch{Stream: "stdout", Data: []byte("x\n" + strings.Repeat("y", 2*maxLine)), Time: testTime}
	assert.NilError(t, w.Log(b, &p))
	assert.Assert(t, p.Partial.Equal(testTime.Add(1)))
	assert.NilError(t, w.Log(Batch{Stream: "stdout", Data: []byte("end\nz\n"), Time: testTime.Add(9), Partial: p.Partial}, &p))
	assert.Assert(t, p.Partial.IsZero())
	var got []string
	for m, err := range Read(t.Context(), JSONFile, path, nil, everything) {
		assert.NilError(t, err)
		got = append(got, fmt.Sprint(len(m.Line), " ", m.Timestamp.Nanosecond()))
	}
	assert.DeepEqual(t, got, []string{"2 0", "16384 1", "16384 1", "4 1", "2 10"})
}

type lastPiece struct{ Piece }

func (l *lastPiece) Begin(p Piece) { l.Piece = p }
func (l *lastPiece) End()          {}

var everything = ReadOptions{Tail: -1, Stdout: true, Stderr: true, Details: true}

func TestRotation(t *testing.T) {
	for _, tc := range []struct {
		name  string
		opts  map[string]string
		lines int
		files map[string]int // lines in each
	}{
		{"none", nil, 100, map[string]int{"log": 100}},
		// A record of these is 63 bytes; a file takes one while it is below its size.
		{"one file", map[string]string{"max-size": "600"}, 25, map[string]int{"log": 5}},
		{"three files", map[string]string{"max-size": "600", "max-file": "3"}, 25, map[string]int{"log": 5, "log.1": 10, "log.2": 10}},
		{"compressed", map[string]string{"max-size": "600", "max-file": "3", "compress": "true"}, 25,
			map[string]int{"log": 5, "log.1.gz": 10, "log.2.gz": 10}},
		{"two files, many rotations", map[string]string{"max-size": "100", "max-file": "2"}, 51, map[string]int{"log": 1, "log.1": 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "log")
			w := openTest(t, path, tc.opts)
			for n := range tc.lines {
				write(t, w, "stdout", fmt.Sprintf("%03d\n", n))
			}
			assert.NilError(t, w.Close())
			entries, err := os.ReadDir(dir)
			assert.NilError(t, err)
			got := map[string]int{}
			total := 0
			for _, e := range entries {
				f, err := openAny(filepath.Join(dir, e.Name()))
				assert.NilError(t, err)
				_, n, err := countOf(f)
				f.Close()
				assert.NilError(t, err)
				got[e.Name()] = n
				total += n
			}
			assert.DeepEqual(t, got, tc.files)
			assert.DeepEqual(t, readLines(t, path, tc.opts, everything), numbered(tc.lines-total, tc.lines))
		})
	}
}

// openAny opens a file of a log by its name.
func openAny(path string) (logFile, error) {
	if strings.HasSuffix(path, ".gz") {
		return openCompressed(path)
	}
	return openPlain(path)
}

func countOf(f logFile) (int64, int, error) {
	if f.gzip {
		n, err := countLines(f)
		return 0, n, ignoreEOF(err)
	}
	return tailPlain(f, 1<<30)
}

func ignoreEOF(err error) error {
	if err != nil && err.Error() == "EOF" {
		return nil
	}
	return err
}

func numbered(from, to int) (lines []string) {
	for n := from; n < to; n++ {
		lines = append(lines, fmt.Sprintf("%03d\n", n))
	}
	return lines
}

func readLines(t *testing.T, path string, opts map[string]string, ro ReadOptions) (lines []string) {
	t.Helper()
	for m, err := range Read(t.Context(), JSONFile, path, opts, ro) {
		assert.NilError(t, err)
		lines = append(lines, string(m.Line))
	}
	return lines
}

// A rotation that was cut off leaves a gap in the numbers; the next one fills it and drops nothing.
func TestRotationFillsAGap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	opts := map[string]string{"max-size": "60", "max-file": "4"}
	w := openTest(t, path, opts)
	for n := range 4 {
		write(t, w, "stdout", fmt.Sprintf("%03d\n", n))
	}
	assert.NilError(t, w.Close())
	assert.NilError(t, os.Remove(path+".1"))
	w = openTest(t, path, opts)
	write(t, w, "stdout", "004\n")
	assert.DeepEqual(t, readLines(t, path, opts, everything), []string{"000\n", "001\n", "003\n", "004\n"})
}

func TestRewind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openTest(t, path, nil)
	var p lastPiece
	write(t, w, "stdout", "kept\n")
	assert.NilError(t, w.Log(Batch{Stream: "stdout", Data: []byte("not kept\n"), Time: testTime}, &p))
	elsewhere := p.At
	elsewhere.Inode++
	assert.NilError(t, w.Rewind(elsewhere))
	assert.DeepEqual(t, readLines(t, path, nil, everything), []string{"kept\n", "not kept\n"})
	assert.NilError(t, w.Rewind(p.At))
	assert.NilError(t, w.Rewind(p.At))
	write(t, w, "stdout", "again\n")
	assert.DeepEqual(t, readLines(t, path, nil, everything), []string{"kept\n", "again\n"})
}

// A machine that crashed left a record without its end: it must not take the next one with it.
func TestTornRecordIsMended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openTest(t, path, nil)
	write(t, w, "stdout", "before\n")
	assert.NilError(t, w.Close())
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	assert.NilError(t, err)
	fmt.Fprint(f, `{"log":"to`)
	f.Close()
	w = openTest(t, path, nil)
	write(t, w, "stdout", "after\n")
	assert.DeepEqual(t, readLines(t, path, nil, everything), []string{"before\n", "after\n"})
}

func TestFullDiskDropsAndRecovers(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); errors.Is(err, unix.EPERM) {
		t.Skip("may not mount")
	} else {
		assert.NilError(t, err)
	}
	t.Cleanup(func() { assert.NilError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	path := filepath.Join(dir, "log")
	w := openTest(t, path, nil)
	ballast := filepath.Join(dir, "ballast")
	assert.NilError(t, os.WriteFile(ballast, make([]byte, 32<<10), 0o600))

	var errs []error
	written := 0
	for n := range 1000 {
		err := w.Log(Batch{Stream: "stdout", Data: []byte(fmt.Sprintf("%03d\n", n)), Time: testTime}, nil)
		if err == nil && errs == nil {
			written++
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	assert.Assert(t, errors.Is(errs[0], unix.ENOSPC), "%v", errs[0])
	assert.Equal(t, len(errs), 1000-written)
	assert.Equal(t, w.Dropped(), uint64(4*len(errs)))

	assert.NilError(t, os.Remove(ballast))
	write(t, w, "stdout", "space again\n")
	assert.DeepEqual(t, readLines(t, path, nil, everything), append(numbered(0, written), "space again\n"))
}

func BenchmarkWriter(b *testing.B) {
	w := openTest(b, filepath.Join(b.TempDir(), "log"), map[string]string{"max-size": "64m"})
	data := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 640))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		assert.NilError(b, w.Log(Batch{Stream: "stdout", Data: data, Time: testTime}, nil))
	}
}
