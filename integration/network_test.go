//go:build integration

package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// fetch wants the web page of a container.
func fetch(t *testing.T, run func(testing.TB, ...string) lab.Result, url string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if r := run(t, "curl", "-gsS", "--max-time", "2", url); r.Stdout != "hello from busybox\n" {
			return fmt.Errorf("%s: %s", url, r.Combined())
		}
		return nil
	})
}

func TestPublishedPorts(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Load(t, "udpecho:latest", lab.GoImage(t, "udpecho"))
	web := []string{"busybox", "httpd", "-f", "-p", "80", "-h", "/www"}
	h.Docker(t, append([]string{"run", "-d", "--name", "web", "-p", "8080:80"}, web...)...)
	h.Docker(t, append([]string{"run", "-d", "--name", "local", "-p", "127.0.0.1:8081:80"}, web...)...)
	h.Docker(t, append([]string{"run", "-d", "--name", "random", "-p", "80"}, web...)...)
	h.Docker(t, append([]string{"run", "-d", "--name", "all", "--expose", "80", "-P"}, web...)...)
	port := func(name string) string {
		first, _, _ := strings.Cut(h.Docker(t, "port", name, "80"), "\n")
		return first[strings.LastIndex(first, ":")+1:]
	}
	t.Run("from the host", func(t *testing.T) {
		for _, at := range []string{"localhost", "127.0.0.1", h.Addr, "[::1]", "[fd00:198:18::1]"} {
			fetch(t, h.On, "http://"+at+":8080/")
		}
		fetch(t, h.On, "http://127.0.0.1:"+port("random")+"/")
		fetch(t, h.On, "http://127.0.0.1:"+port("all")+"/")
	})
	t.Run("from another machine", func(t *testing.T) {
		fetch(t, h.From, "http://"+h.Addr+":8080/")
		fetch(t, h.From, "http://[fd00:198:18::1]:8080/")
		fetch(t, h.From, "http://"+h.Addr+":"+port("random")+"/")
	})
	t.Run("only where bound", func(t *testing.T) {
		fetch(t, h.On, "http://127.0.0.1:8081/")
		r := h.From(t, "curl", "-sS", "--max-time", "2", "http://"+h.Addr+":8081/")
		assert.Assert(t, r.Code != 0, "a port of 127.0.0.1 answered another machine: %s", r.Stdout)
	})
	t.Run("from containers", func(t *testing.T) {
		gw := h.Docker(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "web")
		for _, at := range []string{"web", h.Addr + ":8080", gw + ":8080"} {
			assert.Equal(t, h.Docker(t, "run", "--rm", "busybox", "wget", "-q", "-O", "-", "http://"+at+"/"), "hello from busybox")
		}
		assert.Equal(t, h.Docker(t, "exec", "web", "wget", "-q", "-O", "-", "http://"+h.Addr+":8080/"), "hello from busybox", "its own published port")
	})
	t.Run("taken by a container", func(t *testing.T) {
		r := h.Try(t, "run", "-d", "--name", "second", "-p", "8080:80", "busybox", "sleep", "600")
		assert.Equal(t, r.Code, 125)
		assert.Assert(t, is.Contains(r.Stderr, "Bind for 0.0.0.0:8080 failed: port is already allocated"))
		h.Docker(t, "rm", "second")
	})
	t.Run("taken by a process", func(t *testing.T) {
		release := listen(t, h, "0.0.0.0:8099")
		r := h.Try(t, "run", "-d", "--name", "third", "-p", "8099:80", "busybox", "sleep", "600")
		assert.Equal(t, r.Code, 125)
		assert.Assert(t, is.Contains(r.Stderr, "failed to bind host port"))
		assert.Assert(t, is.Contains(r.Stderr, "address already in use"))
		release()
		h.Docker(t, "start", "third")
	})
	t.Run("free again after stop", func(t *testing.T) {
		h.Docker(t, "stop", "-t", "0", "web")
		r := h.On(t, "curl", "-sS", "--max-time", "2", "http://127.0.0.1:8080/")
		assert.Assert(t, r.Code != 0)
		h.Docker(t, append([]string{"run", "-d", "--name", "heir", "-p", "8080:80"}, web...)...)
		fetch(t, h.On, "http://127.0.0.1:8080/")
	})
	runCases(t, h, []cliCase{
		{name: "bad port", args: "run -p 99999:80 busybox true", code: 125, stderr: "invalid"},
		{name: "range", args: "run -d --name range -p 9000-9002:80-82 busybox sleep 600", out: "~"},
		{name: "range is published", args: "port range 81", out: "~0.0.0.0:9001"},
		{name: "udp", args: "run -d --name echo -p 5353:5353/udp udpecho :5353", out: "~"},
	})
	t.Run("udp answers", func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(testing.TB, ...string) lab.Result
			at   string
		}{
			{"another machine", h.From, h.Addr}, {"another machine, IPv6", h.From, "fd00:198:18::1"},
			{"the host", h.On, h.Addr}, {"the host's loopback", h.On, "127.0.0.1"},
		} {
			eventually(t, 30*time.Second, func() error {
				r := c.run(t, "bash", "-c", "exec 3<>/dev/udp/"+c.at+"/5353; echo ping >&3; timeout 1 head -n 1 <&3")
				if r.Stdout != "ping\n" {
					return fmt.Errorf("no echo to %s: %s", c.name, r.Combined())
				}
				return nil
			})
		}
	})
}

