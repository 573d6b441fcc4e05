package server

import (
	"strconv"
	"sync/atomic"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Types with a higher number, and codes with one, are counted together: what clients make up must cost no memory.
const (
	countedTypes = 256
	countedCodes = 24
)

// counts are the answers given, by type and code. The zero type is all that are not counted by themselves.
type counts [countedTypes][countedCodes]atomic.Uint64

// add counts an answer. It may be called at once from anywhere and does not allocate.
func (c *counts) add(qtype uint16, code int) {
	if qtype >= countedTypes {
		qtype = 0
	}
	c[qtype][min(max(code, 0), countedCodes-1)].Add(1)
}

// count counts the answer to a request.
func (s *Server) count(req, m *dns.Msg) {
	qtype := uint16(0)
	if len(req.Question) == 1 && req.Opcode == dns.OpcodeQuery {
		qtype = req.Question[0].Qtype
	}
	s.counts.add(qtype, m.Rcode)
}

var answersDesc = prometheus.NewDesc("nereid_dns_answers_total", "DNS answers of the name service by type asked for and code.", []string{"type", "code"}, nil)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) { ch <- answersDesc }

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	for qtype := range s.counts {
		for code := range s.counts[qtype] {
			if n := s.counts[qtype][code].Load(); n > 0 {
				ch <- prometheus.MustNewConstMetric(answersDesc, prometheus.CounterValue, float64(n), typeName(uint16(qtype)), codeName(code))
			}
		}
	}
}

func typeName(qtype uint16) string {
	if name, ok := dns.TypeToString[qtype]; ok && qtype != 0 {
		return name
	}
	return "other"
}

func codeName(code int) string {
	if name, ok := dns.RcodeToString[code]; ok {
		return name
	}
	return strconv.Itoa(code)
}
