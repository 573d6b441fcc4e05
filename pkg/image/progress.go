package image

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/docker/docker/pkg/progress"
	"github.com/docker/docker/pkg/streamformatter"
)

// Progress writes Docker's progress lines for a client. Methods may be called at once, and on a nil Progress, which
// is silent.
type Progress struct {
	w   *clientWriter
	out progress.Output
}

// NewProgress writes to w. When the client cannot be written to any more, gone is called: nobody waits for the
// outcome.
func NewProgress(w io.Writer, gone context.CancelFunc) *Progress {
	cw := &clientWriter{w: w, gone: gone}
	return &Progress{w: cw, out: streamformatter.NewJSONProgressOutput(cw, false)}
}

// Started tells whether a line was written: from then on errors are lines too.
func (p *Progress) Started() bool { return p != nil && p.w.started.Load() }

// Message writes a status line.
func (p *Progress) Message(id, text string) {
	if p != nil {
		progress.Message(p.out, id, text)
	}
}

// Action says what is being done to a layer.
func (p *Progress) Action(id, action string) {
	if p != nil {
		progress.Update(p.out, id, action)
	}
}

// Stream writes a line of output, as load's are.
func (p *Progress) Stream(format string, args ...any) {
	if p != nil {
		fmt.Fprintf(streamformatter.NewStdoutWriter(p.w), format, args...)
	}
}

// Aux writes something for the client's own use, not for people.
func (p *Progress) Aux(v any) {
	if p != nil {
		progress.Aux(p.out, v)
	}
}

// Error writes the line that ends a stream that failed.
func (p *Progress) Error(err error) {
	if p != nil {
		_, _ = p.w.Write(streamformatter.FormatError(err)) // the client may have gone
	}
}

// reader reports what is read through it as progress of an action.
func (p *Progress) reader(r io.Reader, size int64, id, action string) io.ReadCloser {
	if p == nil {
		return io.NopCloser(r)
	}
	return progress.NewProgressReader(io.NopCloser(r), p.out, size, id, action)
}

// clientWriter writes to the client and notices when it has gone. The formatter above serialises progress lines;
// stream and error lines are written by one goroutine after them.
type clientWriter struct {
	w       io.Writer
	gone    context.CancelFunc
	started atomic.Bool
}

func (c *clientWriter) Write(b []byte) (int, error) {
	c.started.Store(true)
	n, err := c.w.Write(b)
	if err != nil && c.gone != nil {
		c.gone()
	}
	return n, err
}

// shortID is the 12 digits of a digest that progress lines are told apart by.
func shortID(digest string) string {
	for i := range digest {
		if digest[i] == ':' {
			digest = digest[i+1:]
			break
		}
	}
	if len(digest) > 12 {
		digest = digest[:12]
	}
	return digest
}
