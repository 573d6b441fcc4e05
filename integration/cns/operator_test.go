//go:build integration

package cns

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestOperatorsGuide does what docs/cns.md tells operators: an outer zone behind a hidden primary, BIND with the
// configuration printed there, real containers, and the commands that show what happens.
func TestOperatorsGuide(t *testing.T) {
	h := lab.NewWithBusybox(t, "--cns-listen", "198.18.0.1:53", "--cns-tls-listen", "198.18.0.1:853")
	cns := func(line string) string {
		t.Helper()
		r := h.Shell(t, h.Dir, filepath.Join(lab.Bin(t), "nereid")+" cns "+line)
		assert.Equal(t, r.Code, 0, "nereid cns %s: %s", line, r.Combined())
		return r.Combined()
	}
	key := cns("tsig add xfer")
	secret := strings.Split(key, `"`)[3]
	cns("zone add ext.example.com kind=outer keys=xfer hidden-primary=on servers=ns1.example.com,ns2.example.com secondaries=198.18.0.1:5300@xfer transfer=198.18.0.2")

	conf := strings.NewReplacer("192.0.2.1", h.Addr, "SECRET", secret).Replace(printedConfig(t))
	dir := t.TempDir()
	conf = fmt.Sprintf("options { directory %q; listen-on port 5300 { %s; }; listen-on-v6 { none; }; recursion no; pid-file none; session-keyfile none; allow-transfer { any; }; };\ncontrols { };\n", dir, h.Addr) + conf
	file := filepath.Join(dir, "named.conf")
	assert.NilError(t, os.WriteFile(file, []byte(conf), 0o600))
	h.Background(t, "/usr/sbin/named", "-g", "-n", "1", "-c", file)

	ask := func(at string, question ...string) []string {
		t.Helper()
		r := h.From(t, append([]string{"dig", "@" + h.Addr, "-p", at, "+short", "+tries=1", "+time=10"}, question...)...)
		lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
		slices.Sort(lines)
		return lines
	}
	expect := func(want []string, question ...string) {
		t.Helper()
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if got := ask("5300", question...); slices.Equal(got, want) {
				return poll.Success()
			} else {
				return poll.Continue("%v: %q, not %q\n%s", question, got, want, cns("status"))
			}
		}, poll.WithTimeout(limit), poll.WithDelay(200*time.Millisecond))
	}
	zone := func(at string) []string { return ask(at, "ext.example.com", "AXFR", "-y", "hmac-sha256:xfer:"+secret) }
	same := func() {
		t.Helper()
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if ours, theirs := zone("53"), zone("5300"); len(ours) > 1 && slices.Equal(ours, theirs) {
				return poll.Success()
			} else {
				return poll.Continue("%q, and not %q", theirs, ours)
			}
		}, poll.WithTimeout(limit), poll.WithDelay(200*time.Millisecond))
	}

	var srv []string
	for i := range 4 {
		h.Docker(t, "run", "-d", "--name", fmt.Sprint("web", i), "-p", fmt.Sprint(8080+i, ":80"), "--label", "nereid.cns.services=web:80",
			"busybox", "httpd", "-f", "-p", "80", "-h", "/www")
		srv = append(srv, fmt.Sprintf("0 0 %d web%d.inst.admin.ext.example.com.", 8080+i, i))
	}
	expect(srv, "web.svc.admin.ext.example.com", "SRV")
	expect([]string{h.Addr}, "web.svc.admin.ext.example.com", "A")
	same()
	poll.WaitOn(t, func(poll.LogT) poll.Result { // it runs; it may not listen yet
		if r := h.From(t, "curl", "-sS", "--max-time", "5", "http://"+h.Addr+":8080/"); r.Stdout != "hello from busybox\n" {
			return poll.Continue("%s", r.Combined())
		}
		return poll.Success()
	}, poll.WithTimeout(limit))
	assert.DeepEqual(t, ask("5300", "ext.example.com", "NS"), []string{"ns1.example.com.", "ns2.example.com."})

	t.Run("drain", func(t *testing.T) {
		cns("set web0 status=down")
		expect(srv[1:], "web.svc.admin.ext.example.com", "SRV")
		expect([]string{h.Addr}, "web0.inst.admin.ext.example.com", "A")
		assert.Assert(t, is.Contains(cns("explain web0"), "taken out at run time"))
		cns("set web0 status=")
		expect(srv, "web.svc.admin.ext.example.com", "SRV")
	})
	t.Run("the daemon restarts", func(t *testing.T) {
		h.Stop(t)
		h.Start(t)
		h.Docker(t, "rm", "-f", "web3")
		expect(srv[:3], "web.svc.admin.ext.example.com", "SRV")
		same()
		poll.WaitOn(t, func(poll.LogT) poll.Result { // it is asked, and may be busy
			status := cns("status")
			if strings.Contains(status, "behind") || !strings.Contains(status, "198.18.0.1:5300") {
				return poll.Continue("%s", status)
			}
			return poll.Success()
		}, poll.WithTimeout(limit))
	})
	t.Run("over TLS", func(t *testing.T) {
		r := h.From(t, "kdig", "@"+h.Addr, "+tls-ca="+filepath.Join(h.Dir, "data", "fleet", "ca.crt"), "+tls-hostname="+h.Name+".host.nereid", "+nsid", "+timeout=30",
			"web0.inst.admin.ext.example.com", "A")
		assert.Assert(t, is.Contains(r.Combined(), ";; TLS session (TLS1.3)"))
		assert.Assert(t, is.Contains(r.Combined(), h.Addr))
		assert.Assert(t, is.Contains(r.Combined(), `"`+h.Name+`"`))
	})
	t.Run("who has no key gets nothing", func(t *testing.T) {
		r := h.From(t, "dig", "@"+h.Addr, "ext.example.com", "AXFR")
		assert.Assert(t, is.Contains(r.Stdout, "Transfer failed"))
	})
	t.Run("bad labels", func(t *testing.T) {
		r := h.Try(t, "create", "--name", "odd", "--label", "nereid.cns.services=ok,a_b", "busybox")
		assert.Equal(t, r.Code, 0, r.Combined())
		assert.Assert(t, is.Contains(r.Stderr, `WARNING: Label nereid.cns.services: service "a_b"`))
		assert.Assert(t, is.Contains(cns("explain odd"), `service "a_b"`))
		assert.Assert(t, is.Contains(cns("explain ok.svc.admin.ext.example.com"), "not running"))
	})
	assert.Assert(t, is.Contains(cns("dump ext.example.com"), "SRV\t0 0 8080 web0.inst.admin.ext.example.com."))
	cns("zone rm ext.example.com")
	assert.Assert(t, !strings.Contains(cns("zone ls"), "ext.example.com"))
	cns("tsig rm xfer")
}

// printedConfig is the configuration of BIND in docs/cns.md.
func printedConfig(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/cns.md")
	assert.NilError(t, err)
	_, rest, ok := strings.Cut(string(b), "<!-- A test runs this")
	assert.Assert(t, ok)
	return strings.Split(rest, "```")[1]
}
