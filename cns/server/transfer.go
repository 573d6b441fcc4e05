package server

import (
	"errors"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// Transfers gives zones to other name servers, and knows the keys shared with them. Its methods may be called at once.
type Transfers interface {
	dns.TsigProvider
	// ServeTransfer answers a question for AXFR or IXFR, whatever the answer is. It blocks while the client takes it.
	ServeTransfer(w dns.ResponseWriter, req *dns.Msg)
}

// fudge is how far clocks of those who share a key may differ, in seconds (RFC 8945, section 10).
const fudge = 300

// asksTransfer tells whether a request is for a transfer.
func asksTransfer(req *dns.Msg) bool {
	return req.Opcode == dns.OpcodeQuery && len(req.Question) == 1 && req.Question[0].Qclass == dns.ClassINET &&
		(req.Question[0].Qtype == dns.TypeAXFR || req.Question[0].Qtype == dns.TypeIXFR)
}

// special answers what is more than a question: requests whose signature is wrong, and transfers. False: it is neither.
func (s *Server) special(w dns.ResponseWriter, req *dns.Msg) bool {
	if req.Response || s.cfg.Transfers == nil {
		return false
	}
	if sig := req.IsTsig(); sig != nil && w.TsigStatus() != nil {
		s.badSignature(w, req, sig)
		return true
	}
	if asksTransfer(req) {
		s.cfg.Transfers.ServeTransfer(w, req)
		return true
	}
	return false
}

// badSignature says what is wrong with a signature (RFC 8945, section 5.2); the answer is signed only when the key is
// known to both.
func (s *Server) badSignature(w dns.ResponseWriter, req *dns.Msg, sig *dns.TSIG) {
	code := uint16(dns.RcodeBadSig)
	switch err := w.TsigStatus(); {
	case errors.Is(err, dns.ErrTime):
		code = dns.RcodeBadTime
	case errors.Is(err, dns.ErrSecret):
		code = dns.RcodeBadKey
	}
	s.log.Debug("badly signed request", zap.Stringer("from", w.RemoteAddr()), zap.String("key", sig.Hdr.Name), zap.String("error", dns.RcodeToString[int(code)]))
	m := new(dns.Msg).SetRcode(req, dns.RcodeNotAuth)
	m.Extra = append(m.Extra, &dns.TSIG{
		Hdr:        dns.RR_Header{Name: sig.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm:  sig.Algorithm,
		TimeSigned: sig.TimeSigned,
		Fudge:      fudge,
		OrigId:     req.Id,
		Error:      code,
	})
	if code == dns.RcodeBadTime {
		t := m.Extra[len(m.Extra)-1].(*dns.TSIG)
		t.OtherLen, t.OtherData = 6, otherTime(time.Now())
	}
	s.write(w, m)
}

// otherTime is our clock in the form of RFC 8945, section 5.2.3: 48 bits, in hex.
func otherTime(now time.Time) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 12)
	for i, t := 11, uint64(now.Unix()); i >= 0; i, t = i-1, t>>4 {
		out[i] = digits[t&15]
	}
	return string(out)
}

// signed marks an answer to be signed as its request was, and tells how much room the signature takes.
func (s *Server) signed(m, req *dns.Msg) (room int) {
	sig := req.IsTsig()
	if sig == nil || s.cfg.Transfers == nil {
		return 0
	}
	m.SetTsig(sig.Hdr.Name, sig.Algorithm, fudge, time.Now().Unix())
	return dns.Len(m.Extra[len(m.Extra)-1]) + maxMAC
}

// maxMAC is the longest signature: that of HMAC-SHA512.
const maxMAC = 64
