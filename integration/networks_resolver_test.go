//go:build integration

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/miekg/dns"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// glibcImage is busybox with getent, which asks as glibc does.
func glibcImage(t *testing.T) v1.Image {
	t.Helper()
	var files []lab.File
	libs, err := exec.CommandContext(t.Context(), "ldd", "/usr/bin/getent").Output()
	assert.NilError(t, err)
	for _, field := range append(strings.Fields(string(libs)), "/usr/bin/getent") {
		if !strings.HasPrefix(field, "/") {
			continue
		}
		body, err := os.ReadFile(field)
		assert.NilError(t, err)
		files = append(files, lab.File{Name: strings.TrimPrefix(field, "/"), Mode: 0o755, Body: string(body)})
	}
	files = append(files, lab.File{Name: "etc/nsswitch.conf", Mode: 0o644, Body: "hosts: dns\n"})
	return lab.AddLayer(t, lab.Busybox(t), files)
}

// eventually digs until the answer is the one wanted.
func (a dnsAsker) eventually(t *testing.T, server, question, want string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if got := a.digAt(t, server, strings.Fields(question)...); got != want {
			return fmt.Errorf("%s, asked %q: %s, want %s", server, question, got, want)
		}
		return nil
	})
}

// dnsAsker asks from a container's network namespace.
type dnsAsker struct {
	h    *lab.Host
	name string
}

// dig asks the container's resolver and returns the answer's code and its data, sorted.
func (a dnsAsker) dig(t *testing.T, args ...string) string {
	t.Helper()
	return a.digAt(t, "127.0.0.11", args...)
}

// digAt asks one server, and no other when it does not answer.
func (a dnsAsker) digAt(t *testing.T, server string, args ...string) string {
	t.Helper()
	pid := a.h.Docker(t, "inspect", "-f", "{{.State.Pid}}", a.name)
	out := a.h.On(t, append([]string{"nsenter", "--net=/proc/" + pid + "/ns/net", "dig", "@" + server, "+tries=1", "+timeout=10", "+nocookie", "+noall", "+answer", "+comments"}, args...)...).Stdout
	var data []string
	status := "no answer"
	for line := range strings.Lines(out) {
		if _, after, ok := strings.Cut(line, "status: "); ok {
			status, _, _ = strings.Cut(after, ",")
		}
		if f := strings.Fields(line); len(f) > 4 && !strings.HasPrefix(line, ";") {
			data = append(data, f[4])
		}
	}
	slices.Sort(data)
	return strings.TrimSpace(status + " " + strings.Join(data, " "))
}

