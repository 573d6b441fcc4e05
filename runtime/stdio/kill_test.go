package stdio_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/runtime/stdio"
)

// The test binary, called with this in its environment, is a daemon that takes in what is in the directory.
const daemonDir = "STDIO_TEST_DAEMON"

func TestMain(m *testing.M) {
	if dir := os.Getenv(daemonDir); dir != "" {
		runDaemon(dir)
		return
	}
	os.Exit(m.Run())
}

// rotation of the killed daemon's log: small files, enough of them to keep everything.
var rotation = map[string]string{"max-size": "200k", "max-file": "5000"}

func runDaemon(dir string) {
	opts := map[string]string{}
	if os.Getenv("STDIO_TEST_ROTATE") != "" {
		opts = rotation
	}
	w, err := logs.Open(logs.JSONFile, filepath.Join(dir, "log"), opts)
	if err != nil {
		panic(err)
	}
	if point := os.Getenv("STDIO_TEST_DIE_AT"); point != "" {
		w = &dyingLog{Writer: w, path: filepath.Join(dir, "log"), point: point}
	}
	o, err := stdio.Open(stdio.Config{Dir: filepath.Join(dir, "io"), Log: w, Warn: func(err error) { panic(err) }})
	if err != nil {
		panic(err)
	}
	os.Stdout.Write([]byte{'\n'}) // the FIFOs are there
	bufio.NewReader(os.Stdin).ReadByte()
	o.Started()
	<-o.Drained()
	o.Detach()
	if err := w.Close(); err != nil {
		panic(err)
	}
}

// daemon is the running child.
type daemon struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func startDaemon(t *testing.T, dir string, env ...string) *daemon {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, daemonDir+"="+dir, "GORACE=atexit_sleep_ms=0")...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	assert.NilError(t, err)
	out, err := cmd.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, cmd.Start())
	d := &daemon{cmd, in}
	t.Cleanup(d.kill)
	_, err = bufio.NewReader(out).ReadByte()
	assert.NilError(t, err)
	return d
}

func (d *daemon) started() { d.stdin.Close() }

func (d *daemon) kill() {
	d.cmd.Process.Kill()
	d.cmd.Wait()
}

// pourer writes numbered lines of many lengths to an output until it is told to stop, as fast as they are taken.
type pourer struct {
	name  string
	w     io.Writer
	seed  uint64
	stop  chan struct{}
	lines int
}

// line n of a stream: its number, and a text that tells of a missing or doubled piece. Some are longer than a record
// may be, some longer than a FIFO.
func (p *pourer) line(r *rand.Rand, n int) string {
	length := r.IntN(120)
	switch r.IntN(400) {
	case 0:
		length = 1<<14 - 20 + r.IntN(40)
	case 1:
		length = r.IntN(100 << 10)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d ", p.name, n)
	for b.Len() < length {
		fmt.Fprintf(&b, "%d.", b.Len())
	}
	return b.String() + "\n"
}

func (p *pourer) rand() *rand.Rand { return rand.New(rand.NewPCG(p.seed, 1)) }

func (p *pourer) run() error {
	r := p.rand()
	for ; ; p.lines++ {
		select {
		case <-p.stop:
			return nil
		default:
		}
		if _, err := io.WriteString(p.w, p.line(r, p.lines)); err != nil {
			return err
		}
	}
}

// check compares what a log holds of the stream with what was poured.
func (p *pourer) check(got string) error {
	r := p.rand()
	for n := range p.lines {
		want := p.line(r, n)
		if !strings.HasPrefix(got, want) {
			return fmt.Errorf("%s: line %d of %d: want %.60q, the log has %.60q", p.name, n, p.lines, want, got)
		}
		got = got[len(want):]
	}
	if got != "" {
		return fmt.Errorf("%s: %d bytes too many: %.60q", p.name, len(got), got)
	}
	return nil
}

type killTest struct {
	rounds     int
	busy       bool // each daemon is killed once it has written something
	env        []string
	opts       map[string]string
	afterDeath func(dir string)
}

// run kills the daemon again and again under load and returns what is wrong with the log.
func (k killTest) run(t *testing.T) error {
	t.Helper()
	dir := t.TempDir()
	d := startDaemon(t, dir, k.env...)
	out, errs := k.pour(t, dir)
	for range k.rounds {
		d.started()
		before := k.written(t, dir)
		<-time.After(time.Duration(rand.IntN(4000)) * time.Microsecond)
		if k.busy {
			until(t, "output in the log", func() bool { return k.written(t, dir) > before })
		}
		d.kill()
		if k.afterDeath != nil {
			k.afterDeath(dir)
		}
		d = startDaemon(t, dir, k.env...)
	}
	d.started()
	close(out.stop)
	<-out.done
	<-errs.done
	assert.NilError(t, d.cmd.Wait())
	t.Logf("%d rounds, %d and %d lines", k.rounds, out.lines, errs.lines)
	return k.check(t, filepath.Join(dir, "log"), out.pourer, errs.pourer)
}

// written is how long the log is.
func (k killTest) written(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "log"))
	assert.NilError(t, err)
	return info.Size()
}

