package stdio

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/logs"
)

// journal is the buffer of one output stream: what was read from the FIFO and is not yet in the log. It is a file
// mapped into memory, and read(2) puts the output right there, so that it outlives the process from the moment it has
// left the FIFO. It guards against the death of the process at any instruction, not against that of the machine;
// nothing is ever synced.
//
// The file is a header of 8-byte words, each changed by one atomic store, and the buffer. Whatever takes more than
// one store is announced in a word of its own before (an intent), from which [journal.settleRead] and
// [intake.recover] find out how far it got:
//
//   - A read announces where it will put how many bytes. How many is asked before (FIONREAD), and as nobody else
//     reads, exactly so many come. The last bytes of the range are stamped first; when the stamp is gone, the
//     read has happened. The stamp is random, of bytes that occur in no UTF-8: text is never taken for it, and for
//     other output that is as unlikely as guessing the stamp. (A read of less than 8 bytes of such other output may
//     fall on it by chance; then it has still happened if less than that is in the FIFO.) The pages are written to
//     and locked before the read, so that the kernel has no fault to take, and a kill cannot end the read half way.
//
//   - A write to the log announces where in the log it goes and how much of the buffer it covers. A crash in between
//     leaves the record torn, whole or not there: the log is cut back to that place and the same is written again,
//     byte for byte, its time being in the header too.
//
// Only the goroutine of the stream's intake may use it.
type journal struct {
	file *os.File
	mem  []byte
	data []byte // of mem, the buffer
	hdr  *header
	room int // bytes of data that have memory behind them: touching others could kill us with SIGBUS
}

// header is the first page of the file.
type header struct {
	magic uint64 // written last: without it there is nothing in the file
	boot  uint64 // which boot of the machine it is from; a file that outlived that is not trusted
	stamp [stampSize]byte

	state  uint64 // span of what is in the buffer and not in the log
	intent uint64 // span that is being read into; 0: none

	partial uint64 // time of the line whose beginning is in the log already; 0: none

	logTo       uint64 // intent of writing to the log up to that offset; 0: none
	logDev      uint64
	logInode    uint64
	logSize     uint64
	logTime     uint64 // of the first record
	logPartial  uint64 // partial when it is done
	logReserved uint64
}

const (
	journalMagic = 0x6e72_646a_6e6c_0001 // changes with the layout
	headerSize   = 4096
	// bufferSize: a full FIFO (64 KiB) besides the longest unfinished line (16 KiB), twice, so that a line can be
	// moved to the front without overlapping itself.
	bufferSize = 112 << 10
	// minRoom is what every journal has from the start: enough to go on with when there is no memory for more.
	minRoom   = 4096
	roomStep  = 16 << 10
	stampSize = 32
	// sureStamp is from which length on a stamp is not met by chance.
	sureStamp = 8
)

// span is a part of the buffer, in one word: from in the upper half, to in the lower.
type span uint64

func newSpan(from, to int) span { return span(uint64(from)<<32 | uint64(to)) }
func (s span) from() int        { return int(s >> 32) }
func (s span) to() int          { return int(s & 0xffffffff) }

func journalName(stream string) string { return stream + ".journal" }

// openJournal opens the journal at path, or makes one. What is no journal, or one from before the machine last
// booted, is emptied.
func openJournal(path string) (_ *journal, retErr error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{file: f}
	defer func() {
		if retErr != nil {
			_ = j.close()
		}
	}()
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	kept, err := j.mapFile(boot)
	if err != nil {
		return nil, fmt.Errorf("map journal %q: %w", path, err)
	}
	if kept {
		return j, nil
	}
	rand.Read(j.hdr.stamp[:]) // never fails, by its contract
	for i, b := range j.hdr.stamp {
		j.hdr.stamp[i] = 0xf5 + b%11 // 0xf5 to 0xff are in no UTF-8
	}
	j.hdr.boot = boot
	atomic.StoreUint64(&j.hdr.magic, journalMagic)
	return j, nil
}

