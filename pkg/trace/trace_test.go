package trace_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/trace"
)

func lines(t *testing.T, b *bytes.Buffer) []trace.Line {
	t.Helper()
	var all []trace.Line
	for line := range strings.Lines(b.String()) {
		l, err := trace.ParseLine(strings.TrimSuffix(line, "\n"))
		assert.NilError(t, err)
		all = append(all, l)
	}
	return all
}

func TestSpansAreWrittenAsTheyEnd(t *testing.T) {
	// Whose spans they are is said once in a process, so this is the one test of it.
	ctx, free := trace.Start(t.Context(), "before")
	assert.Check(t, !free.IsRecording())
	var b bytes.Buffer
	stop := trace.To(&b)

	ctx, request := trace.Start(ctx, "POST /start")
	trace.Tell(ctx, "c1")
	assert.NilError(t, trace.Do(ctx, "runc; create\n", func(ctx context.Context) error {
		_, inner := trace.Start(ctx, "shim")
		inner.End()
		return nil
	}))
	request.End()
	_, exit := trace.About(t.Context(), "exit", "c2")
	exit.End()
	stop()
	_, late := trace.Start(ctx, "late")
	late.End()

	got := lines(t, &b)
	paths := make([]string, len(got))
	for i, l := range got {
		paths[i] = l.Path + " " + l.Container
	}
	assert.DeepEqual(t, paths, []string{
		"POST /start;runc, create ;shim c1",
		"POST /start;runc, create  c1",
		"POST /start c1",
		"exit c2",
	})
	assert.Equal(t, got[0].Trace, got[2].Trace)
	assert.Check(t, got[2].Trace != got[3].Trace)
	assert.Check(t, !got[0].Start.Before(got[2].Start) && got[0].Took <= got[2].Took)
}

func TestLinesAreReadAsTheyAreWritten(t *testing.T) {
	for _, bad := range []string{"", "a\tb", "2026-01-01\t1us\tt\t-\tp", "2026-01-01T00:00:00.000000Z\tsoon\tt\t-\tp"} {
		_, err := trace.ParseLine(bad)
		assert.Check(t, err != nil, bad)
	}
}
