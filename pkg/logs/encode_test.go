package logs

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/daemon/logger/jsonfilelog/jsonlog"
	"gotest.tools/v3/assert"
)

// dockers encodes as Docker's driver does.
func dockers(t *testing.T, stream string, line []byte, ended bool, attrs []byte, at time.Time) string {
	t.Helper()
	line = bytes.Clone(line)
	if ended {
		line = append(line, '\n')
	}
	var b bytes.Buffer
	r := jsonlog.JSONLogs{Log: line, Stream: stream, Created: at.UTC(), RawAttrs: attrs}
	assert.NilError(t, r.MarshalJSONBuf(&b))
	return b.String() + "\n"
}

func TestRecordsAreDockers(t *testing.T) {
	at := time.Date(2024, 5, 29, 11, 1, 2, 0, time.UTC)
	for _, line := range []string{
		"", "plain", `quotes " and \ slashes`, "tab\tand\rreturn\x00\x1f\x7f", "a<b>&c", "utf8 🚀 ψ ω β \u2028 \u2029 end",
		"bad \xaf\xff bytes \xe2\x82", "\ufffd", strings.Repeat("x", 100) + "\"" + strings.Repeat("<", 30), "12345678\x80\"1234567",
	} {
		for _, nanos := range []time.Duration{0, 1, 10, 100_000_000, 120_000_000, 999_999_999, 7_000_000, time.Hour} {
			for _, attrs := range [][]byte{nil, []byte(`{"tag":"x"}`)} {
				for _, ended := range []bool{true, false} {
					e := encoder{attrs: attrs}
					at := at.Add(nanos)
					got := string(e.record(nil, "stderr", []byte(line), ended, at.UnixNano()))
					assert.Equal(t, got, dockers(t, "stderr", []byte(line), ended, attrs, at))
				}
			}
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("a line with \" and \u2028 and \xff"), int64(1700000000123456789), true)
	f.Fuzz(func(t *testing.T, line []byte, nanos int64, ended bool) {
		if nanos < 0 { // before 1970: no container wrote anything then
			return
		}
		e := encoder{}
		got := string(e.record(nil, "stdout", line, ended, nanos))
		assert.Equal(t, got, dockers(t, "stdout", line, ended, nil, time.Unix(0, nanos)))
	})
}

func BenchmarkEncode(b *testing.B) {
	line := []byte(strings.Repeat("GET /index.html HTTP/1.1 200 ", 4))
	e := encoder{}
	var buf []byte
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		buf = e.record(buf[:0], "stdout", line, true, 1700000000123456789)
	}
}
