package logs

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/docker/api/types/backend"
)

var recordStart = []byte(`{"log":"`)

// decode reads the record on a line, its newline included or not. A line that begins with what is left of a torn
// record gives the whole one behind it. Not ok: there is no record.
func decode(line []byte) (m *backend.LogMessage, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	if m, ok := decodeOurs(line); ok {
		return m, true
	}
	if m, ok := decodeAny(line); ok {
		return m, true
	}
	// Within a record this text cannot stand: its quotes would be escaped.
	if i := bytes.LastIndex(line, recordStart); i > 0 {
		return decodeAny(line[i:])
	}
	return nil, false
}

// decodeOurs reads the form that this package and Docker write, without attributes. Anything unexpected is left to decodeAny.
func decodeOurs(line []byte) (*backend.LogMessage, bool) {
	rest, ok := bytes.CutPrefix(line, recordStart)
	if !ok {
		return nil, false
	}
	text, rest, ok := unescape(rest)
	if !ok {
		return nil, false
	}
	stream, rest, ok := simpleField(rest, `,"stream":"`)
	if !ok {
		return nil, false
	}
	stamp, rest, ok := simpleField(rest, `,"time":"`)
	if !ok || string(rest) != "}" {
		return nil, false
	}
	m := &backend.LogMessage{Line: text}
	switch string(stream) {
	case "stdout":
		m.Source = "stdout"
	case "stderr":
		m.Source = "stderr"
	default:
		return nil, false
	}
	if m.Timestamp.UnmarshalText(stamp) != nil {
		return nil, false
	}
	return m, true
}

// simpleField reads `,"name":"value"` whose value has no escapes.
func simpleField(s []byte, prefix string) (value, rest []byte, ok bool) {
	if len(s) < len(prefix) || string(s[:len(prefix)]) != prefix {
		return nil, nil, false
	}
	s = s[len(prefix):]
	end := bytes.IndexByte(s, '"')
	if end < 0 || bytes.IndexByte(s[:end], '\\') >= 0 {
		return nil, nil, false
	}
	return s[:end], s[end+1:], true
}

// unescape reads a JSON string up to its closing quote, into memory of its own. It leaves surrogates and bad UTF-8
// to encoding/json.
func unescape(s []byte) (text, rest []byte, ok bool) {
	end := stringEnd(s)
	if end < 0 {
		return nil, nil, false
	}
	raw := s[:end]
	text = make([]byte, 0, len(raw))
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			text = append(text, raw...)
			break
		}
		text = append(text, raw[:i]...)
		if text, raw, ok = unescapeOne(text, raw[i:]); !ok {
			return nil, nil, false
		}
	}
	if !utf8.Valid(text) || hasControl(s[:end]) {
		return nil, nil, false
	}
	return text, s[end+1:], true
}

// stringEnd finds the quote that ends a JSON string.
func stringEnd(s []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(s[from:], '"')
		if i < 0 {
			return -1
		}
		i += from
		slashes := 0
		for slashes < i && s[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
		from = i + 1
	}
}

func hasControl(s []byte) bool {
	for _, b := range s {
		if b < 0x20 {
			return true
		}
	}
	return false
}

// unescapeOne reads the escape that raw begins with.
func unescapeOne(text, raw []byte) (_, rest []byte, ok bool) {
	if len(raw) < 2 {
		return nil, nil, false
	}
	if i := strings.IndexByte(`"\/bfnrt`, raw[1]); i >= 0 {
		return append(text, "\"\\/\b\f\n\r\t"[i]), raw[2:], true
	}
	if raw[1] != 'u' || len(raw) < 6 {
		return nil, nil, false
	}
	var r rune
	for _, c := range raw[2:6] {
		i := strings.IndexByte("0123456789abcdef", c|0x20)
		if i < 0 {
			return nil, nil, false
		}
		r = r<<4 | rune(i)
	}
	if r >= 0xd800 && r < 0xe000 {
		return nil, nil, false
	}
	return utf8.AppendRune(text, r), raw[6:], true
}

// record is any json-file record.
type record struct {
	Log    string            `json:"log"`
	Stream string            `json:"stream"`
	Time   time.Time         `json:"time"`
	Attrs  map[string]string `json:"attrs"`
}

func decodeAny(line []byte) (*backend.LogMessage, bool) {
	var r record
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &r) != nil {
		return nil, false
	}
	m := &backend.LogMessage{Line: []byte(r.Log), Source: r.Stream, Timestamp: r.Time}
	for k, v := range r.Attrs {
		m.Attrs = append(m.Attrs, backend.LogAttr{Key: k, Value: v})
	}
	slices.SortFunc(m.Attrs, func(a, b backend.LogAttr) int { return strings.Compare(a.Key, b.Key) })
	return m, true
}
