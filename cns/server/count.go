package server

import (
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"

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
	s.tally.counts.add(qtype, m.Rcode)
}

// latency is how many answers took how long: the i-th number those of less than 2^i microseconds, and not less than
// half of that; the last one all that took longer.
type latency [slots]atomic.Uint64

// slots go up to 65 ms, and what took longer.
const slots = 18

// add counts answers that took no longer than a time, from when they were received to when they were sent.
func (l *latency) add(took time.Duration, n uint64) {
	l[min(bits.Len64(uint64(max(took, 0)/time.Microsecond)), len(l)-1)].Add(n)
}

// tally is what a worker counts by itself, so that none waits for another.
type tally struct {
	counts  *counts
	latency *latency
}

var (
	answersDesc = prometheus.NewDesc("nereid_dns_answers_total", "DNS answers of the name service by type asked for and code.", []string{"type", "code"}, nil)
	latencyDesc = prometheus.NewDesc("nereid_dns_answer_seconds", "Time from a request's reception over UDP to its answer: of the batch it came with, or in the queue of requests that take longer.", nil, nil)
	droppedDesc = prometheus.NewDesc("nereid_dns_dropped_total", "DNS requests not answered, or with nothing but the word to ask over TCP, by the limit that was reached.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{answersDesc, latencyDesc, droppedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	all := []tally{s.tally}
	for _, w := range s.workers {
		all = append(all, w.tally)
	}
	for qtype := range s.tally.counts {
		for code := range s.tally.counts[qtype] {
			n := uint64(0)
			for _, t := range all {
				n += t.counts[qtype][code].Load()
			}
			if n > 0 {
				ch <- prometheus.MustNewConstMetric(answersDesc, prometheus.CounterValue, float64(n), typeName(uint16(qtype)), codeName(code))
			}
		}
	}
	ch <- histogram(all)
	for reason, n := range map[string]*atomic.Uint64{"queue": &s.dropped.queue, "queries": &s.dropped.queries, "responses": &s.dropped.responses} {
		ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(n.Load()), reason)
	}
}

// histogram adds up what was counted. Its sum is that of the buckets' upper bounds: an answer's own time is not kept.
func histogram(all []tally) prometheus.Metric {
	n, sum := uint64(0), 0.0
	buckets := map[float64]uint64{}
	for i := range slots {
		bound := float64(uint64(1)<<i) / 1e6
		for _, t := range all {
			some := t.latency[i].Load()
			n += some
			sum += float64(some) * bound
		}
		if i < slots-1 {
			buckets[bound] = n
		}
	}
	return prometheus.MustNewConstHistogram(latencyDesc, n, sum, buckets)
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
