package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/backend"
	"gotest.tools/v3/assert"
)

// writeNumbered writes lines of their numbers, a second apart, odd ones to stderr.
func writeNumbered(t testing.TB, w Writer, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		b := Batch{Stream: "stdout", Data: []byte(fmt.Sprintf("%03d\n", n)), Time: testTime.Add(time.Duration(n) * time.Second)}
		if n%2 == 1 {
			b.Stream = "stderr"
		}
		assert.NilError(t, w.Log(b, nil))
	}
}

func TestReadSelects(t *testing.T) {
	at := func(n int) time.Time { return testTime.Add(time.Duration(n) * time.Second) }
	odd := func(from, to int) (lines []string) {
		for _, l := range numbered(from, to) {
			if l[2]%2 == 1 {
				lines = append(lines, l)
			}
		}
		return lines
	}
	for _, tc := range []struct {
		name string
		opts ReadOptions
		want []string
	}{
		{"all", ReadOptions{Tail: -1, Stdout: true, Stderr: true}, numbered(0, 100)},
		{"stderr", ReadOptions{Tail: -1, Stderr: true}, odd(0, 100)},
		{"tail", ReadOptions{Tail: 7, Stdout: true, Stderr: true}, numbered(93, 100)},
		{"tail over files", ReadOptions{Tail: 45, Stdout: true, Stderr: true}, numbered(55, 100)},
		{"tail is taken before the stream", ReadOptions{Tail: 4, Stderr: true}, odd(96, 100)},
		{"tail of nothing", ReadOptions{Tail: 0, Stdout: true, Stderr: true}, nil},
		{"tail of more than there is", ReadOptions{Tail: 1000, Stdout: true, Stderr: true}, numbered(0, 100)},
		{"since", ReadOptions{Tail: -1, Since: at(40), Stdout: true, Stderr: true}, numbered(40, 100)},
		{"until", ReadOptions{Tail: -1, Until: at(40), Stdout: true, Stderr: true}, numbered(0, 41)},
		{"since and until", ReadOptions{Tail: -1, Since: at(10), Until: at(12), Stdout: true, Stderr: true}, numbered(10, 13)},
		{"tail and since", ReadOptions{Tail: 20, Since: at(90), Stdout: true, Stderr: true}, numbered(90, 100)},
		{"since the future", ReadOptions{Tail: -1, Since: at(1000), Stdout: true, Stderr: true}, nil},
	} {
		for _, opts := range []map[string]string{nil, {"max-size": "1000", "max-file": "50"}, {"max-size": "1000", "max-file": "50", "compress": "1"}} {
			t.Run(fmt.Sprint(tc.name, opts), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "log")
				w := openTest(t, path, opts)
				writeNumbered(t, w, 0, 100)
				assert.DeepEqual(t, readLines(t, path, opts, tc.opts), tc.want)
			})
		}
	}
}

func TestReadOfNoLog(t *testing.T) {
	assert.DeepEqual(t, readLines(t, filepath.Join(t.TempDir(), "log"), nil, everything), []string(nil))
}

func TestReadGivesAttributesAsDetails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := OpenFor(Info{ContainerLabels: map[string]string{"b": "2", "a": "1"}}, JSONFile, path, map[string]string{"labels": "a,b"})
	assert.NilError(t, err)
	defer w.Close()
	write(t, w, "stdout", "x\n")
	for _, details := range []bool{true, false} {
		for m, err := range Read(t.Context(), JSONFile, path, nil, ReadOptions{Tail: -1, Stdout: true, Details: details}) {
			assert.NilError(t, err)
			want := []backend.LogAttr{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}
			if !details {
				want = nil
			}
			assert.DeepEqual(t, m.Attrs, want)
		}
	}
}

func TestReadSkipsWhatIsNoRecord(t *testing.T) {
	rec := func(s string) string { return `{"log":"` + s + `\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}` }
	for _, tc := range []struct {
		name, data string
		want       []string
	}{
		{"torn in the middle", rec("a") + "\n" + `{"log":"tor` + "\n" + rec("b") + "\n", []string{"a\n", "b\n"}},
		{"torn and joined with the next", rec("a") + "\n" + rec("x")[:20] + rec("b") + "\n" + rec("c") + "\n", []string{"a\n", "b\n", "c\n"}},
		{"torn at the end", rec("a") + "\n" + `{"log":"tor`, []string{"a\n"}},
		{"whole but for its newline", rec("a") + "\n" + rec("b"), []string{"a\n", "b\n"}},
		{"zeros of a crashed machine", rec("a") + "\n" + strings.Repeat("\x00", 5000) + "\n" + rec("b") + "\n", []string{"a\n", "b\n"}},
		{"another program's JSON", `{"time":"2024-01-02T03:04:05Z","stream":"stdout", "log":"\ud83d\ude80\n"}` + "\n", []string{"🚀\n"}},
		{"far too long", rec(strings.Repeat("x", maxRecord+readSize)) + "\n" + rec("b") + "\n", []string{"b\n"}},
		{"blank lines", "\n\n" + rec("a") + "\r\n\n", []string{"a\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			assert.NilError(t, os.WriteFile(path, []byte(tc.data), 0o600))
			assert.DeepEqual(t, readLines(t, path, nil, everything), tc.want)
		})
	}
}

func TestReadOfDamagedGzipGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	opts := map[string]string{"max-size": "1000", "max-file": "3", "compress": "1"}
	w := openTest(t, path, opts)
	writeNumbered(t, w, 0, 40)
	assert.NilError(t, w.Close())
	assert.NilError(t, os.Truncate(path+".1.gz", 120))
	got := readLines(t, path, opts, everything)
	assert.DeepEqual(t, got[len(got)-8:], numbered(32, 40))
	assert.Equal(t, got[0], "000\n")
	assert.DeepEqual(t, readLines(t, path, opts, ReadOptions{Tail: 2, Stdout: true, Stderr: true}), numbered(38, 40))
	readLines(t, path, opts, ReadOptions{Tail: 30, Stdout: true, Stderr: true}) // without an error
}

// following reads in the background.
type following struct {
	lines chan string
	err   chan error
}

func follow(t *testing.T, path string, opts map[string]string, ro ReadOptions) following {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	f := following{make(chan string, 1<<20), make(chan error, 1)}
	ro.Follow, ro.Stdout, ro.Stderr = true, true, true
	go func() {
		defer close(f.lines)
		for m, err := range Read(ctx, JSONFile, path, opts, ro) {
			if err != nil {
				f.err <- err
				return
			}
			f.lines <- string(m.Line)
		}
		f.err <- nil
	}()
	return f
}

func (f following) next(t *testing.T) string {
	t.Helper()
	select {
	case l := <-f.lines:
		return l
	case err := <-f.err:
		t.Fatalf("ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("waited too long for a line")
	}
	panic("unreachable")
}

func (f following) rest(t *testing.T) (lines []string) {
	t.Helper()
	select {
	case err := <-f.err:
		assert.NilError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("waited too long for the end")
	}
	for l := range f.lines {
		lines = append(lines, l)
	}
	return lines
}

func TestFollowGivesEachLineOnceThroughRotation(t *testing.T) {
	for _, opts := range []map[string]string{
		nil,
		{"max-size": "2000", "max-file": "1000"},
		{"max-size": "2000", "max-file": "1000", "compress": "true"},
	} {
		t.Run(fmt.Sprint(opts), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			w := openTest(t, path, opts)
			writeNumbered(t, w, 0, 50)
			done := make(chan struct{})
			all := follow(t, path, opts, ReadOptions{Tail: -1, Done: done})
			tail := follow(t, path, opts, ReadOptions{Tail: 10, Done: done})
			assert.Equal(t, all.next(t), "000\n")
			assert.Equal(t, tail.next(t), "040\n")
			writeNumbered(t, w, 50, 2000)
			close(done)
			assert.DeepEqual(t, all.rest(t), numbered(1, 2000))
			assert.DeepEqual(t, tail.rest(t), numbered(41, 2000))
		})
	}
}

// With one file, what is rotated away is lost to who is behind; nothing comes twice, and the order is kept.
func TestFollowOfASlowReaderMissesOnlyWhatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	opts := map[string]string{"max-size": "2000"}
	w := openTest(t, path, opts)
	done := make(chan struct{})
	f := follow(t, path, opts, ReadOptions{Tail: -1, Done: done})
	writeNumbered(t, w, 0, 5000)
	close(done)
	got := f.rest(t)
	for i := 1; i < len(got); i++ {
		assert.Assert(t, len(got[i]) > len(got[i-1]) || got[i] > got[i-1], "%q after %q", got[i], got[i-1])
	}
	assert.Equal(t, got[len(got)-1], "4999\n")
}

func TestFollowIsPrompt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openTest(t, path, nil)
	write(t, w, "stdout", "warm up\n")
	f := follow(t, path, nil, ReadOptions{Tail: 1})
	f.next(t)
	var took []time.Duration
	for range 51 {
		begin := time.Now()
		write(t, w, "stdout", "x\n")
		f.next(t)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Log("slowest:", took[50])
	assert.Assert(t, took[25] < 500*time.Millisecond) // the middle one: a busy machine holds one or the other up
}

func TestFollowBeginsBeforeTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	done := make(chan struct{})
	f := follow(t, path, nil, ReadOptions{Tail: -1, Done: done})
	w := openTest(t, path, nil)
	writeNumbered(t, w, 0, 3)
	assert.Equal(t, f.next(t), "000\n")
	close(done)
	assert.DeepEqual(t, f.rest(t), numbered(1, 3))
}

func TestFollowThroughTruncation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openTest(t, path, nil)
	f := follow(t, path, nil, ReadOptions{Tail: -1})
	writeNumbered(t, w, 0, 3)
	for range 3 {
		f.next(t)
	}
	assert.NilError(t, os.Truncate(path, 0)) // logrotate's copytruncate
	writeNumbered(t, w, 3, 4)
	assert.Equal(t, f.next(t), "003\n")
}

