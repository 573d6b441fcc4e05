package trace

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Line is one span, as it is written: fields with a tab between. Path is the span's name behind those it lies in, each
// with Separator between, so that lines can be folded into a flame.
type Line struct {
	Start     time.Time // when it began, in microseconds
	Took      time.Duration
	Trace     string // hexadecimal; the same for all spans of a request
	Container string // the id; empty: about none
	Path      string
}

// Separator stands between the names of a path.
const Separator = ";"

const (
	lineFields = 5
	lineTime   = "2006-01-02T15:04:05.000000Z"
)

// String is the line without its end.
func (l Line) String() string {
	return strings.Join([]string{
		l.Start.UTC().Format(lineTime), strconv.FormatInt(l.Took.Microseconds(), 10) + "us", l.Trace, orDash(l.Container), l.Path,
	}, "\t")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ParseLine reads what String wrote.
func ParseLine(s string) (Line, error) {
	f := strings.Split(s, "\t")
	if len(f) != lineFields {
		return Line{}, fmt.Errorf("line of a trace %q: %d fields, want %d", s, len(f), lineFields)
	}
	start, err := time.Parse(lineTime, f[0])
	if err != nil {
		return Line{}, err
	}
	took, err := time.ParseDuration(f[1])
	if err != nil {
		return Line{}, err
	}
	return Line{Start: start, Took: took, Trace: f[2], Container: strings.TrimPrefix(f[3], "-"), Path: f[4]}, nil
}

// To has every span of this process written to w as a Line when it ends, those of the libraries it uses too, until
// stop is called. Writes come one after another; one that fails is dropped.
func To(w io.Writer) (stop func()) {
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(&printer{w: w, open: map[trace.SpanID]*open{}}))
	otel.SetTracerProvider(p)
	return func() { _ = p.Shutdown(context.Background()) } // the printer's, which cannot fail
}

// printer writes spans as they end.
type printer struct {
	mu   sync.Mutex
	w    io.Writer
	open map[trace.SpanID]*open // those under way
}

// open is what those below a span must know of it.
type open struct {
	span   sdk.ReadOnlySpan
	path   string
	parent *open
}

// container is the nearest one named so far, from the span outwards.
func (o *open) container() string {
	for ; o != nil; o = o.parent {
		for _, a := range o.span.Attributes() {
			if a.Key == ContainerKey {
				return a.Value.AsString()
			}
		}
	}
	return ""
}

// OnStart implements sdk.SpanProcessor.
func (p *printer) OnStart(_ context.Context, s sdk.ReadWriteSpan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := &open{span: s, path: clean(s.Name()), parent: p.open[s.Parent().SpanID()]}
	if o.parent != nil {
		o.path = o.parent.path + Separator + o.path
	}
	p.open[s.SpanContext().SpanID()] = o
}

// OnEnd implements sdk.SpanProcessor.
func (p *printer) OnEnd(s sdk.ReadOnlySpan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := s.SpanContext().SpanID()
	o := p.open[id]
	delete(p.open, id)
	if o == nil {
		return // begun before
	}
	_, _ = fmt.Fprintln(p.w, Line{
		Start: s.StartTime(), Took: s.EndTime().Sub(s.StartTime()), Trace: s.SpanContext().TraceID().String(),
		Container: o.container(), Path: o.path,
	})
}

// clean keeps what separates fields and names out of a name.
func clean(name string) string {
	return strings.NewReplacer("\t", " ", "\n", " ", Separator, ",").Replace(name)
}

// Shutdown implements sdk.SpanProcessor.
func (p *printer) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdk.SpanProcessor.
func (p *printer) ForceFlush(context.Context) error { return nil }
