package server

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/cns/zone"
)

// Limits bound what a client's network gets: a /24 of IPv4, a /56 of IPv6, for who has one address there has more. The
// zero value bounds nothing.
type Limits struct {
	// Responses is how many equal answers a second a network gets over UDP. Whoever forges its address has us send it what
	// it did not ask for; a client that caches asks for none so often. Names that are not there count as one, per zone.
	Responses int
	// Slip is how many answers beyond that it takes for one that is sent empty and cut: a client that did ask then asks
	// over TCP. 0: none is.
	Slip int
	// Queries is how many questions a second a network may ask. Those beyond get no answer, and over TCP the end of the
	// connection.
	Queries int
	// Connections is how many it may have open at once.
	Connections int
	// Exempt are networks without limits.
	Exempt []netip.Prefix
}

// DefaultLimits are sensible for an address that the internet knows: the values are NSD's for equal answers, and far
// above what a resolver of many clients asks for the rest. Networks that nobody can forge from outside are exempt.
func DefaultLimits() Limits {
	l := Limits{Responses: 200, Slip: 2, Queries: 10_000, Connections: 32}
	for _, p := range []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"} {
		l.Exempt = append(l.Exempt, netip.MustParsePrefix(p))
	}
	return l
}

func (l *Limits) exempt(a netip.Addr) bool {
	for _, p := range l.Exempt {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// network is the one a client is in. The address is no IPv4 one in the form of IPv6.
func network(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 56
	}
	p, _ := a.Prefix(bits) // drops the zone
	return p
}

// meters count what networks get, each thing in a place that its hash leads to: memory is bounded, and whoever fills the
// places with others loses counts of a second.
type meters struct {
	seed  maphash.Seed
	begin time.Time
	place [meterBuckets][meterWays]atomic.Uint64
}

const (
	meterBuckets = 1 << 14
	meterWays    = 4
)

func newMeters() *meters { return &meters{seed: maphash.MakeSeed(), begin: time.Now()} }

// A place holds the upper bits of the hash and, in the lower ones, the time in microseconds until which what was given
// out is paid for at the rate allowed (GCRA, the virtual scheduling algorithm of ITU-T I.371).
const timeBits = 44 // half a year

// take takes one of perSecond that are allowed, with a second's worth at once; false: too many were taken. It does not
// allocate.
func (m *meters) take(what uint64, perSecond int, now time.Time) bool {
	const second, mask = 1_000_000, 1<<timeBits - 1
	t := uint64(now.Sub(m.begin).Microseconds()) & mask
	tag := what &^ mask
	bucket := &m.place[what%meterBuckets]
	at, oldest := 0, uint64(mask)
	for i := range bucket {
		v := bucket[i].Load()
		if v&^mask == tag {
			at = i
			break
		}
		if v&mask < oldest {
			at, oldest = i, v&mask
		}
	}
	for {
		v := bucket[at].Load()
		paid := max(v&mask, t)
		if v&^mask != tag || paid > t+2*second { // another's; or the clock's bits began anew
			paid = t
		}
		if paid > t+second {
			return false
		}
		if bucket[at].CompareAndSwap(v, tag|(paid+second/uint64(perSecond))&mask) {
			return true
		}
	}
}

// hash is that of something that a network gets; the zero subject is any question at all.
func (m *meters) hash(n netip.Prefix, what subject) uint64 {
	return maphash.Comparable(m.seed, struct {
		netip.Prefix
		subject
	}{n, what})
}

// subject is what an answer is about: the name and the type of its question, or when it has no records its zone and
// code.
type subject struct {
	name string // lower case
	what int    // a type, or a code as coded has it
}

func coded(code int) int { return -1 - code }

func subjectOf(m *dns.Msg) subject {
	switch {
	case len(m.Answer) > 0:
		return subject{zone.Canonical(m.Question[0].Name), int(m.Question[0].Qtype)}
	case len(m.Ns) > 0:
		return subject{zone.Canonical(m.Ns[0].Header().Name), coded(m.Rcode)}
	}
	return subject{"", coded(m.Rcode)}
}

// ration is what becomes of an answer.
type ration int

const (
	give ration = iota
	slip        // it is sent empty, and cut
	withhold
)

// ration judges an answer over UDP by what it is about, and counts what is not given.
func (s *Server) ration(from netip.Addr, about subject, now time.Time) ration {
	l := &s.cfg.Limits
	if l.Responses == 0 && l.Queries == 0 || l.exempt(from) {
		return give
	}
	n := network(from)
	if l.Queries > 0 && !s.meters.take(s.meters.hash(n, subject{}), l.Queries, now) {
		s.dropped.queries.Add(1)
		return withhold
	}
	if l.Responses == 0 || s.meters.take(s.meters.hash(n, about), l.Responses, now) {
		return give
	}
	if n := s.dropped.responses.Add(1); l.Slip > 0 && n%uint64(l.Slip) == 0 {
		return slip
	}
	return withhold
}

// mayAsk counts a question over TCP.
func (s *Server) mayAsk(from netip.Addr) bool {
	l := &s.cfg.Limits
	if l.Queries == 0 || l.exempt(from) || s.meters.take(s.meters.hash(network(from), subject{}), l.Queries, time.Now()) {
		return true
	}
	s.dropped.queries.Add(1)
	return false
}