// A piece of a record that its writer takes back, as after a full disk, is neither given nor does it spoil the next.
func TestFollowForgetsATakenBackPiece(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openTest(t, path, nil)
	writeNumbered(t, w, 0, 2)
	st, err := os.Stat(path)
	assert.NilError(t, err)
	f := follow(t, path, nil, ReadOptions{Tail: -1})
	f.next(t)
	f.next(t)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	assert.NilError(t, err)
	defer file.Close()
	fmt.Fprint(file, `{"log":"never to be compl`)
	assert.NilError(t, file.Truncate(st.Size()))
	writeNumbered(t, w, 2, 3)
	assert.Equal(t, f.next(t), "002\n")
}

func TestFollowEndsAtUntil(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := openTest(t, path, nil)
	writeNumbered(t, w, 0, 3)
	f := follow(t, path, nil, ReadOptions{Tail: -1, Until: time.Now().Add(30 * time.Millisecond)})
	assert.DeepEqual(t, f.rest(t), numbered(0, 3))
}

func TestPollingWatcher(t *testing.T) {
	w := newWatcher(filepath.Join(t.TempDir(), "no such directory", "log")) // inotify refuses
	defer w.close()
	for range 2 {
		select {
		case <-w.changed:
		case <-time.After(time.Minute):
			t.Fatal("no signal")
		}
	}
}

// reference reads a log of one file the plain way.
func reference(data []byte) (lines []string) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n') + 1
		if end == 0 {
			end = len(data)
		}
		line := bytes.TrimRight(data[:end], "\r\n")
		m, ok := decodeAny(line)
		if i := bytes.LastIndex(line, recordStart); !ok && i > 0 {
			m, ok = decodeAny(line[i:])
		}
		if ok && (m.Source == "stdout" || m.Source == "stderr") {
			lines = append(lines, fmt.Sprint(m.Source, m.Timestamp.UnixNano(), string(m.Line), m.Attrs))
		}
		data = data[end:]
	}
	return lines
}

func FuzzRead(f *testing.F) {
	rec := `{"log":"a\u003c \"x\" \\ \n","stream":"stdout","time":"2024-01-02T03:04:05.000000006Z"}` + "\n"
	f.Add([]byte(rec+rec), 1, uint16(0))
	f.Add([]byte(rec[:30]+rec+`{"log":"b","stream":"stderr","attrs":{"a":"b"},"time":"2024-01-02T03:04:05Z"}`), 2, uint16(35))
	f.Add([]byte("\x00\x00\n{\"log\":\"\\ud83d\\ude80\",\"stream\":\"stdout\",\"time\":\"2024-01-02T03:04:05+02:00\"}\n"), 0, uint16(3))
	dir := f.TempDir()
	zw, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // made once: its tables are large
	same := func(t *testing.T, what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Fatalf("%s: got %q, want %q", what, got, want)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, tail int, split uint16) {
		path := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		assert.NilError(t, os.WriteFile(path, data, 0o600))
		want := reference(data)
		same(t, "whole", readAll(t, path, nil, -1), want)

		tail = max(tail%1000, 0)
		end := readAll(t, path, nil, tail)
		same(t, "tail", end, want[max(0, len(want)-len(end)):])

		// Cut at a line end into a compressed and a plain file, it reads the same.
		at := bytes.LastIndexByte(data[:min(int(split), len(data))], '\n') + 1
		var z bytes.Buffer
		zw.Reset(&z)
		zw.Write(data[:at])
		zw.Close()
		assert.NilError(t, os.WriteFile(path+".1.gz", z.Bytes(), 0o600))
		assert.NilError(t, os.WriteFile(path, data[at:], 0o600))
		same(t, "cut", readAll(t, path, map[string]string{"max-file": "2"}, -1), want)
		os.Remove(path + ".1.gz")
	})
}

func readAll(t *testing.T, path string, opts map[string]string, tail int) (lines []string) {
	t.Helper()
	for m, err := range Read(t.Context(), JSONFile, path, opts, ReadOptions{Tail: tail, Stdout: true, Stderr: true, Details: true}) {
		assert.NilError(t, err)
		lines = append(lines, fmt.Sprint(m.Source, m.Timestamp.UnixNano(), string(m.Line), m.Attrs))
	}
	return lines
}

func BenchmarkReader(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log")
	w := openTest(b, path, nil)
	data := strings.Repeat(strings.Repeat("x", 99)+"\n", 10000)
	write(b, w, "stdout", data)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range Read(b.Context(), JSONFile, path, nil, everything) {
			n++
		}
		assert.Equal(b, n, 10000)
	}
}

func BenchmarkTail(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log")
	w := openTest(b, path, nil)
	for range 10 {
		write(b, w, "stdout", strings.Repeat(strings.Repeat("x", 99)+"\n", 10000))
	}
	for b.Loop() {
		n := 0
		for range Read(b.Context(), JSONFile, path, nil, ReadOptions{Tail: 10, Stdout: true}) {
			n++
		}
		assert.Equal(b, n, 10)
	}
}
