//go:build integration

package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// matrix is who may reach whom. Places are containers, the host, and another machine.
type matrix struct {
	h       *lab.Host
	program string              // talk, on the host
	addrs   map[string][]string // of each place, with the port
	may     map[string]string   // the places that one reaches, apart from itself
}

const talkPort = "7777"

func newMatrix(t *testing.T, h *lab.Host) *matrix {
	t.Helper()
	m := &matrix{h: h, program: lab.GoProgram(t, "talk"), addrs: map[string][]string{}, may: map[string]string{}}
	h.Load(t, "talk:latest", lab.GoImage(t, "talk"))
	return m
}

// run starts a place that is a container.
func (m *matrix) run(t *testing.T, name, network, may string) {
	t.Helper()
	m.h.Docker(t, "run", "-d", "--name", name, "--network", network, "talk", "serve", name, talkPort)
	m.add(name, m.addresses(t, name), may)
}

func (m *matrix) addresses(t *testing.T, name string) []string {
	t.Helper()
	return strings.Fields(m.h.Docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}} {{end}}", name))
}

func (m *matrix) add(name string, addrs []string, may string) {
	for i := range addrs {
		addrs[i] = net.JoinHostPort(addrs[i], talkPort)
	}
	m.addrs[name], m.may[name] = addrs, may
}

// machines are the host and another machine, which routes to the containers by way of the host.
func (m *matrix) machines(t *testing.T, host, machine string) {
	t.Helper()
	m.h.Background(t, m.program, "serve", "host", talkPort)
	m.add("host", []string{m.h.Addr, "fd00:198:18::1"}, host)
	m.h.BackgroundFrom(t, m.program, "serve", "machine", talkPort)
	m.add("machine", []string{m.h.Outside, "fd00:198:18::2"}, machine)
	m.h.From(t, "ip", "route", "add", "10.0.0.0/8", "via", m.h.Addr)
	m.h.From(t, "ip", "route", "add", "fd00::/8", "via", "fd00:198:18::1")
}

