//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// serve runs a web server in a container with these options.
func serve(t *testing.T, h *lab.Host, options ...string) {
	t.Helper()
	args := append([]string{"run", "-d"}, options...)
	h.Docker(t, append(args, "busybox", "httpd", "-f", "-p", "80", "-h", "/www")...)
}

// reach wants the web page of a container, asked for inside another.
func reach(t *testing.T, h *lab.Host, from, at string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if r := h.Try(t, "exec", from, "timeout", "3", "wget", "-q", "-O", "-", "http://"+at+"/"); r.Stdout != "hello from busybox\n" {
			return fmt.Errorf("%s from %s: %s", at, from, r.Combined())
		}
		return nil
	})
}

// miss wants no answer.
func miss(t *testing.T, h *lab.Host, from, at string) {
	t.Helper()
	r := h.Try(t, "exec", from, "timeout", "1", "wget", "-q", "-O", "-", "http://"+at+"/")
	assert.Assert(t, r.Code != 0, "%s reached %s: %s", from, at, r.Stdout)
}

func TestUserNetworks(t *testing.T) {
	h := lab.NewWithBusybox(t)
	blue := h.Docker(t, "network", "create", "--label", "colour=blue", "blue")
	h.Docker(t, "network", "create", "--driver", "overlay", "--subnet", "172.28.0.0/16", "--gateway", "172.28.0.9", "red")
	serve(t, h, "--name", "web", "--network", "blue", "--network-alias", "www", "-p", "8080:80")
	h.Docker(t, "run", "-d", "--name", "one", "--network", "blue", "busybox", "sleep", "600")
	h.Docker(t, "run", "-d", "--name", "two", "--network", "red", "--ip", "172.28.0.77", "busybox", "sleep", "600")
	h.Docker(t, "run", "-d", "--name", "both", "--network", "blue", "--network", "red", "busybox", "sleep", "600")

	t.Run("names on the networks they share", func(t *testing.T) {
		for _, at := range []string{"web", "www", "web.blue", "WEB"} {
			reach(t, h, "one", at)
			reach(t, h, "both", at)
			miss(t, h, "two", at)
		}
		fetch(t, h.On, "http://127.0.0.1:8080/")
	})
	t.Run("connect a running container", func(t *testing.T) {
		h.Docker(t, "network", "connect", "--alias", "late", "--ip", "172.28.0.80", "red", "web")
		reach(t, h, "two", "web")
		reach(t, h, "two", "late")
		assert.Equal(t, h.Docker(t, "exec", "web", "ls", "/sys/class/net"), "eth0\neth1\nlo")
		assert.Assert(t, is.Contains(h.Docker(t, "exec", "web", "cat", "/etc/hosts"), "172.28.0.80\t"))
		fetch(t, h.On, "http://127.0.0.1:8080/")
		r := h.Try(t, "network", "connect", "red", "web")
		assert.Assert(t, is.Contains(r.Stderr, "endpoint with name web already exists in network red"))
	})
	t.Run("a restart of the daemon", func(t *testing.T) {
		h.Kill9(t)
		h.Start(t)
		reach(t, h, "two", "late")
		reach(t, h, "one", "web")
		fetch(t, h.On, "http://127.0.0.1:8080/")
	})
	t.Run("disconnect the one with the default route", func(t *testing.T) {
		h.Docker(t, "network", "disconnect", "blue", "web")
		miss(t, h, "one", "web")
		reach(t, h, "two", "web")
		assert.Equal(t, h.Docker(t, "exec", "web", "ls", "/sys/class/net"), "eth1\nlo")
		assert.Assert(t, is.Contains(h.Docker(t, "exec", "web", "ip", "route"), "default via 172.28.0.9 dev eth1"))
		fetch(t, h.On, "http://127.0.0.1:8080/")
		fetch(t, h.From, "http://"+h.Addr+":8080/")
	})
	t.Run("without any network and back", func(t *testing.T) {
		h.Docker(t, "network", "disconnect", "red", "web")
		assert.Equal(t, h.Docker(t, "exec", "web", "ls", "/sys/class/net"), "lo")
		assert.Equal(t, h.Docker(t, "port", "web"), "")
		h.Docker(t, "network", "connect", "blue", "web")
		reach(t, h, "one", "web")
		fetch(t, h.On, "http://127.0.0.1:8080/")
	})
	t.Run("survives stop and start", func(t *testing.T) {
		h.Docker(t, "restart", "-t", "0", "web")
		reach(t, h, "one", "web")
	})
	t.Run("from none", func(t *testing.T) {
		sees := func(want string, args ...string) {
			t.Helper()
			assert.Assert(t, is.Contains(h.Docker(t, append([]string{"exec", "bare"}, args...)...), want))
		}
		h.Docker(t, "run", "-d", "--name", "bare", "--network", "none", "busybox", "sleep", "600")
		for range 2 { // and back
			h.Docker(t, "network", "disconnect", "none", "bare")
			h.Docker(t, "network", "connect", "red", "bare")
			sees("eth0", "ls", "/sys/class/net")
			sees("1 packets received", "ping", "-c", "1", "two")
			h.Docker(t, "restart", "-t", "0", "bare")
			sees("1 packets received", "ping", "-c", "1", "two")
			h.Docker(t, "network", "disconnect", "red", "bare")
			h.Docker(t, "network", "connect", "none", "bare")
			assert.Equal(t, h.Docker(t, "exec", "bare", "ls", "/sys/class/net"), "lo")
		}
		h.Docker(t, "rm", "-f", "bare")
	})
	runCases(t, h, []cliCase{
		{name: "ls", args: "network ls --filter type=custom --format {{.Name}}/{{.Driver}}/{{.Scope}}", out: "blue/bridge/local\nred/overlay/local"},
		{name: "ls by label", args: "network ls -q --no-trunc --filter label=colour=blue", out: blue},
		{name: "inspect", args: "network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{end}}' red", out: "~two 172.28.0.77/16"},
		{name: "inspect the subnet", args: "network inspect -f '{{json .IPAM.Config}}' red", out: `[{"Subnet":"172.28.0.0/16","Gateway":"172.28.0.9"}]`},
		{name: "created twice", args: "network create blue", code: 1, stderr: "network with name blue already exists"},
		{name: "overlap", args: "network create --subnet 172.28.3.0/24 x", code: 1, stderr: "Pool overlaps with other one on this address space"},
		{name: "rm in use", args: "network rm red", code: 1, stderr: "network red has active endpoints (name:\"both\""},
		{name: "address in use", args: "run --rm --network red --ip 172.28.0.77 busybox true", code: 125, stderr: "Address already in use"},
		{name: "address of nobody", args: "run --rm --network red --ip 172.28.255.255 busybox true", code: 125, stderr: "Address already in use"},
		{name: "address of another subnet", args: "run --rm --network red --ip 10.1.2.3 busybox true", code: 125, stderr: "no configured subnet or ip-range contain the IP address 10.1.2.3"},
		{name: "disconnect what is not connected", args: "network disconnect red web", code: 1, stderr: "is not connected to network red"},
		{name: "connect to none", args: "network connect none web", code: 1, stderr: "container cannot be connected to multiple networks with one of the networks in private (none) mode"},
		{name: "connect to host", args: "network connect host web", code: 1, stderr: "cannot connect container to host network - container must be created in host network mode"},
		{name: "no driver", args: "network create -d nosuch x", code: 1, stderr: `plugin "nosuch" not found`},
		{name: "prune spares what is used", args: "network prune -f", out: ""},
	})
	h.Docker(t, "rm", "-f", "two", "both")
	assert.Equal(t, h.Docker(t, "network", "rm", "red"), "red")
	eventually(t, 30*time.Second, func() error {
		if addrs := h.On(t, "ip", "-o", "addr").Stdout; strings.Contains(addrs, "172.28.") {
			return fmt.Errorf("the removed network has addresses:\n%s", addrs)
		}
		return nil
	})
	h.Docker(t, "rm", "-f", "web", "one")
	assert.Assert(t, is.Contains(h.Docker(t, "network", "prune", "-f"), "blue"))
	want := strings.Join([]string{
		"create", "connect", "connect", "connect", // web, one, both
		"disconnect", "connect", "disconnect", "connect", // web off and on, and its restart
		"disconnect", "disconnect", "disconnect", "destroy",
	}, "\n")
	eventually(t, 30*time.Second, func() error { // --until counts in whole seconds
		got := h.Docker(t, "events", "--since", "10m", "--until", "0s", "--filter", "type=network", "--filter", "network="+blue, "--format", "{{.Action}}")
		if got != want {
			return fmt.Errorf("events of network blue: %s", got)
		}
		return nil
	})
}
