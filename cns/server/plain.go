package server

import (
	"encoding/binary"
	"unsafe"

	"github.com/miekg/dns"
)

// headerSize is that of a message's header (RFC 1035, section 4.1.1), optSize that of an OPT record without options.
const (
	headerSize = 12
	optSize    = 11
)

// Bits of the third and fourth octet of a header.
const (
	bitResponse, bitOpcode, bitAuthoritative, bitTruncated, bitRecursion = 0x80, 0x78, 0x04, 0x02, 0x01
	bitNoCheck                                                           = 0x10
)

// plain is a request that is one question of class IN, with an OPT record or none: nearly all. A worker
// reads one after the other into the same.
type plain struct {
	id       [2]byte
	flags    [2]byte
	question []byte // of the request: name, type, class; as the client spelled it
	qtype    uint16
	edns, do bool
	size     int // of the largest answer over UDP

	key  []byte // see answer.key
	text []byte // the name fully qualified, in lower case, as zones have it
}

// read takes in a request and tells whether it is a plain one, of a name of letters, digits, hyphens and underscores. It
// does not allocate.
func (q *plain) read(p []byte) bool {
	if len(p) < headerSize+5 || p[2]&(bitResponse|bitOpcode) != 0 ||
		binary.BigEndian.Uint32(p[4:]) != 1<<16 || p[8] != 0 || p[9] != 0 || p[10] != 0 || p[11] > 1 {
		return false
	}
	at := q.readName(p)
	if at == 0 || len(p) < at+4 {
		return false
	}
	q.qtype = binary.BigEndian.Uint16(p[at:])
	if binary.BigEndian.Uint16(p[at+2:]) != dns.ClassINET {
		return false
	}
	at += 4
	q.question = p[headerSize:at]
	q.edns, q.do, q.size = false, false, dns.MinMsgSize
	if p[11] == 1 {
		if !q.readOPT(p[at:]) {
			return false
		}
	} else if at != len(p) {
		return false
	}
	copy(q.id[:], p)
	copy(q.flags[:], p[2:])
	do := byte(0)
	if q.do {
		do = 1
	}
	q.key = append(q.key, byte(q.qtype>>8), byte(q.qtype), do)
	return true
}

// readName reads the name of the question; 0: it is no name that zones have.
func (q *plain) readName(p []byte) (end int) {
	q.key, q.text = q.key[:0], q.text[:0]
	at := headerSize
	for {
		n := int(p[at])
		if n > 63 || at+n+1 >= len(p) || at+n+1-headerSize >= 255 {
			return 0
		}
		q.key = append(q.key, byte(n))
		at++
		if n == 0 {
			break
		}
		for _, c := range p[at : at+n] {
			if c = lower[c]; c == 0 {
				return 0
			}
			q.key, q.text = append(q.key, c), append(q.text, c)
		}
		q.text = append(q.text, '.')
		at += n
	}
	if len(q.text) == 0 {
		q.text = append(q.text, '.')
	}
	return at
}

// readOPT takes in the request's only additional record, which must be an OPT record of version 0 (RFC 6891, section
// 6.1.2) and the last there is. Of its options the one that is answered makes the request no plain one.
func (q *plain) readOPT(r []byte) bool {
	if len(r) < optSize || r[0] != 0 || binary.BigEndian.Uint16(r[1:]) != dns.TypeOPT || r[5] != 0 || r[6] != 0 ||
		int(binary.BigEndian.Uint16(r[9:])) != len(r)-optSize {
		return false
	}
	for options := r[optSize:]; len(options) > 0; {
		if len(options) < 4 || binary.BigEndian.Uint16(options) == dns.EDNS0NSID {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if n > len(options) {
			return false
		}
		options = options[n:]
	}
	q.edns, q.do = true, r[7]&0x80 != 0
	q.size = min(max(int(binary.BigEndian.Uint16(r[3:])), dns.MinMsgSize), udpSize)
	return true
}

// name is q.text, good until the next request is read.
func (q *plain) name() string { return unsafe.String(unsafe.SliceData(q.text), len(q.text)) }

// lower maps what names of ours are made of to lower case, and all else to 0.
var lower = func() (t [256]byte) {
	for c := range 256 {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			t[c] = byte(c)
		case c >= 'A' && c <= 'Z':
			t[c] = byte(c) + 'a' - 'A'
		}
	}
	return t
}()

// reply begins an answer: header without counts, and the question.
func (q *plain) reply(out []byte, flags byte, code int) []byte {
	out = append(out, q.id[0], q.id[1], bitResponse|flags|q.flags[0]&bitRecursion, q.flags[1]&bitNoCheck|byte(code), 0, 1, 0, 0, 0, 0, 0, 0)
	return append(out, q.question...)
}

// finish ends an answer that has so many records in its sections.
func (q *plain) finish(out []byte, answer, authority, additional uint16) []byte {
	if q.edns {
		additional++
		flags := byte(0)
		if q.do {
			flags = 0x80
		}
		out = append(out, 0, 0, byte(dns.TypeOPT), byte(udpSize>>8), byte(udpSize&0xff), 0, 0, flags, 0, 0, 0)
	}
	binary.BigEndian.PutUint16(out[6:], answer)
	binary.BigEndian.PutUint16(out[8:], authority)
	binary.BigEndian.PutUint16(out[10:], additional)
	return out
}
