package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

var testInfo = Info{
	ContainerID: "0123456789abcdef0123456789abcdef", ContainerName: "/web", ContainerEntrypoint: "sh", ContainerArgs: []string{"-c", "x"},
	ContainerImageID: "sha256:feed", ContainerImageName: "busybox", ContainerCreated: time.Unix(0, 0).UTC(),
	ContainerLabels: map[string]string{"color": "red"}, ContainerEnv: []string{"STAGE=test"},
}

func logLine(t *testing.T, w Writer, stream, text string) {
	t.Helper()
	assert.NilError(t, w.Log(Batch{Stream: stream, Data: []byte(text), Time: time.Unix(1700000000, 123456789)}, nil))
}

func readBack(t *testing.T, driver, path, opts string) []string {
	t.Helper()
	var got []string
	for m, err := range Read(t.Context(), driver, path, parseOpts(opts), ReadOptions{Tail: -1, Stdout: true, Stderr: true}) {
		assert.NilError(t, err)
		got = append(got, string(m.Line))
	}
	return got
}

// sink is a receiver in the test: what comes over its connections.
type sink struct {
	address string
	got     chan []byte // a datagram, or what one connection has sent up to a separator
	close   func()
}

// listen opens a receiver; sep ends a message on a stream.
func listen(t *testing.T, network, address string, sep byte) *sink {
	t.Helper()
	s := &sink{got: make(chan []byte, 1000)}
	if network == "udp" || network == "unixgram" {
		c, err := new(net.ListenConfig).ListenPacket(t.Context(), network, address)
		assert.NilError(t, err)
		s.address, s.close = c.LocalAddr().String(), func() { c.Close() }
		go func() {
			for {
				buf := make([]byte, 64<<10)
				n, _, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				s.got <- buf[:n]
			}
		}()
	} else {
		l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
		assert.NilError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		s.address, s.close = l.Addr().String(), func() { l.Close(); cancel() }
		go s.accept(ctx, l, sep)
	}
	t.Cleanup(s.close)
	return s
}

