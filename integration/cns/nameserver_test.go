//go:build integration

package cns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// nameserver is a secondary of another make, that runs until the test ends.
type nameserver struct {
	name    string
	addr    netip.AddrPort
	dir     string
	command []string
	cmd     *exec.Cmd
}

// primaryOf is what a secondary must know.
type primaryOf struct {
	at     netip.AddrPort
	zones  []string
	secret string // of the key "xfer"
}

// limit bounds every wait for a name server: two minutes more than one that was told of nothing waits before it asks.
const limit = 3 * time.Minute

// freePort is one that nobody has for UDP and TCP now, below those the kernel gives to clients: a server finds it free
// again when it is restarted.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 50 {
		at := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", at)
		u.Close()
		if err == nil {
			l.Close()
			return netip.MustParseAddrPort(at)
		}
	}
	t.Fatal("no free port")
	return netip.AddrPort{}
}

// write makes a file in the server's folder.
func (n *nameserver) write(t *testing.T, file, content string) string {
	t.Helper()
	path := filepath.Join(n.dir, file)
	assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func newNameserver(t *testing.T, name string) *nameserver {
	t.Helper()
	dir, err := os.MkdirTemp("", name)
	assert.NilError(t, err)
	n := &nameserver{name: name, addr: freePort(t), dir: dir}
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("%s: %s", name, n.log())
		}
		assert.Check(t, os.RemoveAll(dir))
	})
	return n
}

func bind(t *testing.T, p primaryOf) *nameserver {
	t.Helper()
	n := newNameserver(t, "bind")
	var b strings.Builder
	fmt.Fprintf(&b, `options { directory %q; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; pid-file none;
  session-keyfile none; allow-transfer { 127.0.0.1; }; notify no; dnssec-validation no; };
controls { };
key "xfer" { algorithm hmac-sha256; secret %q; };
`, n.dir, n.addr.Port(), p.secret)
	for _, z := range p.zones {
		fmt.Fprintf(&b, "zone %q { type secondary; file %q; primaries { %s port %d key \"xfer\"; }; allow-notify { 127.0.0.1; }; max-records-per-type 0; };\n",
			z, z+"db", p.at.Addr(), p.at.Port())
	}
	n.command = []string{"named", "-g", "-n", "1", "-c", n.write(t, "named.conf", b.String())}
	n.start(t)
	return n
}

func nsd(t *testing.T, p primaryOf) *nameserver {
	t.Helper()
	n := newNameserver(t, "nsd")
	var b strings.Builder
	fmt.Fprintf(&b, `server:
  ip-address: 127.0.0.1@%d
  username: ""
  zonesdir: %q
  database: ""
  pidfile: %q
  zonelistfile: %q
  xfrdfile: %q
  xfrdir: %q
  verbosity: 3
remote-control:
  control-enable: no
key:
  name: "xfer"
  algorithm: hmac-sha256
  secret: %q
`, n.addr.Port(), n.dir, n.dir+"/pid", n.dir+"/zonelist", n.dir+"/xfrd.state", n.dir, p.secret)
	for _, z := range p.zones {
		fmt.Fprintf(&b, `zone:
  name: %q
  zonefile: %q
  allow-notify: 127.0.0.1 xfer
  request-xfr: %s@%d xfer
  provide-xfr: 127.0.0.1 NOKEY
`, z, z+"db", p.at.Addr(), p.at.Port())
	}
	n.command = []string{"nsd", "-d", "-c", n.write(t, "nsd.conf", b.String())}
	n.start(t)
	return n
}

func knot(t *testing.T, p primaryOf) *nameserver {
	t.Helper()
	n := newNameserver(t, "knot")
	var b strings.Builder
	fmt.Fprintf(&b, `server:
  listen: 127.0.0.1@%d
  rundir: %q
key:
  - id: xfer
    algorithm: hmac-sha256
    secret: %q
remote:
  - id: primary
    address: %s@%d
    key: xfer
acl:
  - id: notify
    address: 127.0.0.1
    key: xfer
    action: notify
  - id: dump
    address: 127.0.0.1
    action: transfer
log:
  - target: stderr
    any: info
database:
  storage: %q
template:
  - id: default
    storage: %q
zone:
`, n.addr.Port(), n.dir, p.secret, p.at.Addr(), p.at.Port(), n.dir, n.dir)
	for _, z := range p.zones {
		fmt.Fprintf(&b, "  - domain: %s\n    master: primary\n    acl: [notify, dump]\n", z)
	}
	n.command = []string{"knotd", "-c", n.write(t, "knot.conf", b.String())}
	n.start(t)
	return n
}

func (n *nameserver) start(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	assert.NilError(t, err)
	defer out.Close()
	path, err := exec.LookPath(n.command[0])
	if err != nil { // Debian keeps them where not everybody looks
		path = "/usr/sbin/" + n.command[0]
	}
	n.cmd = exec.Command(path, n.command[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = out, out
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	assert.NilError(t, n.cmd.Start())
}

// stop ends the server and all it started.
func (n *nameserver) stop() {
	if n.cmd == nil {
		return
	}
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- n.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(limit):
		_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
	n.cmd = nil
}

func (n *nameserver) log() string {
	b, _ := os.ReadFile(filepath.Join(n.dir, "log"))
	return string(b)
}

// serial is the one the server has, 0 while it has none.
func serial(at netip.AddrPort, zone string) uint32 {
	c := &dns.Client{Timeout: time.Second}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(zone, dns.TypeSOA), at.String())
	if err != nil || m.Rcode != dns.RcodeSuccess {
		return 0
	}
	for _, rr := range m.Answer {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa.Serial
		}
	}
	return 0
}

// content is a whole zone as the server gives it to us, once that is the one of a serial: of NSD's processes an old one
// may answer for a moment after a new one did.
func (n *nameserver) content(t *testing.T, zone string, serial uint32) (all map[string]bool) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		tr := &dns.Transfer{DialTimeout: limit, ReadTimeout: limit}
		envelopes, err := tr.In(new(dns.Msg).SetAxfr(zone), n.addr.String())
		if err != nil {
			return poll.Continue("%s: %v", n.name, err)
		}
		all = map[string]bool{}
		have := uint32(0)
		for e := range envelopes {
			if err = errors.Join(err, e.Error); err != nil {
				continue // to the end of them
			}
			for _, rr := range e.RR {
				if soa, ok := rr.(*dns.SOA); ok {
					have = soa.Serial
				}
				all[strings.ToLower(strings.Join(strings.Fields(rr.String()), " "))] = true
			}
		}
		if err != nil || have != serial {
			return poll.Continue("%s gives %d of %s, not %d: %v", n.name, have, zone, serial, err)
		}
		return poll.Success()
	}, poll.WithTimeout(limit), poll.WithDelay(50*time.Millisecond))
	return all
}

// caughtUp waits until the server has a serial or a later one.
func (n *nameserver) caughtUp(t *testing.T, zone string, want uint32) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if have := serial(n.addr, zone); have != 0 && int32(have-want) >= 0 {
			return poll.Success()
		} else {
			return poll.Continue("%s has %d of %s, not %d", n.name, have, zone, want)
		}
	}, poll.WithTimeout(limit), poll.WithDelay(50*time.Millisecond))
}

// tryRun runs a program to its end, whatever comes of it.
func tryRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, _ := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out)
}