// mapFile maps the file, after emptying it if it is not one to go on with.
func (j *journal) mapFile(boot uint64) (kept bool, err error) {
	if kept, err = j.valid(boot); err != nil {
		return false, err
	}
	j.room = minRoom
	if !kept {
		if err := j.reserve(); err != nil {
			return false, err
		}
	}
	j.mem, err = unix.Mmap(int(j.file.Fd()), 0, headerSize+bufferSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return false, err
	}
	// As said above: pages that were touched stay. Without the right to lock them they mostly do, too.
	_, _, _ = unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(&j.mem[0])), uintptr(len(j.mem)), unix.MLOCK_ONFAULT)
	j.hdr = (*header)(unsafe.Pointer(&j.mem[0]))
	j.data = j.mem[headerSize:]
	if kept {
		// What was in use has memory, up to the end of its page.
		used := max(j.used().to(), j.reading().to(), minRoom)
		j.room = (used + minRoom - 1) / minRoom * minRoom
	}
	return kept, nil
}

// reserve empties the file and gives it its size, and memory for its beginning.
func (j *journal) reserve() error {
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	if err := j.file.Truncate(headerSize + bufferSize); err != nil {
		return err
	}
	return j.allocate(0, headerSize+minRoom)
}

// valid says that the file is a journal of this boot whose spans lie in the buffer.
func (j *journal) valid(boot uint64) (bool, error) {
	st, err := j.file.Stat()
	if err != nil || st.Size() != headerSize+bufferSize {
		return false, err
	}
	var h header
	if _, err := j.file.ReadAt(unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h)), 0); err != nil {
		return false, err
	}
	if h.magic != journalMagic || h.boot != boot {
		return false, nil
	}
	for _, s := range []span{span(h.state), span(h.intent)} {
		if s.from() > s.to() || s.to() > bufferSize {
			return false, nil
		}
	}
	return h.logTo <= bufferSize, nil
}

func bootID() (uint64, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, b := range bytes.TrimSpace(id) { // FNV-1a; any hash would do
		n = (n ^ uint64(b)) * 1099511628211
	}
	return n, nil
}

func (j *journal) used() span    { return span(atomic.LoadUint64(&j.hdr.state)) }
func (j *journal) reading() span { return span(atomic.LoadUint64(&j.hdr.intent)) }
func (j *journal) setUsed(s span) {
	atomic.StoreUint64(&j.hdr.state, uint64(s))
}

// pending is what was read and is not in the log.
func (j *journal) pending() []byte {
	s := j.used()
	return j.data[s.from():s.to()]
}

// makeRoom makes room for up to n more bytes and returns for how many there is; none only when an unfinished line
// takes it all.
func (j *journal) makeRoom(n int) int {
	s := j.used()
	rest := s.to() - s.from()
	if j.room-s.to() < n && rest <= s.from() {
		copy(j.data, j.data[s.from():s.to()])
		s = newSpan(0, rest)
		j.setUsed(s)
	}
	if j.room-s.to() < n {
		// No memory: go on with what there is.
		_ = j.grow(min(s.to()+n, bufferSize))
	}
	return min(n, j.room-s.to())
}

// grow puts memory behind the buffer.
func (j *journal) grow(to int) error {
	to = min((to+roomStep-1)/roomStep*roomStep, bufferSize)
	if to <= j.room {
		return nil
	}
	if err := j.allocate(headerSize+j.room, to-j.room); err != nil {
		return err
	}
	j.room = to
	return nil
}

func (j *journal) allocate(off, n int) error {
	err := unix.Fallocate(int(j.file.Fd()), 0, int64(off), int64(n))
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	_, err = j.file.WriteAt(make([]byte, n), int64(off))
	return err
}

// grown says that there is memory for shrink to give back.
func (j *journal) grown() bool { return j.room > minRoom }

