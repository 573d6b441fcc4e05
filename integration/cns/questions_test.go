//go:build integration

package cns

import (
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/cnstest"
	"github.com/nereid-paas/nereid/cns/server"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/zone"
)

// fixed is a source of zones that do not change.
type fixed struct{ set *zone.Set }

func (f fixed) Zones() *zone.Set { return f.set }

// TestQuestionsWithDigAndDrill asks what cnstest has with the tools of BIND and of NLnet Labs, over UDP and TCP.
func TestQuestionsWithDigAndDrill(t *testing.T) {
	set, _, err := cnstest.Zones(sign.Epoch(time.Now()))
	assert.NilError(t, err)
	cases, err := cnstest.Cases()
	assert.NilError(t, err)
	s := server.New(fixed{set}, server.Config{Listen: []string{"127.0.0.1:0"}}, zap.NewNop())
	assert.NilError(t, s.Listen(t.Context()))
	background(t, s.Run, nil)
	at := netip.MustParseAddrPort(s.Addrs()[0].String())
	asked := 0
	for _, c := range cases {
		for tool, args := range map[string]func(cnstest.Case, netip.AddrPort, string) []string{"dig": digArgs, "drill": drillArgs} {
			for transport, other := range map[string]string{"udp": "tcp", "tcp": "udp"} {
				if c.Has(other) || c.Type == "AXFR" || tool == "drill" && strings.HasSuffix(c.Want, " tc") { // drill asks again by itself
					continue
				}
				asked++
				out, err := exec.CommandContext(t.Context(), tool, args(c, at, transport)...).CombinedOutput()
				assert.NilError(t, err, "%s: %s", c, out)
				assert.Check(t, c.Is(cnstest.Canonical(printed(string(out)))), "%s over %s, %s\n%s\nwant\n%s\ngot\n%s",
					tool, transport, c, c.Rule, c.Want, out)
			}
		}
	}
	t.Logf("%d cases, asked %d times", len(cases), asked)
}

func digArgs(c cnstest.Case, at netip.AddrPort, transport string) []string {
	args := []string{"@" + at.Addr().String(), "-p", strconv.Itoa(int(at.Port())), "+noall", "+comments", "+answer", "+authority", "+additional",
		"+nocookie", "+norec", "+tries=1", "+time=60", "+ignore"}
	if transport == "tcp" {
		args = append(args, "+tcp")
	} else {
		args = append(args, "+notcp")
	}
	switch {
	case c.Has("noedns"):
		args = append(args, "+noedns")
	case c.Has("do"):
		args = append(args, "+dnssec", "+bufsize=1232")
	}
	return append(args, question(c, "-q", "-t", "-c")...)
}

func drillArgs(c cnstest.Case, at netip.AddrPort, transport string) []string {
	args := []string{"-p", strconv.Itoa(int(at.Port())), "-o", "rd"}
	if transport == "tcp" {
		args = append(args, "-t")
	} else {
		args = append(args, "-u")
	}
	if c.Has("do") {
		args = append(args, "-D")
	}
	return append(append(args, "@"+at.Addr().String()), question(c, "", "", "")...)
}

// question is a case's name, type and class as arguments.
func question(c cnstest.Case, name, typ, class string) []string {
	var args []string
	add := func(flag, value string) {
		if flag != "" {
			args = append(args, flag)
		}
		args = append(args, value)
	}
	add(name, c.Name)
	add(typ, c.Type)
	for _, other := range []string{"CH", "HS"} {
		if c.Has(other) {
			add(class, other)
		}
	}
	return args
}

// printed is what either tool printed, in the form of questions.txt.
func printed(out string) []string {
	var lines []string
	code, flags, section := "", "", ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case strings.Contains(line, "->>HEADER<<-"):
			for _, key := range []string{"status: ", "rcode: "} {
				if _, rest, ok := strings.Cut(line, key); ok {
					code, _, _ = strings.Cut(rest, ",")
				}
			}
		case strings.HasPrefix(line, ";; flags:"):
			set, _, _ := strings.Cut(strings.TrimPrefix(line, ";; flags:"), ";")
			for _, f := range strings.Fields(set) {
				if f == "aa" || f == "tc" {
					flags += " " + f
				}
			}
		case strings.HasPrefix(line, ";; ") && strings.HasSuffix(line, " SECTION:"):
			section = strings.TrimSuffix(line, " SECTION:")
		case line == "" || strings.HasPrefix(line, ";"):
		case section == ";; ANSWER":
			lines = append(lines, line)
		default:
			if section != "" {
				lines, section = append(lines, section), ""
			}
			lines = append(lines, line)
		}
	}
	return append([]string{code + flags}, lines...)
}