func TestResolverTable(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Load(t, "glibc:latest", glibcImage(t))
	h.Load(t, "talk:latest", lab.GoImage(t, "talk"))
	h.Load(t, "nameserver:latest", lab.GoImage(t, "nameserver"))
	h.BackgroundFrom(t, lab.GoProgram(t, "nameserver"))
	for _, network := range []string{"+notcp", "+tcp"} {
		eventually(t, 30*time.Second, func() error {
			if r := h.From(t, "dig", "@"+h.Outside, network, "+tries=1", "+short", "world.example"); r.Stdout != "192.0.2.99\n" {
				return fmt.Errorf("the name server of the world says %q", r.Combined())
			}
			return nil
		})
	}
	h.Docker(t, "network", "create", "blue")
	h.Docker(t, "network", "create", "--ipv6", "--subnet", "172.28.0.0/16", "--subnet", "2001:db8:28::/64", "red")
	h.Docker(t, "network", "create", "green")
	sleeper := func(args ...string) string {
		return h.Docker(t, append(append([]string{"run", "-d"}, args...), "busybox", "sleep", "600")...)
	}
	sleeper("--name", "db", "--network", "blue", "--network-alias", "data", "--hostname", "dbhost")
	for i := range 3 {
		sleeper("--name", fmt.Sprintf("w%d", i), "--network", "blue", "--network-alias", "workers")
	}
	six := sleeper("--name", "six", "--network", "red", "--ip", "172.28.0.66", "--ip6", "2001:db8:28::66")
	sleeper("--name", "secret", "--network", "green")
	dns4 := []string{"--dns", h.Outside, "--dns-search", "example", "--dns-option", "timeout:2"}
	h.Docker(t, append(append([]string{"run", "-d", "--name", "asker", "--network", "blue", "--network", "red", "--link", "db:store"}, dns4...), "glibc", "sleep", "600")...)
	ip := func(name, network string) string {
		return h.Docker(t, "inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", name)
	}
	workers := []string{ip("w0", "blue"), ip("w1", "blue"), ip("w2", "blue")}
	slices.Sort(workers)
	reverse := func(addr string) string {
		name, err := dns.ReverseAddr(netip.MustParseAddr(addr).String())
		assert.NilError(t, err)
		return name
	}
	from := dnsAsker{h, "asker"}
	table := []struct{ name, question, want string }{
		{"a name", "db A", "NOERROR " + ip("db", "blue")},
		{"in capitals", "DB A", "NOERROR " + ip("db", "blue")},
		{"with its network", "db.blue A", "NOERROR " + ip("db", "blue")},
		{"an alias", "data A", "NOERROR " + ip("db", "blue")},
		{"an alias over TCP", "+tcp data A", "NOERROR " + ip("db", "blue")},
		{"a host name", "dbhost A", "NOERROR " + ip("db", "blue")},
		{"a link", "store A", "NOERROR " + ip("db", "blue")},
		{"a short id", six[:12] + " A", "NOERROR 172.28.0.66"},
		{"all replicas", "workers A", "NOERROR " + strings.Join(workers, " ")},
		{"no IPv6 on that network", "db AAAA", "NOERROR"},
		{"IPv6", "six AAAA", "NOERROR 2001:db8:28::66"},
		{"IPv4 of the same", "six A", "NOERROR 172.28.0.66"},
		{"mail", "db MX", "NOERROR"},
		{"another network's", "secret A", "NXDOMAIN"},
		{"another network's, by name", "secret.green A", "NXDOMAIN"},
		{"the network of neither", "db.red A", "NXDOMAIN"},
		{"nobody", "nobody A", "NXDOMAIN"},
		{"an address", reverse(ip("db", "blue")) + " PTR", "NOERROR db.blue."},
		{"an address of IPv6", reverse("2001:db8:28::66") + " PTR", "NOERROR six.red."},
		{"another network's address", reverse(ip("secret", "green")) + " PTR", "NXDOMAIN"},
		{"a name of the world", "world.example A", "NOERROR 192.0.2.99"},
		{"its other family", "world.example AAAA", "NOERROR"},
		{"the name service", "db.inst.admin.dc1.cns.internal A", "NOERROR " + ip("db", "blue")},
	}
	t.Run("dig", func(t *testing.T) {
		for _, c := range table {
			t.Run(c.name, func(t *testing.T) { from.eventually(t, "127.0.0.11", c.question, c.want) })
		}
	})
	t.Run("more than a packet holds", func(t *testing.T) {
		assert.Equal(t, len(strings.Fields(from.dig(t, "+noedns", "big.example", "TXT"))), 1+20, "dig asks again over TCP")
		assert.Assert(t, len(strings.Fields(from.dig(t, "+noedns", "+ignore", "big.example", "TXT"))) < 1+20)
	})
	t.Run("replicas in another order each time", func(t *testing.T) {
		first := map[string]bool{}
		eventually(t, 30*time.Second, func() error {
			out := h.Docker(t, "exec", "w0", "nslookup", "workers") // asker has a search domain, which busybox puts first
			_, answers, _ := strings.Cut(out, "Name:")
			first[strings.Fields(answers)[2]] = true
			if len(first) < 2 {
				return fmt.Errorf("always %v first", first)
			}
			return nil
		})
	})
	t.Run("answers are remembered", func(t *testing.T) {
		eventually(t, 30*time.Second, func() error { // what is remembered ends once a minute
			from.dig(t, "world.example", "A")
			before := from.dig(t, "asked.example", "TXT")
			for range 5 {
				assert.Equal(t, from.dig(t, "world.example", "A"), "NOERROR 192.0.2.99")
			}
			if after := from.dig(t, "asked.example", "TXT"); after != before {
				return fmt.Errorf("%s questions, and then %s", before, after)
			}
			return nil
		})
	})
	t.Run("clients", func(t *testing.T) {
		runCases(t, h, []cliCase{
			{name: "busybox", args: "exec w0 nslookup db", out: "~" + ip("db", "blue")},
			{name: "glibc", args: "exec asker getent ahostsv4 workers", out: "~" + workers[2]},
			{name: "glibc with a search domain", args: "exec asker getent hosts world", out: "~192.0.2.99"},
			{name: "glibc, IPv6", args: "exec asker getent ahosts six", out: "~2001:db8:28::66"},
			{name: "glibc, nobody", args: "exec asker getent hosts secret", code: 2},
			{name: "Go", args: "run --rm --network blue talk lookup data", out: ip("db", "blue")},
			{name: "Go, nobody", args: "run --rm --network blue --dns " + h.Outside + " talk lookup secret", code: 1, stderr: "no such host"},
			{name: "resolv.conf", args: "exec asker cat /etc/resolv.conf", out: "nameserver 127.0.0.11\nsearch example\noptions timeout:2 ndots:0"},
		})
	})
	t.Run("a server of the container's own", func(t *testing.T) {
		h.Docker(t, "run", "-d", "--name", "own", "--network", "blue", "nameserver")
		own := dnsAsker{h, "own"}
		own.eventually(t, "127.0.0.1", "world.example A", "NOERROR 192.0.2.99")
		own.eventually(t, "127.0.0.1", "+tcp world.example A", "NOERROR 192.0.2.99")
		assert.Equal(t, from.digAt(t, ip("own", "blue"), "world.example", "A"), "NOERROR 192.0.2.99")
		assert.Equal(t, own.dig(t, "db", "A"), "NOERROR "+ip("db", "blue"), "and ours beside it")
	})
	t.Run("connect and disconnect", func(t *testing.T) {
		h.Docker(t, "network", "connect", "green", "asker")
		assert.Equal(t, from.dig(t, "secret", "A"), "NOERROR "+ip("secret", "green"))
		h.Docker(t, "network", "disconnect", "green", "asker")
		assert.Equal(t, from.dig(t, "secret", "A"), "NXDOMAIN")
	})
	t.Run("a restart of the daemon", func(t *testing.T) {
		h.Kill9(t)
		h.Start(t)
		assert.Equal(t, from.dig(t, "db", "A"), "NOERROR "+ip("db", "blue"))
		assert.Equal(t, from.dig(t, "+tcp", "world.example", "A"), "NOERROR 192.0.2.99")
	})
	t.Run("gone", func(t *testing.T) {
		h.Docker(t, "rm", "-f", "db")
		assert.Equal(t, from.dig(t, "db", "A"), "NXDOMAIN")
		h.Docker(t, "stop", "-t", "0", "w1")
		assert.Equal(t, len(strings.Fields(from.dig(t, "workers", "A"))), 3)
	})
}