// check asks from every place for every other, over TCP and UDP, IPv4 and IPv6, all at once.
func (m *matrix) check(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		var all sync.WaitGroup
		errs := make(chan error, len(m.addrs))
		for from := range m.addrs {
			all.Go(func() { errs <- m.asks(t, from, m.others(from, "none")) })
		}
		all.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// asks wants each of these addresses to answer one place, or not, as it may be.
func (m *matrix) asks(t *testing.T, from string, addrs []string) error {
	t.Helper()
	return m.verify(from, addrs, m.ask(t, from, addrs))
}

func (m *matrix) ask(t *testing.T, from string, addrs []string) string {
	t.Helper()
	switch from {
	case "host":
		return m.h.On(t, append([]string{m.program, "ask"}, addrs...)...).Stdout
	case "machine":
		return m.h.From(t, append([]string{m.program, "ask"}, addrs...)...).Stdout
	}
	return m.h.Try(t, append([]string{"exec", from, "/talk", "ask"}, addrs...)...).Stdout
}

// verify wants a line for each address that was asked, over TCP and UDP, as it may be.
func (m *matrix) verify(from string, asked []string, said string) error {
	var want []string
	for to, addrs := range m.addrs {
		answer := "-"
		if slices.Contains(strings.Fields(m.may[from]), to) {
			answer = to
		}
		for _, a := range addrs {
			if slices.Contains(asked, a) {
				want = append(want, a+" tcp "+answer, a+" udp "+answer)
			}
		}
	}
	got := strings.Split(strings.TrimSpace(said), "\n")
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s, which may reach %q, says\n%s\nand not\n%s", from, m.may[from], strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return nil
}

// TestNetworkIsolation: host, same network, another, an internal one, one whose containers are apart, another project
// with the same names; TCP and UDP, IPv4 and IPv6; whatever else is on the host.
func TestNetworkIsolation(t *testing.T) {
	h := lab.NewWithBusybox(t)
	m := newMatrix(t, h)
	for network, options := range map[string]string{
		"one_default": "", "two_default": "", "inner": "--internal", "apart": "--opt com.docker.network.bridge.enable_icc=false",
	} {
		h.Docker(t, append([]string{"network", "create", "--ipv6"}, append(strings.Fields(options), network)...)...)
	}
	m.run(t, "one-web-1", "one_default", "one-app-1 host machine")
	m.run(t, "one-app-1", "one_default", "one-web-1 host machine")
	m.run(t, "two-web-1", "two_default", "host machine")
	m.run(t, "inner1", "inner", "inner2")
	m.run(t, "inner2", "inner", "inner1")
	m.run(t, "apart1", "apart", "host machine")
	m.run(t, "apart2", "apart", "host machine")
	m.machines(t, "one-web-1 one-app-1 two-web-1 inner1 inner2 apart1 apart2 machine", "host")

	for _, on := range []string{"0", "1"} {
		t.Run("br_netfilter "+on, func(t *testing.T) {
			for _, name := range []string{"iptables", "ip6tables"} {
				h.On(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-"+name+"="+on)
			}
			m.check(t)
		})
	}
	t.Run("a host firewall that drops", func(t *testing.T) {
		// All that a policy of drop must let pass are the fabric's bridges: see docs/networking.md.
		h.On(t, "nft", "add table inet theirs; add chain inet theirs forward { type filter hook forward priority 0; policy drop; }; "+
			"add chain inet theirs input { type filter hook input priority 0; policy drop; }; "+
			"add rule inet theirs input ct state established,related accept; add rule inet theirs input meta l4proto { icmp, ipv6-icmp } accept; "+
			"add rule inet theirs input th dport "+talkPort+" accept; "+
			`add rule inet theirs forward iifname "nr*" accept; add rule inet theirs forward oifname "nr*" accept`)
		m.check(t)
		h.On(t, "nft", "delete", "table", "inet", "theirs")
	})
	t.Run("beside docker.io", func(t *testing.T) {
		dockerd, stop := startDockerd(t, h)
		m.check(t)
		dockerd("load", "-q", "-i", lab.Archive(t, "talk:latest", lab.GoImage(t, "talk")))
		dockerd("run", "-d", "--name", "theirs", "-p", "7999:"+talkPort, "talk", "serve", "theirs", talkPort)
		m.may["theirs"] = "host machine"
		eventually(t, 30*time.Second, func() error {
			asked := m.others("theirs", "fd00")
			return m.verify("theirs", asked, dockerd(append([]string{"exec", "theirs", "/talk", "ask"}, asked...)...))
		})
		eventually(t, 30*time.Second, func() error {
			if said := m.ask(t, "machine", []string{h.Addr + ":7999"}); strings.Count(said, " theirs") != 1 {
				return fmt.Errorf("its published port: %s", said)
			}
			return nil
		})
		stop()
		m.check(t)
	})
}

// startDockerd runs Debian's Docker Engine beside the host's daemon, with roots of its own. What it returns drives it,
// and ends it.
func startDockerd(t *testing.T, h *lab.Host) (docker func(args ...string) string, stop func()) {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Skip("no dockerd on this machine: integration/install-dockerd installs one")
	}
	dir, err := os.MkdirTemp("", "dockerd") // short: a unix socket's path holds 107 bytes
	assert.NilError(t, err)
	socket := "unix://" + dir + "/docker.sock"
	log, err := os.Create(filepath.Join(dir, "log"))
	assert.NilError(t, err)
	cmd := h.Process("dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "-H", socket)
	cmd.Stdout, cmd.Stderr = log, log
	assert.NilError(t, cmd.Start())
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	t.Cleanup(func() {
		stop()
		h.On(t, "ip", "link", "delete", "docker0")
		assert.Check(t, log.Close())
		assert.Check(t, os.RemoveAll(dir))
	})
	docker = func(args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), "docker", append([]string{"-H", socket}, args...)...)
		out, err := c.CombinedOutput()
		assert.NilError(t, err, "docker %v: %s", args, out)
		return strings.TrimSpace(string(out))
	}
	eventually(t, 60*time.Second, func() error {
		return exec.CommandContext(t.Context(), "docker", "-H", socket, "version").Run()
	})
	return docker, stop
}

// others are the addresses of all places but one, without those that begin as given.
func (m *matrix) others(from, without string) (all []string) {
	for to, addrs := range m.addrs {
		for _, a := range addrs {
			if to != from && !strings.HasPrefix(strings.Trim(a, "["), without) {
				all = append(all, a)
			}
		}
	}
	return all
}
