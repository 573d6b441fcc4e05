package server_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/cnstest"
	"github.com/nereid-paas/nereid/cns/zone"
)

// rewrite prints questions.txt with the answers as they are, to be read with care before they become the ones wanted.
var rewrite = flag.String("rewrite", "", "file to write the questions with their answers to")

// asked is the request of a case.
func asked(t *testing.T, c cnstest.Case) *dns.Msg {
	t.Helper()
	qtype, ok := dns.StringToType[c.Type]
	if !ok {
		qtype, ok = 65280, c.Type == "TYPE65280"
	}
	assert.Assert(t, ok, c.Type)
	m := question(c.Name, qtype)
	m.RecursionDesired = false
	for class, n := range map[string]uint16{"CH": dns.ClassCHAOS, "HS": dns.ClassHESIOD} {
		if c.Has(class) {
			m.Question[0].Qclass = n
		}
	}
	if !c.Has("noedns") {
		m.SetEdns0(1232, c.Has("do"))
	}
	return m
}

// told is an answer in the form of questions.txt.
func told(m *dns.Msg) []string {
	lines := []string{strings.TrimSpace(dns.RcodeToString[m.Rcode] + flags(m))}
	for _, rr := range m.Answer {
		lines = append(lines, text(rr))
	}
	for section, rrs := range map[string][]dns.RR{";; AUTHORITY": m.Ns, ";; ADDITIONAL": m.Extra} {
		begun := false
		for _, rr := range rrs {
			if rr.Header().Rrtype == dns.TypeOPT {
				continue
			}
			if !begun {
				lines, begun = append(lines, section), true
			}
			lines = append(lines, text(rr))
		}
	}
	return lines
}

func flags(m *dns.Msg) string {
	var b strings.Builder
	for name, set := range map[string]bool{" aa": m.Authoritative} {
		if set {
			b.WriteString(name)
		}
	}
	if m.Truncated {
		b.WriteString(" tc")
	}
	return b.String()
}

// TestQuestionsAndAnswers asks what cnstest has: in memory, over UDP and over TCP.
func TestQuestionsAndAnswers(t *testing.T) {
	set, _, err := cnstest.Zones(20_000)
	assert.NilError(t, err)
	cases, err := cnstest.Cases()
	assert.NilError(t, err)
	if *rewrite != "" {
		rewriteQuestions(t, set, cases)
		return
	}
	assert.Assert(t, len(cases) >= 150, "%d cases", len(cases))
	s, addr := start(t, set)
	for _, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			if m, ours := s.Answer(t.Context(), asked(t, c)); ours && !c.Has("udp") {
				assert.Equal(t, cnstest.Canonical(told(m)), c.Want, c.Rule)
			} else if !ours {
				assert.Equal(t, c.Want, "REFUSED", c.Rule)
			}
			for _, network := range []string{"udp", "tcp"} {
				if other := map[string]string{"udp": "tcp", "tcp": "udp"}[network]; c.Has(other) {
					continue
				}
				got := cnstest.Canonical(told(ask(t, network, addr, asked(t, c))))
				assert.Assert(t, c.Is(got), "%s, over %s\ngot\n%s\nwant\n%s", c.Rule, network, got, c.Want)
			}
		})
	}
}

func rewriteQuestions(t *testing.T, set *zone.Set, cases []cnstest.Case) {
	t.Helper()
	_, addr := start(t, set)
	var out strings.Builder
	rule := ""
	for _, c := range cases {
		if c.Rule != rule {
			rule = c.Rule
			out.WriteString("\n# " + rule + "\n")
		}
		network := "udp"
		if c.Has("tcp") {
			network = "tcp"
		}
		m := ask(t, network, addr, asked(t, c))
		if m.Truncated && !c.Has("udp") {
			m = ask(t, "tcp", addr, asked(t, c))
			c.Options = append(c.Options, "tcp")
		}
		out.WriteString(strings.Join(append([]string{c.Name, c.Type}, c.Options...), " ") + "\n")
		for _, line := range strings.Split(cnstest.Canonical(told(m)), "\n") {
			out.WriteString("> " + line + "\n")
		}
	}
	assert.NilError(t, os.WriteFile(*rewrite, []byte(strings.TrimLeft(out.String(), "\n")), 0o644))
}