// accept serves connections, which break when the context ends.
func (s *sink) accept(ctx context.Context, l net.Listener, sep byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			r := bufio.NewReader(c)
			for {
				line, err := r.ReadBytes(sep)
				if len(line) > 0 {
					s.got <- line
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

func (s *sink) next(t *testing.T) []byte {
	t.Helper()
	select {
	case b := <-s.got:
		return b
	case <-time.After(time.Minute):
		t.Fatal("nothing was sent")
		return nil
	}
}

func (s *sink) none(t *testing.T) {
	t.Helper()
	select {
	case b := <-s.got:
		t.Errorf("too much was sent: %q", b)
	default:
	}
}

func openTo(t *testing.T, driver, opts string) (Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "container-cached.log")
	w, err := OpenFor(testInfo, driver, path, parseOpts(opts))
	assert.NilError(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w, path
}

func TestSyslog(t *testing.T) {
	host, err := os.Hostname()
	assert.NilError(t, err)
	pid := os.Getpid()
	for _, tc := range []struct{ name, network, opts, want string }{ // T is a time, P our pid, H our host
		{"udp", "udp", "", "<30>T 0123456789ab[P]: hi\n"},
		{"tcp", "tcp", "syslog-format=rfc3164 tag={{.Name}}/{{.ImageName}}", "<30>T H web/busybox[P]: hi\n"},
		{"facility", "tcp", "syslog-facility=local1 syslog-format=rfc5424", "<142>1 T H 0123456789ab P 0123456789ab - hi\n"},
		{"numbered facility", "tcp", "syslog-facility=1 syslog-format=rfc5424micro", "<14>1 T H 0123456789ab P 0123456789ab - hi\n"},
		{"unixgram", "unixgram", "", "<30>T 0123456789ab[P]: hi\n"},
		{"unix", "unix", "", "<30>T 0123456789ab[P]: hi\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			address := "127.0.0.1:0"
			if strings.HasPrefix(tc.network, "unix") {
				address = filepath.Join(t.TempDir(), "s")
			}
			s := listen(t, tc.network, address, '\n')
			w, path := openTo(t, Syslog, "syslog-address="+tc.network+"://"+s.address+" "+tc.opts)
			logLine(t, w, "stdout", "hi\n")
			logLine(t, w, "stdout", "\n") // left out
			logLine(t, w, "stderr", "err\n")
			got := string(s.next(t))
			stamp, form := timeIn(got, strings.Contains(tc.opts, "5424"))
			assert.Equal(t, form, strings.NewReplacer("P", fmt.Sprint(pid), "H", host).Replace(tc.want))
			assert.Check(t, time.Since(stamp) < 48*time.Hour, "%v", stamp)
			if strings.Contains(tc.opts, "micro") {
				assert.Assert(t, strings.Contains(got, "."), got)
			}
			got = string(s.next(t))
			assert.Check(t, strings.HasSuffix(got, "err\n"), got)
			assert.Check(t, got[1] != form[1] || got[2] != form[2], "an error has a severity of its own: %s", got)
			assert.NilError(t, w.Close())
			s.none(t)
			assert.DeepEqual(t, readBack(t, Syslog, path, ""), []string{"hi\n", "\n", "err\n"})
		})
	}
}

// timeIn takes the time out of a syslog message.
func timeIn(s string, new bool) (time.Time, string) {
	if new {
		fields := strings.SplitN(s, " ", 3)
		at, _ := time.Parse(time.RFC3339, fields[1])
		return at, fields[0] + " T " + fields[2]
	}
	i := strings.IndexByte(s, '>') + 1
	at, _ := time.ParseInLocation(time.Stamp, s[i:i+len(time.Stamp)], time.Local)
	return at.AddDate(time.Now().Year(), 0, 0), s[:i] + "T" + s[i+len(time.Stamp):]
}

func TestGELF(t *testing.T) {
	big := strings.Repeat("0123456789", 1500)
	for _, tc := range []struct{ name, network, opts, line string }{
		{"udp", "udp", "", "hi"},
		{"zlib", "udp", "gelf-compression-type=zlib gelf-compression-level=9", "hi"},
		{"plain", "udp", "gelf-compression-type=none", "hi"},
		{"chunks", "udp", "gelf-compression-type=none", big},
		{"tcp", "tcp", "tag={{.Name}}", "hi"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := listen(t, tc.network, "127.0.0.1:0", 0)
			w, path := openTo(t, GELF, "gelf-address="+tc.network+"://"+s.address+" labels=color env=STAGE "+tc.opts)
			logLine(t, w, "stderr", tc.line+"\n")
			var m map[string]any
			assert.NilError(t, json.Unmarshal(datagram(t, s), &m))
			for k, want := range map[string]any{
				"version": "1.1", "short_message": tc.line, "level": 3.0, "timestamp": 1700000000.123, "_container_id": testInfo.ContainerID,
				"_container_name": "web", "_image_name": "busybox", "_image_id": "sha256:feed", "_command": "sh -c x", "_color": "red",
				"_STAGE": "test", "_created": "1970-01-01T00:00:00Z",
			} {
				assert.Equal(t, m[k], want, k)
			}
			if strings.Contains(tc.opts, "tag") {
				assert.Equal(t, m["_tag"], "web")
			} else {
				assert.Equal(t, m["_tag"], "0123456789ab")
			}
			assert.DeepEqual(t, readBack(t, GELF, path, ""), []string{tc.line + "\n"})
		})
	}
}

// datagram puts a GELF message together.
func datagram(t *testing.T, s *sink) []byte {
	t.Helper()
	b := s.next(t)
	if len(b) > 12 && b[0] == 0x1e && b[1] == 0x0f {
		whole := append([]byte{}, b[12:]...)
		for i := 1; i < int(b[11]); i++ {
			next := s.next(t)
			assert.Equal(t, int(next[10]), i)
			assert.DeepEqual(t, next[2:10], b[2:10])
			whole = append(whole, next[12:]...)
		}
		b = whole
	}
	switch {
	case b[0] == 0x1f:
		z, err := gzip.NewReader(bytes.NewReader(b))
		assert.NilError(t, err)
		b, err = io.ReadAll(z)
		assert.NilError(t, err)
	case b[0] == 0x78:
		z, err := zlib.NewReader(bytes.NewReader(b))
		assert.NilError(t, err)
		b, err = io.ReadAll(z)
		assert.NilError(t, err)
	}
	return bytes.TrimSuffix(b, []byte{0})
}

// event is one of Fluentd's, as it came over the wire.
type event struct {
	tag     string
	seconds int64
	nanos   int64
	fields  map[string]string
	options map[string]string
}

// fluentd is a receiver that acknowledges what asks for it.
func listenFluentd(t *testing.T, network, address string) (string, chan event) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	assert.NilError(t, err)
	t.Cleanup(func() { l.Close() })
	got := make(chan event, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					e, err := readEvent(r)
					if err != nil {
						return
					}
					got <- e
					if id := e.options["chunk"]; id != "" {
						_, _ = c.Write(packMap(nil, map[string]string{"ack": id}))
					}
				}
			}()
		}
	}()
	return l.Addr().String(), got
}