// listen has a process of the host hold a TCP port until release is called.
func listen(t *testing.T, h *lab.Host, addr string) (release func()) {
	t.Helper()
	_, port, _ := strings.Cut(addr, ":")
	stop := h.Background(t, "busybox", "nc", "-l", "-p", port)
	eventually(t, 30*time.Second, func() error {
		if r := h.On(t, "ss", "-Hltn", "sport", "=", ":"+port); r.Stdout == "" {
			return fmt.Errorf("nobody listens on %s", port)
		}
		return nil
	})
	return stop
}

func TestNetworkModes(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "base", "--hostname", "basehost", "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
	reach(t, h, "base", "127.0.0.1")
	runCases(t, h, []cliCase{
		{name: "none has a loopback only", args: "run --rm --network none busybox sh -c 'ls /sys/class/net'", out: "lo"},
		{name: "host is the host's", args: "run --rm --network host busybox sh -c 'ls /sys/class/net | grep up0'", out: "up0"},
		{name: "container shares", args: "run --rm --network container:base busybox wget -q -O - http://127.0.0.1/", out: "hello from busybox"},
		{name: "container shares the hostname", args: "run --rm --network container:base busybox hostname", out: "basehost"},
		{name: "container shares with one that shares", args: "run -d --name tenant --network container:base busybox sleep 600", out: "~"},
		{name: "container shares with one that shares, its files", args: "run --rm --network container:tenant busybox sh -c 'cat /etc/hostname; wget -q -O - http://127.0.0.1/'", out: "basehost\nhello from busybox"},
		{name: "container of none", args: "run --rm --network container:nosuch busybox true", code: 125, stderr: "No such container: nosuch"},
		{name: "no such network", args: "run --rm --network nosuch busybox true", code: 125, stderr: "network nosuch not found"},
		{name: "host with a port", args: "run --rm --network host -p 80:80 busybox true", out: "", stderr: "Published ports are discarded when using host network mode"},
		{name: "by name", args: "run --rm busybox ping -c 1 -W 2 base", out: "~1 packets received"},
		{name: "out to the world", args: "run --rm busybox ping -c 1 -W 2 " + h.Outside, out: "~1 packets received"},
		{name: "resolv.conf", args: "run --rm busybox cat /etc/resolv.conf", out: "~nameserver 127.0.0.11"},
		{name: "dns search", args: "run --rm --dns-search example.com --dns-opt timeout:1 busybox cat /etc/resolv.conf", out: "~search example.com"},
		{name: "add-host", args: "run --rm --add-host db:10.1.2.3 busybox grep -w db /etc/hosts", out: "10.1.2.3\tdb"},
		{name: "host-gateway", args: "run --rm --add-host gw:host-gateway busybox sh -c 'ping -c 1 -W 2 gw'", out: "~1 packets received"},
		{name: "mac address", args: "run --rm --mac-address 02:42:ac:11:00:99 busybox cat /sys/class/net/eth0/address", out: "02:42:ac:11:00:99"},
		{name: "network ls", args: "network ls --format {{.Name}}/{{.Driver}}/{{.Scope}}", out: "bridge/bridge/local\nhost/host/local\nnone/null/local"},
		{name: "network inspect", args: "network inspect -f '{{range .Containers}}{{.Name}}{{end}}' bridge", out: "base"},
		{name: "network rm bridge", args: "network rm bridge", code: 1, stderr: "bridge is a pre-defined network and cannot be removed"},
	})
}

