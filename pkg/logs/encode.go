package logs

import (
	"encoding/binary"
	"math/bits"
	"time"
	"unicode/utf8"
)

// encoder appends records as Docker's json-file driver writes them: the same fields in the same order, the same
// escapes (those of encoding/json with HTML escaping), the same form of time. It does not allocate.
type encoder struct {
	attrs  []byte // JSON object, or nil
	second int64  // what clock is for
	clock  [len("2006-01-02T15:04:05")]byte
}

// record appends one record with its newline. Line is without newline; ended says that it had one.
func (e *encoder) record(to []byte, stream string, line []byte, ended bool, nanos int64) []byte {
	to = append(to, '{')
	if len(line) > 0 || ended {
		to = append(to, `"log":"`...)
		to = appendEscaped(to, line)
		if ended {
			to = append(to, '\\', 'n')
		}
		to = append(to, '"', ',')
	}
	to = append(to, `"stream":"`...)
	to = append(to, stream...)
	to = append(to, '"', ',')
	if e.attrs != nil {
		to = append(to, `"attrs":`...)
		to = append(to, e.attrs...)
		to = append(to, ',')
	}
	to = append(to, `"time":"`...)
	to = e.time(to, nanos)
	return append(to, "\"}\n"...)
}

// time appends RFC 3339 in UTC with as many digits of the second as there are, none of them a last zero.
func (e *encoder) time(to []byte, nanos int64) []byte {
	second, frac := nanos/1e9, nanos%1e9
	if second != e.second || e.clock[0] == 0 {
		e.second = second
		time.Unix(second, 0).UTC().AppendFormat(e.clock[:0], "2006-01-02T15:04:05")
	}
	to = append(to, e.clock[:]...)
	if frac == 0 {
		return append(to, 'Z')
	}
	digits := 9
	for ; frac%10 == 0; frac /= 10 {
		digits--
	}
	to = append(to, ".000000000"[:digits+1]...)
	for i := len(to) - 1; frac > 0; frac /= 10 {
		to[i] = byte('0' + frac%10)
		i--
	}
	return append(to, 'Z')
}

// Words of eight equal bytes, to look at eight characters at once.
const (
	ones = 0x0101010101010101
	tops = 0x8080808080808080
)

// hasByte has the top bit of every byte set that is b in w, given that no byte of w has its own top bit set; bytes
// behind the first such may be set wrongly, which does not matter to who looks for the first.
func hasByte(w uint64, b byte) uint64 {
	x := w ^ ones*uint64(b)
	return (x - ones) &^ x & tops
}

// plain says how many of the first bytes stand for themselves in a JSON string.
func plain(s []byte) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		odd := w&tops | (w-ones*0x20)&^w&tops | hasByte(w, '"') | hasByte(w, '\\') |
			hasByte(w, '<') | hasByte(w, '>') | hasByte(w, '&')
		if odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
	}
	for ; i < len(s) && standsForItself(s[i]); i++ {
	}
	return i
}

func standsForItself(b byte) bool {
	switch b {
	case '"', '\\', '<', '>', '&':
		return false
	}
	return b >= 0x20 && b < utf8.RuneSelf
}

const hexDigits = "0123456789abcdef"

func appendEscaped(to, s []byte) []byte {
	for {
		n := plain(s)
		to = append(to, s[:n]...)
		s = s[n:]
		if len(s) == 0 {
			return to
		}
		if s[0] < utf8.RuneSelf {
			to = appendEscapedByte(to, s[0])
			s = s[1:]
			continue
		}
		n = multibyte(s)
		if n > 0 {
			to = append(to, s[:n]...)
			s = s[n:]
			continue
		}
		to, n = appendEscapedRune(to, s)
		s = s[n:]
	}
}

// multibyte says how many of the first bytes are characters of several bytes that stand for themselves.
func multibyte(s []byte) int {
	i := 0
	for i < len(s) && s[i] >= utf8.RuneSelf {
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			break
		}
		i += size
	}
	return i
}

func appendEscapedByte(to []byte, b byte) []byte {
	switch b {
	case '\\', '"':
		return append(to, '\\', b)
	case '\n':
		return append(to, '\\', 'n')
	case '\r':
		return append(to, '\\', 'r')
	}
	return append(to, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&0xf])
}

// appendEscapedRune writes what JSON in a page of HTML must not hold as it is, and a bad byte as U+FFFD.
func appendEscapedRune(to, s []byte) ([]byte, int) {
	r, size := utf8.DecodeRune(s)
	if r == utf8.RuneError {
		return append(to, `\ufffd`...), size
	}
	return append(to, '\\', 'u', '2', '0', '2', hexDigits[r&0xf]), size
}
