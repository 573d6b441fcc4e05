package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/docker/docker/api/types/backend"
)

// ReadOptions select messages of a log.
type ReadOptions struct {
	// Since drops messages before the first that is not earlier; Until ends reading at the first that is later, and a
	// following reader when that time has come. Zero: no bound.
	Since, Until time.Time
	// Tail is how many records from the end are read, of both streams, before any other choice is made; negative: all.
	Tail           int
	Follow         bool
	Stdout, Stderr bool
	Details        bool // with attributes
	// Done tells a following reader that nothing more will be written; it ends when it has read what there is. Nil: it
	// follows until the context ends.
	Done <-chan struct{}
}

// early tells whether a message is before Since. Without a Since none is: a line may claim to be of any year.
func (o *ReadOptions) early(t time.Time) bool { return !o.Since.IsZero() && t.Before(o.Since) }

// Read yields the messages of a driver's log at path, oldest first, across its rotated files, whether it is being written or
// not. A message belongs to the caller. Lines that were split keep their pieces apart, as Docker's reader gives
// them: all but the last without newline. Torn records are skipped. A log that is not there is empty. The sequence
// ends without an error when the context ends; it can be used once.
func Read(ctx context.Context, driver, path string, opts map[string]string, ro ReadOptions) iter.Seq2[*backend.LogMessage, error] {
	return func(yield func(*backend.LogMessage, error) bool) {
		o, err := fileOptions(driver, opts)
		if err != nil {
			yield(nil, invalid(err))
			return
		}
		r := &reader{ctx: ctx, path: path, maxFiles: o.maxFiles, opts: ro, yield: yield}
		if err := r.run(); err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

// errStop ends reading without an error: the consumer, the context or a bound said so.
var errStop = errors.New("logs: stop")

type reader struct {
	ctx      context.Context
	path     string
	maxFiles int
	opts     ReadOptions
	yield    func(*backend.LogMessage, error) bool
	started  bool // the first message that is not before Since was seen
	lines    lines
}

func (r *reader) run() error {
	var watch *watcher
	if r.opts.Follow {
		watch = newWatcher(r.path) // before the files are opened: no change after that goes unnoticed
		defer watch.close()
	}
	files, err := openFiles(r.path, r.maxFiles, nil)
	if err != nil {
		return err
	}
	defer closeFiles(files)
	starts, err := tailStarts(r.ctx, files, r.opts.Tail)
	if err != nil {
		return err
	}
	if !r.opts.Follow {
		return r.files(files, starts)
	}
	// The newest is followed; a compressed one is not the log's current file, which then is still to come.
	last := len(files) - 1
	if last < 0 {
		return r.follow(watch, nil, 0)
	}
	if files[last].gzip {
		last++
	}
	if err := r.files(files[:last], starts); err != nil {
		return err
	}
	if last == len(files) {
		return r.follow(watch, &files[last-1], 0)
	}
	return r.follow(watch, &files[last], starts[last].offset)
}

func (r *reader) files(files []logFile, starts []start) error {
	for i, f := range files {
		if err := r.file(f, starts[i]); err != nil {
			return err
		}
	}
	return nil
}

// file reads a file that is not followed, from a start to the end it has now.
func (r *reader) file(f logFile, at start) error {
	if at.skip || !f.last.IsZero() && r.opts.early(f.last) {
		return nil
	}
	in, err := at.open(f)
	if err != nil {
		return err
	}
	r.lines.reset(in)
	for skip := at.lines; ; skip-- {
		line, err := r.lines.next()
		if err != nil {
			// A compressed file that is damaged gives what could be read of it.
			return r.message(r.lines.rest())
		}
		if skip > 0 {
			continue
		}
		if err := r.message(line); err != nil {
			return err
		}
	}
}

// open gives what a file holds behind the start.
func (s start) open(f logFile) (io.Reader, error) {
	if f.gzip {
		z, err := gzip.NewReader(f)
		if err != nil {
			return eofReader{}, nil // damaged: nothing can be read of it
		}
		return z, nil
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, s.offset, max(0, st.Size()-s.offset)), nil
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }

// message yields what a line holds, if it is wanted.
func (r *reader) message(line []byte) error {
	if r.ctx.Err() != nil {
		return errStop
	}
	if len(line) == 0 {
		return nil
	}
	m, ok := decode(line)
	if !ok {
		return nil
	}
	if !r.opts.Until.IsZero() && m.Timestamp.After(r.opts.Until) {
		return errStop
	}
	if !r.wanted(m) {
		return nil
	}
	if !r.opts.Details {
		m.Attrs = nil
	}
	if !r.yield(m, nil) {
		return errStop
	}
	return nil
}

func (r *reader) wanted(m *backend.LogMessage) bool {
	// Time stamps need not be in order, so only the first one decides where to begin.
	r.started = r.started || !r.opts.early(m.Timestamp)
	if !r.started {
		return false
	}
	return m.Source == "stdout" && r.opts.Stdout || m.Source == "stderr" && r.opts.Stderr
}