func TestResolver(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Docker(t, "run", "-d", "--name", "db", "busybox", "sleep", "600")
	ip := h.Docker(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "db")
	short := h.Docker(t, "ps", "-q", "--filter", "name=db")
	runCases(t, h, []cliCase{
		{name: "name", args: "run --rm busybox nslookup db", out: "~" + ip},
		{name: "short id", args: "run --rm busybox nslookup " + short, out: "~" + ip},
		{name: "itself", args: "run --rm --name me busybox ping -c 1 -W 2 me", out: "~1 packets received"},
		{name: "reverse", args: "run --rm busybox nslookup " + ip, out: "~db"},
	})
	eventually(t, 30*time.Second, func() error { // names are published in a moment
		if r := h.Try(t, "run", "--rm", "busybox", "nslookup", "db.inst.admin.dc1.cns.internal"); !strings.Contains(r.Stdout, ip) {
			return fmt.Errorf("the CNS name: %s", r.Combined())
		}
		return nil
	})
	h.Docker(t, "rm", "-f", "db")
	r := h.Try(t, "run", "--rm", "busybox", "ping", "-c", "1", "-W", "1", "db")
	assert.Assert(t, r.Code != 0, "a removed container's name still answers: %s", r.Combined())
}

func TestCNS(t *testing.T) {
	h := lab.NewWithBusybox(t)
	// says waits for an answer, sorted; "~x" wants x in it. Names are published a moment after what they tell of.
	says := func(want string, question ...string) {
		t.Helper()
		eventually(t, 30*time.Second, func() error {
			lines := strings.Split(strings.TrimSpace(h.On(t, append([]string{"dig", "+time=2", "+tries=1", "@127.0.0.1"}, question...)...).Stdout), "\n")
			slices.Sort(lines)
			got := strings.Join(lines, "\n")
			if part, within := strings.CutPrefix(want, "~"); got != want && (!within || !strings.Contains(got, part)) {
				return fmt.Errorf("%v: %s, want %s", question, got, want)
			}
			return nil
		})
	}
	h.Docker(t, "run", "-d", "--name", "web1", "--label", "nereid.cns.services=web:80", "busybox", "sleep", "600")
	h.Docker(t, "run", "-d", "--name", "web2", "--label", "triton.cns.services=web", "busybox", "sleep", "600")
	h.Docker(t, "run", "-d", "--name", "c1", "--label", "com.docker.compose.service=api", "--label", "com.docker.compose.project=shop", "busybox", "sleep", "600")
	ip := func(name string) string {
		return h.Docker(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name)
	}
	web1, web2, c1 := ip("web1"), ip("web2"), ip("c1")
	const zone = "admin.dc1.cns.internal"
	says(web1, "+short", "web1.inst."+zone)
	says(web1, "+short", "+tcp", "web1.inst."+zone)
	both := []string{web1, web2}
	slices.Sort(both)
	says(strings.Join(both, "\n"), "+short", "web.svc."+zone)
	says(c1, "+short", "api.svc."+zone)
	says("web1.inst."+zone+".", "+short", "-x", web1)
	says("~status: NXDOMAIN", "nosuch.inst."+zone)
	says("~status: NOERROR", "web1.inst."+zone, "AAAA")
	says("~flags: qr aa", "web1.inst."+zone)
	says("~status: REFUSED", "example.com")
	says("~dc1.cns.internal.", "+short", "dc1.cns.internal", "SOA")
	h.Docker(t, "stop", "-t", "0", "web1")
	says(web2, "+short", "web.svc."+zone)
	says("~status: NXDOMAIN", "web1.inst."+zone)
	h.Docker(t, "start", "web1")
	says(ip("web1"), "+short", "web1.inst."+zone)
}
