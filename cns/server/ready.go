package server

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// answer is one made ready: octets that need only the request's header and question before them. It never changes, but
// for seen.
type answer struct {
	// key is the name in wire form and lower case, the type, and 1 or 0 for signatures wanted or not.
	key                            string
	flags                          byte // of the header's third octet
	answers, authority, additional uint16
	body                           []byte // the records, but for OPT
	// starts are where the records that take turns begin in body, and where the last of them ends; none when they do not.
	starts []uint32
	links  []link
	// many are the records that take turns, for requests whose answers have no room for all of them; nil: there is always.
	many *turning

	// The answer holds for the set of generation seen, and for every other where the zones and what is at these names are
	// the same.
	seen   atomic.Uint64
	layout uint64
	rests  []rest
}

// link is a compression pointer in body that leads to one of the records that take turns.
type link struct{ at, to uint16 } // both in body

// turning are records that take turns, one after the other as they follow a question.
type turning struct {
	body   []byte
	starts []uint32 // of each record in body, which may be larger than any message, and the end of the last one
}

// rest is what an answer rests on.
type rest struct {
	name string
	zone.Version
}

// holds tells whether the answer is the one of a set.
func (a *answer) holds(set *zone.Set) bool {
	if a.seen.Load() == set.Generation() {
		return true
	}
	if a.layout != set.Layout() {
		return false
	}
	for i := range a.rests {
		if set.Version(a.rests[i].name) != a.rests[i].Version {
			return false
		}
	}
	a.seen.Store(set.Generation())
	return true
}

// fits tells whether the answer is what a request gets over UDP: there is one form of it, cut to udpSize if need be.
func (a *answer) fits(q *plain) bool {
	if !q.edns {
		return a.flags&bitTruncated == 0 && headerSize+len(q.question)+len(a.body) <= q.size
	}
	return q.size == udpSize || a.flags&bitTruncated == 0 && headerSize+len(q.question)+len(a.body)+optSize <= q.size
}

// write appends the answer to a request, beginning with another record each turn.
func (a *answer) write(out []byte, q *plain, turn uint64) []byte {
	out = q.reply(out, a.flags, dns.RcodeSuccess)
	begin := len(out)
	n := len(a.starts) - 1
	if n < 2 {
		out = append(out, a.body...)
		return q.finish(out, a.answers, a.authority, a.additional)
	}
	first := int(turn % uint64(n))
	middle, end := uint16(a.starts[first]), uint16(a.starts[n]) // a whole answer has no more than udpSize
	out = append(out, a.body[middle:end]...)
	out = append(out, a.body[:middle]...)
	out = append(out, a.body[end:]...)
	for _, l := range a.links {
		to := l.to
		if to >= middle {
			to -= middle
		} else {
			to += end - middle
		}
		binary.BigEndian.PutUint16(out[begin+int(l.at):], 0xc000|uint16(begin)+to)
	}
	return q.finish(out, a.answers, a.authority, a.additional)
}

// cut appends as many records to an answer as a request has room for, beginning with another one each turn, and says that
// there are more. Nothing: all have room, so that there are others to be left out.
func (m *turning) cut(out []byte, q *plain, turn uint64) []byte {
	out = q.reply(out, bitAuthoritative|bitTruncated, dns.RcodeSuccess)
	room := q.size
	if q.edns {
		room -= optSize
	}
	all := len(m.starts) - 1
	for n := range all {
		i := (int(turn%uint64(all)) + n) % all
		r := m.body[m.starts[i]:m.starts[i+1]]
		if len(out)+len(r) > room {
			return q.finish(out, uint16(n), 0, 0)
		}
		out = append(out, r...)
	}
	return nil
}

// Answers that were made ready are kept in ways places each, so many buckets: what a fleet's clients ask for at a time.
// The others are made ready again when they are asked for. A place taken costs some 400 octets.
const (
	buckets = 1 << 15
	ways    = 4
)

// answers are those made ready. Its methods may be called at once from anywhere.
type answers struct {
	seed  maphash.Seed
	place [buckets][ways]atomic.Pointer[answer]
}

func newAnswers() *answers { return &answers{seed: maphash.MakeSeed()} }

// find is the answer for a key as of a set; nil: there is none. It does not allocate.
func (c *answers) find(key []byte, set *zone.Set) *answer {
	bucket := &c.place[maphash.Bytes(c.seed, key)%buckets]
	for i := range bucket {
		if a := bucket[i].Load(); a != nil && a.key == string(key) {
			if a.holds(set) {
				return a
			}
			return nil
		}
	}
	return nil
}

