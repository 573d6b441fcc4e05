package stdio

import (
	"testing"

	"gotest.tools/v3/assert"
)

func TestDetachKeys(t *testing.T) {
	for _, tc := range []struct {
		name     string
		keys     string
		typed    []string
		out      string
		detached bool
	}{
		{"none typed", "\x10\x11", []string{"ls\n"}, "ls\n", false},
		{"at once", "\x10\x11", []string{"\x10\x11"}, "", true},
		{"behind input", "\x10\x11", []string{"ls\x10\x11more"}, "ls", true},
		{"one by one", "\x10\x11", []string{"a", "\x10", "\x11"}, "a", true},
		{"only begun", "\x10\x11", []string{"a\x10", "b"}, "a\x10b", false},
		{"the first twice is passed on", "\x10\x11", []string{"\x10", "\x10", "\x11"}, "\x10\x10\x11", false},
		{"a single key", "q", []string{"abq"}, "ab", true},
		{"held at the end", "\x10\x11", []string{"a\x10"}, "a\x10", false},
		{"no keys", "", []string{"\x10\x11"}, "\x10\x11", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := detachKeys{keys: []byte(tc.keys)}
			out, detached := "", false
			for _, s := range tc.typed {
				var o []byte
				o, detached = d.filter([]byte(s))
				out += string(o)
			}
			if !detached {
				out += string(d.held())
			}
			assert.Equal(t, out, tc.out)
			assert.Equal(t, detached, tc.detached)
		})
	}
}