type pouring struct {
	*pourer
	done chan struct{}
}

// pour holds the FIFOs as the shim does and fills both.
func (k killTest) pour(t *testing.T, dir string) (out, errs pouring) {
	t.Helper()
	stop := make(chan struct{})
	start := func(name string) pouring {
		path := filepath.Join(dir, "io", name)
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		assert.NilError(t, err)
		r, err := os.OpenFile(path, os.O_RDONLY, 0)
		assert.NilError(t, err)
		p := pouring{&pourer{name: name, w: w, seed: rand.Uint64(), stop: stop}, make(chan struct{})}
		var once sync.Once
		end := func() { once.Do(func() { w.Close(); r.Close() }) }
		t.Cleanup(end)
		go func() {
			defer close(p.done)
			defer end()
			if err := p.run(); err != nil {
				t.Error(err)
			}
		}()
		return p
	}
	return start("stdout"), start("stderr")
}

func (k killTest) check(t *testing.T, log string, ps ...*pourer) error {
	t.Helper()
	got := map[string]*strings.Builder{"stdout": {}, "stderr": {}}
	for m, err := range logs.Read(t.Context(), logs.JSONFile, log, k.opts, logs.ReadOptions{Tail: -1, Stdout: true, Stderr: true}) {
		assert.NilError(t, err)
		got[m.Source].Write(m.Line)
	}
	for _, p := range ps {
		if err := p.check(got[p.name].String()); err != nil {
			return err
		}
	}
	return nil
}

// killRounds is how often a daemon is killed; STDIO_TEST_ROUNDS asks for more.
func killRounds() int {
	if n, err := strconv.Atoi(os.Getenv("STDIO_TEST_ROUNDS")); err == nil {
		return n
	}
	return 40
}

func TestKilledDaemonLosesNothing(t *testing.T) {
	assert.NilError(t, killTest{rounds: killRounds()}.run(t))
}

func TestKilledDaemonLosesNothingWhenRotating(t *testing.T) {
	k := killTest{rounds: killRounds(), env: []string{"STDIO_TEST_ROTATE=1"}, opts: rotation}
	assert.NilError(t, k.run(t))
}

// Without its journal a killed daemon does lose output: the tests above would notice.
func TestKilledDaemonWithoutJournalLosesOutput(t *testing.T) {
	k := killTest{rounds: 20, busy: true, afterDeath: func(dir string) {
		for _, name := range []string{"stdout", "stderr"} {
			os.Remove(filepath.Join(dir, "io", name+".journal"))
		}
	}}
	assert.ErrorContains(t, k.run(t), "the log has")
}

// dyingLog is a log during whose nth write the daemon is killed at a given point.
type dyingLog struct {
	logs.Writer
	path, point string
}

func (l *dyingLog) Log(b logs.Batch, j logs.Journal) error {
	return l.Writer.Log(b, &dyingJournal{Journal: j, log: l})
}

type dyingJournal struct {
	logs.Journal
	log *dyingLog
}

func (j *dyingJournal) Begin(p logs.Piece) {
	j.dieAt("before begin")
	j.Journal.Begin(p)
	j.dieAt("after begin")
	if j.log.point == "torn" {
		f, err := os.OpenFile(j.log.path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			panic(err)
		}
		f.WriteString(`{"log":"some of a rec`)
		j.dieAt("torn")
	}
}

func (j *dyingJournal) End() {
	j.dieAt("before end")
	j.Journal.End()
	j.dieAt("after end")
}

func (j *dyingJournal) dieAt(point string) {
	if j.log.point == point {
		p, _ := os.FindProcess(os.Getpid())
		p.Kill()
		select {}
	}
}

func TestDeathAtEachPointOfAWrite(t *testing.T) {
	for _, point := range []string{"before begin", "after begin", "torn", "before end", "after end"} {
		t.Run(point, func(t *testing.T) {
			dir := t.TempDir()
			d := startDaemon(t, dir, "STDIO_TEST_DIE_AT="+point)
			stop := make(chan struct{})
			k := killTest{}
			r, w := holdFifo(t, dir, "stdout")
			re, we := holdFifo(t, dir, "stderr")
			d.started()
			p := &pourer{name: "stdout", w: w, seed: 7, stop: stop}
			poured := make(chan struct{})
			go func() {
				defer close(poured)
				r := p.rand()
				for ; p.lines < 2000; p.lines++ {
					io.WriteString(p.w, p.line(r, p.lines))
				}
				w.Close()
			}()
			d.cmd.Wait() // it dies of its first write
			again := startDaemon(t, dir)
			again.started()
			<-poured
			r.Close()
			re.Close()
			we.Close()
			assert.NilError(t, again.cmd.Wait())
			assert.NilError(t, k.check(t, filepath.Join(dir, "log"), p))
		})
	}
}

func holdFifo(t *testing.T, dir, name string) (r, w *os.File) {
	t.Helper()
	path := filepath.Join(dir, "io", name)
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	assert.NilError(t, err)
	r, err = os.OpenFile(path, os.O_RDONLY, 0)
	assert.NilError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}
