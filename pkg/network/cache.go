package network

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

const (
	// cacheSize is the number of answers kept: about half a megabyte.
	cacheSize = 1024
	// maxTTL and maxNegativeTTL bound how long an answer is kept, whatever its server says: people move names and
	// expect to see it.
	maxTTL         = 5 * time.Minute
	maxNegativeTTL = 30 * time.Second
)

// cacheKey is a question with all that makes its answer differ. Accounts share nothing, not even what they asked.
type cacheKey struct {
	account nereid.Account
	inside  nereid.ContainerID // whose namespace it was asked from; empty: the host's
	servers string
	name    string
	qtype   uint16
	flags   [3]bool // RD, CD, DO
	edns    bool
	keep    bool // may be cached at all
}

func (r *resolver) cacheKey(query *dns.Msg, servers []netip.AddrPort, inside bool) cacheKey {
	q := query.Question[0]
	k := cacheKey{
		account: r.sb.opts.Account, servers: fmt.Sprint(servers), qtype: q.Qtype,
		name:  q.Name, // as written: clients that randomise case want it back as it was
		flags: [3]bool{query.RecursionDesired, query.CheckingDisabled, false},
		keep:  q.Qclass == dns.ClassINET,
	}
	if inside {
		k.inside = r.sb.id
	}
	if opt := query.IsEdns0(); opt != nil {
		k.edns, k.flags[2] = true, opt.Do()
		k.keep = k.keep && len(opt.Option) == 0
	}
	return k
}

// answerCache keeps answers of upstream servers as long as their TTL says. It may be used at once.
type answerCache struct {
	mu      sync.Mutex
	answers map[cacheKey]cached
}

type cached struct {
	m       *dns.Msg // never changed
	at, end time.Time
}

func newAnswerCache() *answerCache { return &answerCache{answers: map[cacheKey]cached{}} }

// get returns a copy with TTLs that have gone down by its age, or nil.
func (c *answerCache) get(k cacheKey, now time.Time) *dns.Msg {
	c.mu.Lock()
	a, ok := c.answers[k]
	if ok && !now.Before(a.end) {
		delete(c.answers, k)
		ok = false
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	m := a.m.Copy()
	age := uint32(now.Sub(a.at) / time.Second)
	eachRecord(m, func(h *dns.RR_Header) { h.Ttl -= min(age, h.Ttl) })
	return m
}

// put keeps a copy of an answer that may be kept.
func (c *answerCache) put(k cacheKey, m *dns.Msg, now time.Time) {
	ttl := keepFor(m)
	if !k.keep || ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) >= cacheSize {
		c.evictLocked(now)
	}
	c.answers[k] = cached{m: m.Copy(), at: now, end: now.Add(ttl)}
}

// evictLocked makes room: what has expired, and one more, whichever the map gives first.
func (c *answerCache) evictLocked(now time.Time) {
	for k, a := range c.answers {
		if !now.Before(a.end) {
			delete(c.answers, k)
		}
	}
	for k := range c.answers {
		if len(c.answers) < cacheSize {
			return
		}
		delete(c.answers, k)
	}
}

// keepFor is how long an answer may be kept: its smallest TTL, or what the zone says of names that are not there
// (RFC 2308, 5). Truncated and failed answers are not kept.
func keepFor(m *dns.Msg) time.Duration {
	if m.Truncated || (m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError) {
		return 0
	}
	least := maxTTL
	eachRecord(m, func(h *dns.RR_Header) { least = min(least, time.Duration(h.Ttl)*time.Second) })
	if len(m.Answer) > 0 {
		return least
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(least, time.Duration(soa.Minttl)*time.Second, maxNegativeTTL)
		}
	}
	return 0
}

func eachRecord(m *dns.Msg, do func(*dns.RR_Header)) {
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT { // its "TTL" is flags
				do(h)
			}
		}
	}
}
