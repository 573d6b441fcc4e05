package answer

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// logTime is RFC 3339 with all nine digits, so that columns line up.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// Logs sends the header at once (a client that follows an idle log waits for it) and then each message, framed when
// multiplexed. An error of the log becomes a message of the stream.
func Logs(w http.ResponseWriter, msgs iter.Seq2[*backend.LogMessage, error], opts container.LogsOptions, multiplexed bool) {
	s := NewStream(w)
	s.Start()
	out := io.Writer(s)
	if !opts.Follow {
		out = w // nobody waits for a single line: full buffers are cheaper
	}
	stdout, stderr, system := out, out, out
	if multiplexed {
		stdout, stderr, system = stdcopy.NewStdWriter(out, stdcopy.Stdout), stdcopy.NewStdWriter(out, stdcopy.Stderr), stdcopy.NewStdWriter(out, stdcopy.Systemerr)
	}
	for msg, err := range msgs {
		if err == nil && msg != nil {
			err = msg.Err
		}
		if err != nil {
			_, _ = fmt.Fprintf(system, "Error grabbing logs: %v\n", err)
			continue
		}
		var to io.Writer
		switch {
		case msg == nil:
		case msg.Source == "stdout" && opts.ShowStdout:
			to = stdout
		case msg.Source == "stderr" && opts.ShowStderr:
			to = stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(logLine(msg, opts)); err != nil {
			return // the client has gone
		}
	}
}

func logLine(msg *backend.LogMessage, opts container.LogsOptions) []byte {
	if !opts.Details && !opts.Timestamps {
		return msg.Line
	}
	line := make([]byte, 0, len(msg.Line)+len(logTime)+1)
	if opts.Timestamps {
		line = append(msg.Timestamp.AppendFormat(line, logTime), ' ')
	}
	if opts.Details {
		line = append(append(line, details(msg.Attrs)...), ' ')
	}
	return append(line, msg.Line...)
}

func details(attrs []backend.LogAttr) string {
	sorted := slices.SortedFunc(slices.Values(attrs), func(a, b backend.LogAttr) int { return strings.Compare(a.Key, b.Key) })
	var b strings.Builder
	for i, a := range sorted {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(url.QueryEscape(a.Key) + "=" + url.QueryEscape(a.Value))
	}
	return b.String()
}
