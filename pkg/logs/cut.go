package logs

import (
	"bytes"
	"unicode/utf8"
)

// maxLine is where Docker splits a line: the size of its copier's buffer.
const maxLine = 16 << 10

// Whole says how many of the bytes are whole records: lines, and pieces of lines too long. The rest waits for more
// output, or for the end.
func Whole(data []byte) int {
	whole := bytes.LastIndexByte(data, '\n') + 1
	for len(data)-whole >= maxLine {
		n, _ := cut(data[whole:])
		whole += n
	}
	return whole
}

// cut gives the length of the first record of data, its newline included, and whether it has one. A line too long is
// split between two characters, where that does not make the piece shorter than any character is long.
func cut(data []byte) (n int, ended bool) {
	head := data[:min(len(data), maxLine)]
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		return i + 1, true
	}
	if len(data) < maxLine {
		return len(data), false
	}
	return maxLine - brokenRune(head), false
}

// brokenRune says how many bytes at the end of head begin a character that goes on behind it.
func brokenRune(head []byte) int {
	for n := 1; n < utf8.UTFMax; n++ {
		b := head[len(head)-n]
		if utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(head[len(head)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}
