package logs

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestWhole(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		name  string
		data  string
		whole int
	}{
		{"nothing", "", 0},
		{"no end yet", "abc", 0},
		{"a line", "abc\n", 4},
		{"a line and more", "abc\nde", 4},
		{"as long as may be", x(maxLine-1) + "\n", maxLine},
		{"just too long", x(maxLine), maxLine},
		{"a piece and more", x(maxLine) + "yz", maxLine},
		{"pieces behind a line", "a\n" + x(2*maxLine+5), 2 + 2*maxLine},
		{"not within a character", x(maxLine-1) + "é", maxLine - 1},
		{"not within a long character", x(maxLine-3) + "🚀", maxLine - 3},
		{"bad bytes anywhere", x(maxLine-2) + "\xff\xff\xff", maxLine},
		{"bytes that continue nothing", x(maxLine-4) + "\x80\x80\x80\x80\x80", maxLine},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, Whole([]byte(tc.data)), tc.whole)
		})
	}
}
