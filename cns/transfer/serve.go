package transfer

import (
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/wire"
	"github.com/nereid-paas/nereid/cns/zone"
)

// messageSize is how much goes into one message of a transfer before compression: large enough that headers and
// signatures do not count, small enough for compression pointers to reach most of it (RFC 1035, section 4.1.4).
const messageSize = 24 << 10

// fudge is how far clocks of those who share a key may differ, in seconds (RFC 8945, section 10).
const fudge = 300

// ServeTransfer answers a question for AXFR or IXFR. A signature on it has been verified.
func (t *Transfers) ServeTransfer(w dns.ResponseWriter, req *dns.Msg) {
	o := &out{w: w, req: req}
	q := req.Question[0]
	apex := zone.Canonical(q.Name)
	key := ""
	if sig := req.IsTsig(); sig != nil {
		key = dns.CanonicalName(sig.Hdr.Name)
	}
	settings, _ := t.cfg.View.Zone(apex)
	from := remote(w.RemoteAddr())
	if !may(settings, from, key) {
		t.count.refused.Add(1)
		t.cfg.Log.Debug("transfer refused", zap.String("zone", apex), zap.Stringer("from", from), zap.String("key", key))
		o.fail(dns.RcodeRefused)
		return
	}
	set, z, h := t.current(apex)
	switch {
	case set == nil:
		o.fail(dns.RcodeNotAuth)
		return
	case t.holdsBack(h):
		o.fail(dns.RcodeServerFailure)
		return
	}
	tcp := w.RemoteAddr().Network() == "tcp"
	switch {
	case q.Qtype == dns.TypeIXFR:
		t.changes(o, set, z, h, tcp)
	case !tcp: // RFC 5936, section 4.2
		o.fail(dns.RcodeRefused)
	default:
		t.count.full.Add(1)
		t.whole(o, set, z)
	}
}

// changes answers a question for IXFR (RFC 1995, section 4): with the changes since the client's serial where they are
// known and shorter than the zone, else with the whole zone.
func (t *Transfers) changes(o *out, set *zone.Set, z *zone.Authority, h *history, tcp bool) {
	if len(o.req.Ns) == 0 {
		o.fail(dns.RcodeFormatError)
		return
	}
	theirs, ok := o.req.Ns[0].(*dns.SOA)
	if !ok {
		o.fail(dns.RcodeFormatError)
		return
	}
	diffs, known := t.since(h, z, theirs.Serial)
	n := 0
	for _, d := range diffs {
		n += size(d)
	}
	switch {
	case known && n == 0, !tcp: // nothing new, or to be asked for over TCP
		t.count.current.Add(1)
		o.add(z.SOA())
		o.end(t.cfg.Log)
	case !known || n > 2*set.Names(z.Apex)+minDiff:
		t.count.full.Add(1)
		t.whole(o, set, z)
	default:
		t.count.incremental.Add(1)
		t.stream(o, func(send func(record.Record) bool) {
			send(z.SOA())
			for _, d := range diffs {
				for _, r := range d.Removed {
					send(r)
				}
				for _, r := range d.Added {
					if !send(r) {
						return
					}
				}
			}
			send(z.SOA())
		})
	}
}

// minDiff is a number of records that is sent as changes however small the zone is.
const minDiff = 64

// whole answers with all of a zone (RFC 5936, section 2.2).
func (t *Transfers) whole(o *out, set *zone.Set, z *zone.Authority) {
	t.stream(o, func(send func(record.Record) bool) {
		set.Each(z.Apex, send)
		send(z.SOA())
	})
}

// stream sends records while there are slots for it.
func (t *Transfers) stream(o *out, each func(send func(record.Record) bool)) {
	select {
	case t.slots <- struct{}{}:
	default: // the client will try again
		o.fail(dns.RcodeServerFailure)
		return
	}
	defer func() { <-t.slots }()
	each(o.add)
	o.end(t.cfg.Log)
}

// out is an answer of several messages.
type out struct {
	w    dns.ResponseWriter
	req  *dns.Msg
	m    *dns.Msg // being filled
	size int
	sent int // messages
	err  error
}

// add sends a record, sooner or later, and tells whether there is still somebody who takes it.
func (o *out) add(r record.Record) bool {
	if o.err != nil {
		return false
	}
	if o.m == nil {
		o.begin()
	}
	o.m.Answer = append(o.m.Answer, wire.RR(r, r.Name))
	if o.size += len(r.Name) + len(r.Target) + len(r.Data) + 32; o.size > messageSize {
		o.flush()
	}
	return o.err == nil
}

func (o *out) begin() {
	o.m, o.size = new(dns.Msg), 0
	o.m.SetReply(o.req)
	o.m.Authoritative, o.m.Compress = true, true
	if o.sent > 0 {
		o.m.Question = nil // RFC 5936, section 2.2.1
	}
}

func (o *out) flush() {
	if o.m == nil || o.err != nil {
		return
	}
	Sign(o.m, o.req)
	o.w.TsigTimersOnly(o.sent > 0)
	o.err = o.w.WriteMsg(o.m)
	o.m = nil
	o.sent++
}

func (o *out) end(log *zap.Logger) {
	o.flush()
	if o.err != nil {
		log.Info("transfer not finished", zap.Stringer("to", o.w.RemoteAddr()), zap.Error(o.err))
	}
}

// fail answers with a code alone.
func (o *out) fail(code int) {
	o.begin()
	o.m.Authoritative = false
	o.m.Rcode = code
	o.flush()
}

// Sign marks an answer to be signed as its request was.
func Sign(m, req *dns.Msg) {
	if sig := req.IsTsig(); sig != nil {
		m.SetTsig(sig.Hdr.Name, sig.Algorithm, fudge, time.Now().Unix())
	}
}

func soaRR(z *zone.Authority) dns.RR { return wire.RR(z.SOA(), z.Apex) }