// keep stores an answer, in the place of the one with its key, in a free one, or in any.
func (c *answers) keep(a *answer) {
	h := maphash.String(c.seed, a.key)
	bucket := &c.place[h%buckets]
	at := int(a.seen.Load()+h/buckets) % ways
	for i := range bucket {
		old := bucket[i].Load()
		if old == nil {
			at = i
			continue
		}
		if old.key == a.key {
			at = i
			break
		}
	}
	bucket[at].Store(a)
}

// ready makes the answer to a request ready; nil: it has none, or one that is not kept.
func ready(set *zone.Set, q *plain) *answer {
	name := string(q.text)
	m := new(dns.Msg).SetQuestion(name, q.qtype)
	req := m.Copy()
	m.SetReply(req)
	m.Compress = true
	m.SetEdns0(udpSize, q.do)
	r := lookup(set, name, record.Type(q.qtype), m.IsEdns0())
	if r.Verdict != zone.Answer {
		return nil
	}
	fill(m, r, name)
	turns := len(r.Answer)
	if turns < 2 || r.Answer[0].Type == record.CNAME {
		turns = 0
	}
	var many *turning
	if turns > 0 && turns == len(m.Answer) {
		many = takeTurns(m, len(q.question))
	}
	m.Truncate(udpSize)
	m.Extra = m.Extra[:len(m.Extra)-1] // all but OPT
	m.Compress = true
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	a := &answer{
		key: string(q.key), flags: packed[2] & (bitAuthoritative | bitTruncated), body: packed[headerSize+len(q.question):],
		answers: uint16(len(m.Answer)), authority: uint16(len(m.Ns)), additional: uint16(len(m.Extra)),
		layout: set.Layout(), rests: restsOn(set, name, r), many: many,
	}
	a.seen.Store(set.Generation())
	if turns > 0 && !m.Truncated && !a.turn(turns, uint16(headerSize+len(q.question))) {
		return nil
	}
	return a
}

// takeTurns are the records of an answer without signatures, if they are more than the smallest answer over UDP has room
// for; nil: they are not, or cannot take turns.
func takeTurns(m *dns.Msg, question int) *turning {
	alone := &dns.Msg{MsgHdr: m.MsgHdr, Compress: true, Question: m.Question, Answer: m.Answer}
	packed, err := alone.Pack()
	if err != nil || len(packed) <= dns.MinMsgSize {
		return nil
	}
	a := answer{body: packed[headerSize+question:], answers: uint16(len(m.Answer))}
	if !a.turn(len(m.Answer), uint16(headerSize+question)) {
		return nil
	}
	return &turning{a.body, a.starts}
}

// restsOn are the names that an answer depends on.
func restsOn(set *zone.Set, name string, r zone.Result) []rest {
	all := []rest{{name, set.Version(name)}}
	seen := map[string]bool{name: true}
	for _, rr := range r.Answer {
		for _, n := range []string{rr.Name, rr.Target} {
			if n != "" && !seen[n] {
				seen[n] = true
				all = append(all, rest{n, set.Version(n)})
			}
		}
	}
	return all
}

// turn lets the first n records take turns, in a message whose records begin at an offset; false: they cannot, because
// names in them are compressed.
func (a *answer) turn(n int, offset uint16) bool {
	at := 0
	var last uint16
	for i := range int(a.answers) + int(a.authority) + int(a.additional) {
		if i <= n {
			a.starts = append(a.starts, uint32(at))
		}
		if i == n {
			last = uint16(at)
		}
		// The name: labels, and a pointer perhaps.
		for a.body[at] != 0 && a.body[at] < 0xc0 {
			at += int(a.body[at]) + 1
		}
		if a.body[at] >= 0xc0 {
			if to := binary.BigEndian.Uint16(a.body[at:]) & 0x3fff; to >= offset {
				if i < n {
					return false
				}
				if to-offset < last {
					a.links = append(a.links, link{uint16(at), to - offset})
				}
			}
			at++
		}
		at++
		switch binary.BigEndian.Uint16(a.body[at:]) {
		case dns.TypeNS, dns.TypePTR, dns.TypeCNAME, dns.TypeSOA: // the only ones with names that are compressed (RFC 3597, section 4)
			return false
		}
		at += 10 + int(binary.BigEndian.Uint16(a.body[at+8:]))
	}
	if len(a.starts) == n {
		a.starts = append(a.starts, uint32(at))
	}
	return true
}