// shrink gives back the memory of an empty buffer that a flood has grown.
func (j *journal) shrink() {
	if s := j.used(); s.from() != s.to() || j.room == minRoom {
		return
	}
	j.setUsed(newSpan(0, 0))
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if unix.Fallocate(int(j.file.Fd()), punch, headerSize+minRoom, bufferSize-minRoom) == nil {
		j.room = minRoom
	}
}

// read reads n bytes, which must be there, behind those in the buffer, where there must be room, and returns them.
func (j *journal) read(fd, n int) ([]byte, error) {
	s := j.used()
	to := s.to()
	target := j.data[to : to+n]
	for i := 0; i < n; i += headerSize {
		target[i] = 0 // the fault is taken here
	}
	j.stampEnd(target)
	atomic.StoreUint64(&j.hdr.intent, uint64(newSpan(to, to+n)))
	k, err := readFully(fd, target)
	if k > 0 {
		j.setUsed(newSpan(s.from(), to+k))
	}
	atomic.StoreUint64(&j.hdr.intent, 0)
	return target[:k], err
}

func readFully(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// stampEnd marks the end of a range that is going to be read into.
func (j *journal) stampEnd(target []byte) {
	n := min(len(target), stampSize)
	copy(target[len(target)-n:], j.hdr.stamp[:n])
}

func (j *journal) stamped(target []byte) bool {
	n := min(len(target), stampSize)
	return bytes.Equal(target[len(target)-n:], j.hdr.stamp[:n])
}

// settleRead finds out whether a read that a crash cut off has happened, left being what is in the FIFO now.
func (j *journal) settleRead(left int) {
	r, s := j.reading(), j.used()
	if r == 0 {
		return
	}
	if r.from() == s.to() { // else it was noted already
		target := j.data[r.from():r.to()]
		if !j.stamped(target) || len(target) < sureStamp && left < len(target) {
			j.setUsed(newSpan(s.from(), r.to()))
		}
	}
	atomic.StoreUint64(&j.hdr.intent, 0)
}

// partial is when the line began whose first pieces are in the log.
func (j *journal) partial() time.Time { return timeOf(atomic.LoadUint64(&j.hdr.partial)) }

func timeOf(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n))
}

func nanosOf(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

// Begin implements [logs.Journal].
func (j *journal) Begin(p logs.Piece) {
	h := j.hdr
	h.logDev, h.logInode, h.logSize = p.At.Dev, p.At.Inode, uint64(p.At.Size)
	h.logTime, h.logPartial = nanosOf(p.Time), nanosOf(p.Partial)
	atomic.StoreUint64(&h.logTo, uint64(j.used().from()+p.Len))
}

// End implements [logs.Journal].
func (j *journal) End() {
	h := j.hdr
	if s := j.used(); s.from() != int(h.logTo) {
		j.setUsed(newSpan(int(h.logTo), s.to()))
	}
	atomic.StoreUint64(&h.partial, h.logPartial)
	atomic.StoreUint64(&h.logTo, 0)
}

// unwritten gives the write to the log that a crash cut off: the place it went to and what it was to hold.
func (j *journal) unwritten() (at logs.Place, data []byte, first time.Time, ok bool) {
	h := j.hdr
	to, s := int(h.logTo), j.used()
	if to == 0 {
		return at, nil, first, false
	}
	if to <= s.from() || to > s.to() { // it was done, but for the last words
		j.End()
		return at, nil, first, false
	}
	at = logs.Place{Dev: h.logDev, Inode: h.logInode, Size: int64(h.logSize)}
	return at, j.data[s.from():to], timeOf(h.logTime), true
}

func (j *journal) close() error {
	var err error
	if j.mem != nil {
		err = unix.Munmap(j.mem)
		j.mem, j.data, j.hdr = nil, nil, nil
	}
	return errors.Join(err, j.file.Close())
}
