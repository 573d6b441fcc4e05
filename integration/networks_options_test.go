//go:build integration

package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestNetworkOptions: what the options of networks and endpoints do to links, addresses and packets.
func TestNetworkOptions(t *testing.T) {
	h := lab.NewWithBusybox(t)
	for _, args := range []string{
		"--subnet 172.29.0.0/24 --ip-range 172.29.0.64/30 --gateway 172.29.0.1 --aux-address router=172.29.0.65 --opt com.docker.network.bridge.name=br-mine --opt com.docker.network.driver.mtu=1400 --opt com.docker.network.container_iface_prefix=net ranged",
		"--subnet 172.29.1.0/30 --subnet 172.29.2.0/24 two",
		"--ipv6 --subnet 172.29.3.0/24 --subnet 2001:db8:29::/64 six",
		"--subnet 172.29.4.0/24 --opt com.docker.network.bridge.enable_ip_masquerade=false plain",
		"--subnet 172.29.5.0/24 --opt com.docker.network.bridge.host_binding_ipv4=127.0.0.1 bound",
		"--subnet 172.29.6.0/24 --attachable --label a=b --label c green",
		"--subnet 172.29.7.0/24 --internal inner",
		"--ipv6 --ipv4=false --subnet 2001:db8:2a::/64 only6",
	} {
		h.Docker(t, append([]string{"network", "create"}, strings.Fields(args)...)...)
	}
	run := func(name string, args ...string) {
		t.Helper()
		h.Docker(t, append(append([]string{"run", "-d", "--name", name}, args...), "busybox", "httpd", "-f", "-p", "80", "-h", "/www")...)
	}
	run("r1", "--network", "ranged")
	run("t1", "--network", "two")
	run("t2", "--network", "two")
	run("s1", "--network", "six", "-p", "127.0.0.1:8001:80", "-p", "[::1]:8002:80", "-p", h.Addr+":8003:80", "-p", "[fd00:198:18::1]:8004:80")
	run("p1", "--network", "plain")
	run("b1", "--network", "bound", "-p", "8005:80")
	run("i1", "--network", "inner")
	run("o1", "--network", "only6", "-p", "8006:80")
	run("e1", "--network", "name=green,ip=172.29.6.9,mac-address=02:42:00:00:00:07,link-local-ip=169.254.8.8,alias=other,driver-opt=com.docker.network.endpoint.ifname=wan0,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,gw-priority=1",
		"--network", "name=two,gw-priority=0")
	runCases(t, h, []cliCase{
		{name: "the range leaves out what is auxiliary", args: "exec r1 ip -4 -o addr show dev net0", out: "~172.29.0.64/24"},
		{name: "MTU", args: "exec r1 cat /sys/class/net/net0/mtu", out: "1400"},
		{name: "auxiliary addresses are shown", args: "network inspect -f '{{json .IPAM.Config}}' ranged", out: `[{"Subnet":"172.29.0.0/24","IPRange":"172.29.0.64/30","Gateway":"172.29.0.1","AuxiliaryAddresses":{"router":"172.29.0.65"}}]`},
		{name: "the second subnet", args: "exec t2 ip -4 -o addr show dev eth0", out: "~172.29.2."},
		{name: "IPv6 inside", args: "exec s1 ip -6 -o addr show dev eth0 scope global", out: "~2001:db8:29::"},
		{name: "no IPv4", args: "exec o1 ip -4 -o addr show dev eth0", out: ""},
		{name: "interface name", args: "exec e1 ls /sys/class/net", out: "eth0\nlo\nwan0"},
		{name: "hardware address", args: "exec e1 cat /sys/class/net/wan0/address", out: "02:42:00:00:00:07"},
		{name: "link-local address", args: "exec e1 ip -4 -o addr show dev wan0", out: "~169.254.8.8/16"},
		{name: "sysctl of the interface", args: "exec e1 cat /proc/sys/net/ipv4/conf/wan0/log_martians", out: "1"},
		{name: "gateway by priority", args: "exec e1 ip route show default", out: "~via 172.29.6.1 dev wan0"},
		{name: "endpoint's settings are shown", args: "inspect -f '{{with index .NetworkSettings.Networks \"green\"}}{{.GwPriority}} {{.MacAddress}} {{.IPAMConfig.LinkLocalIPs}} {{.DriverOpts}}{{end}}' e1",
			out: "1 02:42:00:00:00:07 [169.254.8.8] map[com.docker.network.endpoint.ifname:wan0 com.docker.network.endpoint.sysctls:net.ipv4.conf.ifname.log_martians=1]"},
		{name: "labels", args: "network inspect -f '{{json .Labels}} {{.Attachable}} {{.Internal}}' green", out: `{"a":"b","c":""} true false`},
		{name: "verbose adds nothing without swarm", args: "network inspect -v -f '{{json .Services}} {{json .Peers}}' green", out: "null null"},
		{name: "connect with addresses", args: "network connect --ip 172.29.3.50 --ip6 2001:db8:29::50 --alias late --link-local-ip 169.254.9.9 --driver-opt com.docker.network.endpoint.ifname=lan9 --gw-priority 5 six p1", out: ""},
		{name: "connect's address", args: "exec p1 ip -4 -o addr show dev lan9", out: "~172.29.3.50/24"},
		{name: "connect's IPv6 address", args: "exec p1 ip -6 -o addr show dev lan9", out: "~2001:db8:29::50/64"},
		{name: "connect's link-local address", args: "exec p1 ip -4 -o addr show dev lan9", out: "~169.254.9.9/16"},
		{name: "connect moves the default route", args: "exec p1 ip route show default", out: "~via 172.29.3.1 dev lan9"},
		{name: "disconnect moves it back", args: "network disconnect six p1", out: ""},
		{name: "back", args: "exec p1 ip route show default", out: "~via 172.29.4.1 dev eth0"},

		{name: "range outside", args: "network create --subnet 172.29.8.0/24 --ip-range 172.29.9.0/24 x", code: 1, stderr: "no matching subnet for range"},
		{name: "gateway outside", args: "network create --subnet 172.29.8.0/24 --gateway 172.29.9.1 x", code: 1, stderr: "no matching subnet for gateway 172.29.9.1"},
		{name: "auxiliary address outside", args: "network create --subnet 172.29.8.0/24 --aux-address a=172.29.9.1 x", code: 1, stderr: "no matching subnet for aux-address"},
		{name: "not a network's address", args: "network create --subnet 172.29.8.1/24 x", code: 1, stderr: "invalid subnet 172.29.8.1/24: it should be 172.29.8.0/24"},
		{name: "no subnet of IPv6", args: "network create --ipv6 --subnet 172.29.8.0/24 auto6", out: "~"},
		{name: "an IPAM driver", args: "network create --ipam-driver nosuch x", code: 1, stderr: "nosuch"},
		{name: "a bad option", args: "network create --opt com.docker.network.driver.mtu=x y", code: 1, stderr: "com.docker.network.driver.mtu"},
		{name: "the name of one that is predefined", args: "network create bridge", code: 1, stderr: "operation is not permitted on predefined bridge network"},
		{name: "host's name", args: "network create host", code: 1, stderr: "operation is not permitted on predefined host network"},
		{name: "another of host's driver", args: "network create -d host x", code: 1, stderr: `only one instance of "host" network is allowed`},
		{name: "another of null's driver", args: "network create -d null x", code: 1, stderr: `only one instance of "null" network is allowed`},
		{name: "rm host", args: "network rm host", code: 1, stderr: "host is a pre-defined network and cannot be removed"},
		{name: "rm none", args: "network rm none", code: 1, stderr: "none is a pre-defined network and cannot be removed"},
		{name: "an alias on the default network", args: "run --rm --network-alias x busybox true", code: 125, stderr: "network-scoped aliases are only supported for user-defined networks"},
		{name: "an address on the default network", args: "run --rm --ip 10.128.0.99 busybox true", code: 125, stderr: "user specified IP address is supported on user defined networks only"},
		{name: "an address without a subnet of the user's", args: "run --rm --network auto6 --ip6 fd00::1 busybox true", code: 125, stderr: "no configured subnet or ip-range contain the IP address fd00::1"},
		{name: "disconnect from host", args: "network disconnect host e1", code: 1, stderr: "is not connected to network host"},
		{name: "no container", args: "network connect green nosuch", code: 1, stderr: "No such container: nosuch"},
		{name: "no network", args: "network connect nosuch e1", code: 1, stderr: "network nosuch not found"},
	})
	reach(t, h, "t1", "t2") // each on a subnet of its own
	t.Run("published where bound", func(t *testing.T) {
		at := map[string]string{"127.0.0.1:8001": "", "[::1]:8002": "", h.Addr + ":8003": "machine", "[fd00:198:18::1]:8004": "machine", "127.0.0.1:8005": "", "[::1]:8006": "", "[fd00:198:18::1]:8006": "machine"}
		for a, also := range at {
			fetch(t, h.On, "http://"+a+"/")
			if also != "" {
				fetch(t, h.From, "http://"+a+"/")
			}
		}
		for _, a := range []string{h.Addr + ":8001", h.Addr + ":8002", "[fd00:198:18::1]:8002", "[fd00:198:18::1]:8003", h.Addr + ":8004", h.Addr + ":8005"} {
			r := h.From(t, "curl", "-gsS", "--max-time", "2", "http://"+a+"/")
			assert.Assert(t, r.Code != 0, "%s answers: %s", a, r.Stdout)
		}
	})
	t.Run("what goes out", func(t *testing.T) {
		h.From(t, "ip", "route", "add", "172.29.4.0/24", "via", h.Addr)
		for _, c := range []struct{ name, from, to, as string }{
			{"under the host's address", "r1", h.Outside, h.Addr},
			{"under the host's address of IPv6", "s1", "fd00:198:18::2", "fd00:198:18::1"},
			{"under its own", "p1", h.Outside, "172.29.4.2"},
		} {
			t.Run(c.name, func(t *testing.T) {
				seen := peersOf(t, h, c.to)
				eventually(t, 30*time.Second, func() error {
					h.Try(t, "exec", c.from, "timeout", "3", "nc", c.to, "7070", "-e", "true")
					select {
					case from := <-seen:
						if from != c.as {
							return fmt.Errorf("%s comes from %s and not %s", c.from, from, c.as)
						}
						return nil
					default:
						return fmt.Errorf("%s does not get out", c.from)
					}
				})
			})
		}
	})
	r := h.Try(t, "exec", "i1", "timeout", "2", "wget", "-q", "-O", "-", "http://"+h.Outside+"/")
	assert.Assert(t, r.Code != 0)
}

// peersOf listens on the other machine and tells from which addresses it is connected to.
func peersOf(t *testing.T, h *lab.Host, at string) <-chan string {
	t.Helper()
	l := h.ListenOutsideAt(t, net.JoinHostPort(at, "7070"))
	seen := make(chan string, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			seen <- host
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return seen
}