func readEvent(r *bufio.Reader) (e event, err error) {
	if b, err := r.ReadByte(); err != nil || b != 0x94 {
		return e, fmt.Errorf("not an array of four: %x %w", b, err)
	}
	if e.tag, err = readString(r); err != nil {
		return e, err
	}
	kind, _ := r.ReadByte()
	var raw [8]byte
	if kind == 0xd7 {
		_, _ = r.ReadByte()
	}
	if _, err = io.ReadFull(r, raw[:]); err != nil {
		return e, err
	}
	if kind == 0xd7 {
		e.seconds, e.nanos = int64(binary.BigEndian.Uint32(raw[:])), int64(binary.BigEndian.Uint32(raw[4:]))
	} else {
		e.seconds = int64(binary.BigEndian.Uint64(raw[:]))
	}
	if e.fields, err = readMap(r); err != nil {
		return e, err
	}
	e.options, err = readMap(r)
	return e, err
}

func readString(r *bufio.Reader) (string, error) {
	b, err := r.ReadByte()
	if err != nil {
		return "", err
	}
	n := int(b & 0x1f)
	for _, wide := range []struct {
		kind  byte
		bytes int
	}{{0xd9, 1}, {0xda, 2}, {0xdb, 4}} {
		if b == wide.kind {
			n = 0
			for range wide.bytes {
				d, _ := r.ReadByte()
				n = n<<8 | int(d)
			}
		}
	}
	s := make([]byte, n)
	_, err = io.ReadFull(r, s)
	return string(s), err
}

func readMap(r *bufio.Reader) (map[string]string, error) {
	b, err := r.ReadByte()
	if err != nil || b&0xf0 != 0x80 {
		return nil, fmt.Errorf("not a small map: %x %w", b, err)
	}
	m := map[string]string{}
	for range b & 0xf {
		k, err := readString(r)
		if err != nil {
			return nil, err
		}
		if m[k], err = readString(r); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func TestFluentd(t *testing.T) {
	for _, tc := range []struct {
		name, network, opts string
		nanos               int64
	}{
		{"tcp", "tcp", "", 0},
		{"unix", "unix", "fluentd-sub-second-precision=true tag=app.{{.Name}}", 123456789},
		{"acknowledged", "tcp", "fluentd-request-ack=true", 0},
		{"async", "tcp", "fluentd-async=true", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			address, at := "127.0.0.1:0", "tcp://"
			if tc.network == "unix" {
				address, at = filepath.Join(t.TempDir(), "f"), "unix://"
			}
			address, got := listenFluentd(t, tc.network, address)
			w, path := openTo(t, Fluentd, "fluentd-address="+at+address+" labels=color "+tc.opts)
			logLine(t, w, "stdout", "hi\n")
			long := strings.Repeat("x", maxLine)
			logLine(t, w, "stderr", long+"end\n")
			base := map[string]string{"container_id": testInfo.ContainerID, "container_name": "/web", "color": "red"}
			want := func(e event, fields map[string]string) {
				t.Helper()
				for k, v := range base {
					fields[k] = v
				}
				for _, k := range []string{"partial_id"} {
					if v := e.fields[k]; v != "" {
						fields[k] = v
					}
				}
				assert.DeepEqual(t, e.fields, fields)
				assert.Equal(t, e.seconds, int64(1700000000))
				assert.Equal(t, e.nanos, tc.nanos)
			}
			first := receive(t, got)
			want(first, map[string]string{"source": "stdout", "log": "hi"})
			want(receive(t, got), map[string]string{"source": "stderr", "log": long, "partial_message": "true", "partial_ordinal": "1", "partial_last": "false"})
			want(receive(t, got), map[string]string{"source": "stderr", "log": "end", "partial_message": "true", "partial_ordinal": "2", "partial_last": "true"})
			if tc.network == "unix" {
				assert.Equal(t, first.tag, "app.web")
			} else {
				assert.Equal(t, first.tag, "0123456789ab")
			}
			assert.DeepEqual(t, readBack(t, Fluentd, path, ""), []string{"hi\n", long, "end\n"})
		})
	}
}

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// TestReceiverThatIsDownAtStart: an error with the network's own words, but where nothing has to be reached.
func TestReceiverThatIsDownAtStart(t *testing.T) {
	address := deaf(t)
	refused := "dial tcp " + address + ": connect: connection refused"
	for _, tc := range []struct{ driver, opts, err string }{
		{Syslog, "syslog-address=tcp://" + address, refused},
		{Syslog, "syslog-address=udp://" + address, ""},
		{Fluentd, "fluentd-address=" + address, refused},
		{Fluentd, "fluentd-async=true fluentd-address=" + address, ""},
		{GELF, "gelf-address=tcp://" + address, "gelf: cannot connect to GELF endpoint: " + address + " " + refused},
		{GELF, "gelf-address=udp://" + address, ""},
	} {
		t.Run(tc.opts, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "l")
			w, err := OpenFor(testInfo, tc.driver, path, parseOpts(tc.opts))
			if tc.err != "" {
				assert.Error(t, err, tc.err)
				// A container that runs already has its log back all the same.
				w, err = Reopen(testInfo, tc.driver, path, parseOpts(tc.opts))
			}
			assert.NilError(t, err)
			for range 100 {
				_ = w.Log(Batch{Stream: "stdout", Data: []byte("x\n"), Time: time.Now()}, nil)
			}
			begin := time.Now()
			assert.NilError(t, w.Close())
			assert.Check(t, time.Since(begin) < time.Minute, "an ended container waits for a receiver that is down")
			assert.Equal(t, len(readBack(t, tc.driver, path, "")), 100)
		})
	}
}

