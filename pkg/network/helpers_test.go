package network

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

func testBoxID(n int) nereid.ContainerID { return nereid.ContainerID(fmt.Sprintf("%064x", n)) }

// askFrom asks once over UDP from a given address, "" when nobody is there.
func askFrom(t *testing.T, from, at string) string {
	t.Helper()
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	c, err := d.Dial("udp", at)
	assert.NilError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * patience)) // who is not there refuses at once
	_, _ = io.WriteString(c, "hello")
	buf := make([]byte, 100)
	n, _ := c.Read(buf)
	return string(buf[:n])
}

func addRoute(dst, gw string) error {
	return withNetlink(func(nl *netlink.Handle) error {
		return nl.RouteReplace(&netlink.Route{Dst: ipNet(netip.MustParsePrefix(dst)), Gw: net.ParseIP(gw)})
	})
}

// loopbackElsewhere has a container send what is for 127.0.0.1 to its gateway, as one with enough capabilities may.
func loopbackElsewhere() error {
	if err := sysctl("ipv4/conf/all/route_localnet", "1", false); err != nil {
		return err
	}
	return withNetlink(func(nl *netlink.Handle) error {
		lo, err := nl.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := nl.AddrDel(lo, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("127.0.0.1/8"))}); err != nil {
			return err
		}
		eth, err := nl.LinkByName("eth0")
		if err != nil {
			return err
		}
		return nl.RouteReplace(&netlink.Route{
			LinkIndex: eth.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("127.0.0.1/32")), Gw: net.ParseIP("10.200.1.1"),
		})
	})
}

func withNetlink(do func(*netlink.Handle) error) error {
	nl, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	return do(nl)
}

func linksIn(t *testing.T, ns *os.File) (names []string) {
	t.Helper()
	within(t, ns, func() error {
		return withNetlink(func(nl *netlink.Handle) error {
			links, err := nl.LinkList()
			for _, l := range links {
				// Some kernels put devices of their own into each namespace.
				if n := l.Attrs().Name; n == "lo" || strings.HasPrefix(n, "eth") {
					names = append(names, n)
				}
			}
			return err
		})
	})
	slices.Sort(names)
	return names
}

func defaultGateway(t *testing.T, ns *os.File) (gw string) {
	t.Helper()
	within(t, ns, func() error {
		return withNetlink(func(nl *netlink.Handle) error {
			routes, err := nl.RouteList(nil, netlink.FAMILY_V4)
			for _, r := range routes {
				if ones, _ := r.Dst.Mask.Size(); ones == 0 {
					gw += r.Gw.String()
				}
			}
			return err
		})
	})
	return gw
}

// foreignTable is one that someone else has on the host.
func foreignTable(t *testing.T, name string, fill func(*nftables.Conn, *nftables.Table)) {
	t.Helper()
	conn, err := nftables.New()
	assert.NilError(t, err)
	table := conn.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet})
	fill(conn, table)
	assert.NilError(t, conn.Flush())
	t.Cleanup(func() {
		conn.DelTable(table)
		assert.Check(t, conn.Flush())
	})
}

func dropInput(conn *nftables.Conn, table *nftables.Table) {
	drop := nftables.ChainPolicyDrop
	conn.AddChain(&nftables.Chain{
		Name: "input", Table: table, Type: nftables.ChainTypeFilter, Policy: &drop,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
}

func flushRules(t *testing.T) {
	t.Helper()
	conn, err := nftables.New()
	assert.NilError(t, err)
	conn.FlushRuleset()
	assert.NilError(t, conn.Flush())
}
