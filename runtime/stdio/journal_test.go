package stdio

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/logs"
)

// testFifo is a FIFO with somebody who holds it, as the shim does.
func testFifo(t *testing.T) (r int, w *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	assert.NilError(t, makeFifo(path))
	r, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	assert.NilError(t, err)
	w, err = os.OpenFile(path, os.O_WRONLY, 0)
	assert.NilError(t, err)
	t.Cleanup(func() { unix.Close(r); w.Close() })
	return r, w
}

func testJournal(t *testing.T, path string) *journal {
	t.Helper()
	j, err := openJournal(path)
	assert.NilError(t, err)
	t.Cleanup(func() {
		if j.mem != nil {
			j.close()
		}
	})
	return j
}

// reopen is what follows a death of the daemon.
func reopen(t *testing.T, j *journal, fd int) *journal {
	t.Helper()
	path := j.file.Name()
	assert.NilError(t, j.close())
	j = testJournal(t, path)
	left, err := waiting(fd)
	assert.NilError(t, err)
	j.settleRead(left)
	return j
}

// Death within a read: whether it has happened is found out, so that nothing is lost and nothing comes twice.
func TestDeathWithinARead(t *testing.T) {
	long := strings.Repeat("0123456789", 600)
	for _, tc := range []struct {
		name, data string
		happened   bool
	}{
		{"not read", "hello\n", false},
		{"not read, long", long, false},
		{"read", "hello\n", true},
		{"read, one byte", "x", true},
		{"read, long", long, true},
		{"read, zeros", string(make([]byte, 5000)), true},
		{"not read, zeros", string(make([]byte, 5000)), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fd, w := testFifo(t)
			j := testJournal(t, filepath.Join(t.TempDir(), "journal"))
			w.WriteString("before ")
			_, err := j.read(fd, j.makeRoom(7))
			assert.NilError(t, err)
			w.WriteString(tc.data)

			// As far as read goes before it can note that it has happened.
			n := j.makeRoom(len(tc.data))
			assert.Equal(t, n, len(tc.data))
			to := j.used().to()
			target := j.data[to : to+n]
			j.stampEnd(target)
			atomic.StoreUint64(&j.hdr.intent, uint64(newSpan(to, to+n)))
			if tc.happened {
				got, err := unix.Read(fd, target)
				assert.NilError(t, err)
				assert.Equal(t, got, n)
			}
			w.WriteString("after") // the writer goes on while no daemon is there
			j = reopen(t, j, fd)
			n, err = waiting(fd)
			assert.NilError(t, err)
			_, err = j.read(fd, j.makeRoom(n))
			assert.NilError(t, err)
			assert.Equal(t, string(j.pending()), "before "+tc.data+"after")
		})
	}
}

// Death right behind a read that was noted: it is not noted again.
func TestDeathAfterANotedRead(t *testing.T) {
	fd, w := testFifo(t)
	j := testJournal(t, filepath.Join(t.TempDir(), "journal"))
	w.WriteString("noted")
	_, err := j.read(fd, j.makeRoom(5))
	assert.NilError(t, err)
	atomic.StoreUint64(&j.hdr.intent, uint64(newSpan(0, 5)))
	j = reopen(t, j, fd)
	assert.Equal(t, string(j.pending()), "noted")
}

// A few bytes that happen to be those of the stamp were read all the same, when the FIFO has no such many.
func TestReadOfAFewBytesLikeTheStamp(t *testing.T) {
	fd, w := testFifo(t)
	j := testJournal(t, filepath.Join(t.TempDir(), "journal"))
	w.Write(j.hdr.stamp[:2])
	j.stampEnd(j.data[:2])
	atomic.StoreUint64(&j.hdr.intent, uint64(newSpan(0, 2)))
	_, err := unix.Read(fd, j.data[:2])
	assert.NilError(t, err)
	j = reopen(t, j, fd)
	assert.Equal(t, len(j.pending()), 2)
}

func TestJournalThatIsNoneIsEmptied(t *testing.T) {
	whole := func(edit func(h *header)) []byte {
		path := filepath.Join(t.TempDir(), "j")
		j := testJournal(t, path)
		copy(j.data, "old")
		j.setUsed(newSpan(0, 3))
		edit(j.hdr)
		assert.NilError(t, j.close())
		b, err := os.ReadFile(path)
		assert.NilError(t, err)
		return b
	}
	for _, tc := range []struct {
		name    string
		content []byte
		kept    bool
	}{
		{"a journal", whole(func(*header) {}), true},
		{"empty", nil, false},
		{"something else", bytes.Repeat([]byte("x"), headerSize+bufferSize), false},
		{"not finished", whole(func(h *header) { h.magic = 0 }), false},
		{"of another boot", whole(func(h *header) { h.boot++ }), false},
		{"spans outside", whole(func(h *header) { h.state = uint64(newSpan(0, bufferSize+1)) }), false},
		{"spans backwards", whole(func(h *header) { h.state = uint64(newSpan(2, 1)) }), false},
		{"write outside", whole(func(h *header) { h.logTo = bufferSize + 1 }), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j")
			assert.NilError(t, os.WriteFile(path, tc.content, 0o600))
			j := testJournal(t, path)
			want := ""
			if tc.kept {
				want = "old"
			}
			assert.Equal(t, string(j.pending()), want)
		})
	}
}

// With a full tmpfs the intake goes on in the little room it has, and does not die of SIGBUS.
func TestNoMemoryForTheJournal(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=96k"); errors.Is(err, unix.EPERM) {
		t.Skip("may not mount")
	} else {
		assert.NilError(t, err)
	}
	t.Cleanup(func() { assert.NilError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	log := filepath.Join(t.TempDir(), "log")
	l, err := logs.Open(logs.JSONFile, log, nil)
	assert.NilError(t, err)
	defer l.Close()
	o, err := Open(Config{Dir: filepath.Join(dir, "io"), Tty: true, Log: l})
	assert.NilError(t, err)
	defer o.Close()
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	w, err := os.OpenFile(o.path(stdout), os.O_WRONLY, 0)
	assert.NilError(t, err)
	o.Started()
	want := strings.Repeat("some line\n", 3000) + strings.Repeat("long", 20<<10) + "\nend\n"
	_, err = w.WriteString(want)
	assert.NilError(t, err)
	w.Close()
	<-o.Drained()
	var got strings.Builder
	for m, err := range logs.Read(t.Context(), logs.JSONFile, log, nil, logs.ReadOptions{Tail: -1, Stdout: true}) {
		assert.NilError(t, err)
		got.Write(m.Line)
	}
	assert.Equal(t, got.String(), want)
	assert.Equal(t, o.outputs[0].name, stdout)
}

// The memory that a flood took is given back.
func TestShrink(t *testing.T) {
	j := testJournal(t, filepath.Join(t.TempDir(), "journal"))
	assert.Equal(t, j.makeRoom(maxRead), maxRead)
	used := func() int64 {
		var st unix.Stat_t
		assert.NilError(t, unix.Fstat(int(j.file.Fd()), &st))
		return st.Blocks * 512
	}
	assert.Assert(t, used() >= maxRead)
	j.setUsed(newSpan(10, 20))
	j.shrink()
	assert.Assert(t, used() >= maxRead) // not while it holds anything
	j.setUsed(newSpan(20, 20))
	j.shrink()
	assert.Equal(t, j.grown(), false)
	assert.Assert(t, used() <= headerSize+minRoom)
	assert.Equal(t, j.makeRoom(maxRead), maxRead)
}