// deaf is an address that is taken, so that nobody else gets it, and where nobody listens.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	assert.NilError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	assert.NilError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := unix.Getsockname(fd)
	assert.NilError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}

// TestReceiverThatComesBack: what was not delivered is lost there, what follows is not.
func TestReceiverThatComesBack(t *testing.T) {
	s := listen(t, "tcp", "127.0.0.1:0", '\n')
	address := s.address
	w, _ := openTo(t, Fluentd, "fluentd-retry-wait=10ms fluentd-address="+address)
	s.close()
	logLine(t, w, "stdout", "one\n") // into a connection that may be up still
	_, got := listenFluentd(t, "tcp", address)
	for end := time.After(time.Minute); ; {
		_ = w.Log(Batch{Stream: "stdout", Data: []byte("two\n"), Time: time.Now()}, nil)
		select {
		case e := <-got:
			assert.Check(t, e.fields["log"] == "one" || e.fields["log"] == "two")
			return
		case <-end:
			t.Fatal("nothing came to the new receiver")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestStuckReceiverHoldsNobodyUp: output waits for a receiver that takes nothing, once, and is then dropped there.
func TestStuckReceiverHoldsNobodyUp(t *testing.T) {
	for _, blocking := range []bool{true, false} {
		q := newQueue(10, blocking)
		q.stall = 20 * time.Millisecond
		r, err := openRemote(stuck{}, nil, q, false)
		assert.NilError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 10_000 {
				_ = r.Log(Batch{Stream: "stdout", Data: []byte("0123456789\n"), Time: time.Now()}, nil)
			}
		}()
		receive(t, done)
		assert.Check(t, r.Dropped() >= 9_990*10, "%d", r.Dropped())
		assert.NilError(t, r.Close())
	}
}

// stuck takes a message and never comes back with it.
type stuck struct{}

func (stuck) connect(context.Context) error { return nil }
func (stuck) send(ctx context.Context, _ message, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}
func (stuck) close() error { return nil }

// TestBlockingLosesNothing: a slow receiver slows the container down.
func TestBlockingLosesNothing(t *testing.T) {
	s := &slow{got: make(chan string, 1000)}
	r, err := openRemote(s, nil, newQueue(10, true), false)
	assert.NilError(t, err)
	for i := range 200 {
		assert.NilError(t, r.Log(Batch{Stream: "stdout", Data: fmt.Appendf(nil, "line %d\n", i), Time: time.Now()}, nil))
	}
	assert.NilError(t, r.Close())
	assert.Equal(t, len(s.got), 200)
	assert.Equal(t, r.Dropped(), uint64(0))
}

type slow struct{ got chan string }

func (s *slow) connect(context.Context) error { return nil }
func (s *slow) send(ctx context.Context, m message, _ func()) error {
	pause(ctx, time.Millisecond)
	s.got <- string(m.line)
	return nil
}
func (s *slow) close() error { return nil }
