//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// TestNetworksSpanHosts: containers of a network on different hosts find and reach each other, and nobody else.
func TestNetworksSpanHosts(t *testing.T) {
	f := lab.NewFleet(t, lab.FleetOptions{Hosts: 2, Servers: 1})
	h, other := f.Hosts[0], f.Hosts[1]
	h.Load(t, "busybox:latest", lab.Busybox(t))
	m := newMatrix(t, h)
	h.Docker(t, "network", "create", "--ipv6", "blue")
	h.Docker(t, "network", "create", "--ipv6", "red")
	h.Docker(t, "network", "create", "--ipv6", "--internal", "inner")
	h.Docker(t, "network", "create", "--ipv6", "--opt", "com.docker.network.bridge.enable_icc=false", "apart")
	run := func(name, network, may string, on *lab.Host) {
		h.Docker(t, "run", "-d", "--name", name, "--network", network, "-e", "constraint:node=="+on.Name, "talk", "serve", name, talkPort)
		assert.Equal(t, h.Docker(t, "inspect", "-f", "{{.Node.Name}}", name), on.Name)
		m.add(name, m.addresses(t, name), may)
	}
	run("blue1", "blue", "blue2", h)
	run("blue2", "blue", "blue1", other)
	run("red1", "red", "red2", h)
	run("red2", "red", "red1", other)
	run("inner1", "inner", "inner2", h)
	run("inner2", "inner", "inner1", other)
	run("apart1", "apart", "", h)
	run("apart2", "apart", "", other)

	t.Run("matrix", func(t *testing.T) { m.check(t) })
	t.Run("names", func(t *testing.T) {
		serveOn(t, h, other, "web", "--network", "blue", "--network-alias", "www")
		serveOn(t, h, h, "client", "--network", "blue")
		reach(t, h, "client", "web")
		reach(t, h, "client", "www")
		reach(t, other, "web", "client")
		assert.Assert(t, is.Contains(other.Docker(t, "network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "blue"), "web"))
	})
	t.Run("the default network", func(t *testing.T) {
		serveOn(t, h, other, "far")
		serveOn(t, h, h, "near")
		reach(t, h, "near", "far")
		reach(t, h, "far", "near")
	})
	t.Run("published ports answer on every host", func(t *testing.T) {
		serveOn(t, h, other, "published", "-p", "8080:80", "-p", other.Addr+":8082:80")
		serve(t, h, "--name", "local", "-p", "127.0.0.1:8081:80")
		fetch(t, h.On, "http://127.0.0.1:8081/")
		fetch(t, h.From, "http://"+other.Addr+":8082/")
		h.Docker(t, "rm", "-f", "local")
		for _, at := range []*lab.Host{h, other} {
			fetch(t, at.On, "http://127.0.0.1:8080/")
			fetch(t, at.On, "http://[::1]:8080/")
			fetch(t, at.From, "http://"+at.Addr+":8080/")
		}
		r := h.Try(t, "run", "--rm", "-p", "8080:80", "-e", "constraint:node=="+h.Name, "busybox", "true")
		assert.Assert(t, is.Contains(r.Stderr, "Bind for 0.0.0.0:8080 failed: port is already allocated"))
		h.Docker(t, "rm", "-f", "published")
		serveOn(t, h, h, "heir", "-p", "8080:80")
		for _, at := range []*lab.Host{h, other} {
			fetch(t, at.On, "http://127.0.0.1:8080/")
		}
		h.Docker(t, "rm", "-f", "heir")
		eventually(t, 30*time.Second, func() error {
			if r := other.On(t, "ss", "-Hltn", "sport", "=", ":8080"); r.Stdout != "" {
				return fmt.Errorf("still there: %s", r.Stdout)
			}
			return nil
		})
	})
	t.Run("what is wrong with the way to another host is told", func(t *testing.T) {
		path := func(of *lab.Host, want string) {
			t.Helper()
			eventually(t, 90*time.Second, func() error {
				var hosts []nereid.HostStatus
				assert.NilError(t, json.Unmarshal([]byte(h.Nereid(t, "host", "inspect", of.Name)), &hosts))
				if got := hosts[0].DataPath.String(); got != want {
					return fmt.Errorf("%s: %s, want %s", of.Name, got, want)
				}
				return nil
			})
		}
		drop := func(what string) {
			h.On(t, "nft", "add table inet bad; flush table inet bad; add chain inet bad in { type filter hook prerouting priority -300; }; add rule inet bad in ip saddr "+
				other.Addr+" udp dport 4789 "+what+" drop")
		}
		path(h, "ok")
		path(other, "ok")
		defer func() { h.On(t, "nft", "delete", "table", "inet", "bad") }()
		drop("udp length > 1388")
		path(h, other.Name+": mtu 1358 < 1450")
		path(other, h.Name+": mtu 1358 < 1450")
		drop("")
		path(h, other.Name+": no answer over UDP 4789")
		path(other, h.Name+": no answer over UDP 4789")
		assert.Assert(t, is.Contains(other.Nereid(t, "host", "ls"), h.Name+": no answer over UDP 4789"))
		h.On(t, "nft", "delete", "table", "inet", "bad")
		path(h, "ok")
		path(other, "ok")
	})
	t.Run("packets as large as may be", func(t *testing.T) {
		assert.Equal(t, h.Docker(t, "exec", "client", "cat", "/sys/class/net/eth0/mtu"), "1450", "1500 less what a frame grows by")
		out := h.Docker(t, "exec", "client", "ping", "-c", "1", "-W", "20", "-s", "1422", "web")
		assert.Assert(t, is.Contains(out, " 0% packet loss"))
	})
	t.Run("connect and disconnect from any endpoint", func(t *testing.T) {
		h.Docker(t, "network", "connect", "red", "web") // which is on the other host
		serveOn(t, h, h, "reader", "--network", "red")
		reach(t, h, "reader", "web")
		other.Docker(t, "network", "disconnect", "red", "web")
		miss(t, h, "reader", "web")
		r := h.Try(t, "network", "disconnect", "red", "web")
		assert.Assert(t, is.Contains(r.Stderr, "is not connected to network red"))
	})
	t.Run("killed daemons", func(t *testing.T) {
		other.Kill9(t)
		m.check2(t, "blue1", "blue2")
		other.Start(t)
		m.check(t)
	})
	t.Run("another host joins", func(t *testing.T) {
		third := f.Add(t, false)
		eventually(t, 30*time.Second, func() error {
			if r := h.Try(t, "run", "-d", "--name", "blue3", "--network", "blue", "-e", "constraint:node=="+third.Name, "talk", "serve", "blue3", talkPort); r.Code != 0 {
				h.Try(t, "rm", "-f", "blue3")
				return fmt.Errorf("%s", r.Stderr)
			}
			return nil
		})
		m.add("blue3", m.addresses(t, "blue3"), "blue1 blue2")
		m.may["blue1"], m.may["blue2"] = "blue2 blue3", "blue1 blue3"
		m.check(t)
		eventually(t, 30*time.Second, func() error {
			if links := third.On(t, "ip", "-o", "link").Stdout; strings.Count(links, ": nr") != 1 {
				return fmt.Errorf("a host has other networks than it needs:\n%s", links)
			}
			return nil
		})
	})
	t.Run("what runs on a host itself reaches containers wherever they are", func(t *testing.T) {
		m.reachedFromHosts(t, f.Hosts)
		h.Docker(t, "run", "-d", "--name", "seen", "--network", "blue", "-e", "constraint:node=="+other.Name, "busybox", "sh", "-c", "exec httpd -f -vv -h /www 2>&1")
		at := m.addresses(t, "seen")
		for _, from := range f.Hosts {
			for i, gateway := range strings.Fields(h.Docker(t, "network", "inspect", "-f", "{{range .IPAM.Config}}{{.Gateway}} {{end}}", "blue")) {
				eventually(t, 30*time.Second, func() error {
					if r := from.On(t, "busybox", "ping", "-c", "1", "-W", "1", "-s", "1422", at[i]); r.Code != 0 {
						return fmt.Errorf("from %s: %s", from.Name, r.Combined())
					}
					return nil
				})
				fetch(t, from.On, "http://"+net.JoinHostPort(at[i], "80")+"/")
				gateway, _, _ = strings.Cut(gateway, "/")
				eventually(t, 30*time.Second, func() error {
					if said := h.Docker(t, "logs", "--tail", "2", "seen"); !strings.Contains(said, gateway+"]:") {
						return fmt.Errorf("the container, whose gateway is %s, saw %s", gateway, said)
					}
					return nil
				})
			}
		}
		h.Docker(t, "rm", "-f", "seen")
		for _, n := range []string{"0", "1"} { // whether or not bridged packets pass the firewall
			for _, at := range f.Hosts {
				at.On(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables="+n, "net.bridge.bridge-nf-call-ip6tables="+n)
			}
			m.reachedFromHosts(t, f.Hosts)
			m.check(t)
		}
	})
	t.Run("a network that is removed is gone everywhere", func(t *testing.T) {
		h.Docker(t, "rm", "-f", "inner1", "inner2")
		before := strings.Count(other.On(t, "ip", "-o", "link").Stdout, ": nr")
		h.Docker(t, "network", "rm", "inner")
		eventually(t, 30*time.Second, func() error {
			if now := strings.Count(other.On(t, "ip", "-o", "link").Stdout, ": nr"); now != before-1 {
				return fmt.Errorf("%d bridges of %d", now, before)
			}
			return nil
		})
	})
}

// serveOn runs a web server on a host of the fleet.
func serveOn(t *testing.T, h, on *lab.Host, name string, options ...string) {
	t.Helper()
	serve(t, h, append([]string{"--name", name, "-e", "constraint:node==" + on.Name}, options...)...)
}

// reachedFromHosts wants every container to answer every host.
func (m *matrix) reachedFromHosts(t *testing.T, hosts []*lab.Host) {
	t.Helper()
	m.may["host"] = strings.Join(slices.Collect(maps.Keys(m.addrs)), " ")
	asked := m.others("host", "none")
	for _, at := range hosts {
		eventually(t, 30*time.Second, func() error {
			return m.verify("host", asked, at.On(t, append([]string{m.program, "ask"}, asked...)...).Stdout)
		})
	}
}

// check2 wants two places to reach each other.
func (m *matrix) check2(t *testing.T, a, b string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error { return m.asks(t, a, m.addrs[b]) })
}
