package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// inNamespaces tells the test binary that it is the one within namespaces of its own.
const inNamespaces = "NEREID_NETWORK_TEST_IN_NAMESPACES"

// TestMain runs the tests in a network and a mount namespace of their own: whatever they do or leave behind is gone
// with them.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespaces) != "" {
		os.Exit(runIsolated(m))
	}
	if os.Geteuid() != 0 {
		fmt.Println("these tests make network namespaces, which takes root")
		os.Exit(1)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNamespaces+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Println(err)
		os.Exit(1)
	}
}

func runIsolated(m *testing.M) int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		panic(err)
	}
	if err := setUpLoopback(); err != nil {
		panic(err)
	}
	if err := sysctl("ipv6/conf/default/disable_ipv6", "0", true); err != nil {
		panic(err)
	}
	return m.Run()
}

// newFabric makes a Fabric of a host of its own and takes all it made away at the end.
func newFabric(t *testing.T, edit ...func(*Config)) *Fabric {
	t.Helper()
	cfg := Config{Host: nereid.Host(t.Name()), ExecRoot: t.TempDir(), Log: zaptest.NewLogger(t)}
	for _, e := range edit {
		e(&cfg)
	}
	f, err := New(cfg)
	assert.NilError(t, err)
	assert.NilError(t, f.Restore(t.Context(), nil)) // as a daemon does first
	t.Cleanup(func() {
		assert.Check(t, f.Restore(context.Background(), nil)) // nothing runs: everything goes
		assert.Check(t, f.fw.remove())
		f.close()
	})
	return f
}

// testNetwork is a bridge network; the number tells several apart.
func testNetwork(n uint32) *state.Network {
	prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(n), 0}), 24)
	return &state.Network{
		Name: fmt.Sprintf("net%d", n), ID: nereid.NewNetworkID(), Driver: "bridge", IPv4: true, VNI: n,
		Subnets: []state.Subnet{{Prefix: prefix, Gateway: prefix.Addr().Next()}},
	}
}

// box is a container as far as the network sees it.
type box struct {
	t    *testing.T
	id   nereid.ContainerID
	path string
	ns   *os.File
	addr netip.Addr
	to   []Attachment
}

// newBox makes a sandbox on a network with the n-th address.
func newBox(t *testing.T, f *Fabric, n byte, networks ...*state.Network) *box {
	t.Helper()
	b := &box{t: t, id: nereid.NewContainerID()}
	var err error
	b.path, err = f.NewSandbox(t.Context(), b.id, SandboxOptions{Account: nereid.Admin})
	assert.NilError(t, err)
	for i, network := range networks {
		b.to = append(b.to, attachment(network, i, n))
	}
	assert.NilError(t, f.Attach(t.Context(), b.id, b.to))
	if len(b.to) > 0 {
		b.addr = b.to[0].Endpoint.Address.Addr()
	}
	b.ns, err = os.Open(b.path)
	assert.NilError(t, err)
	t.Cleanup(func() { b.ns.Close() })
	return b
}

func attachment(network *state.Network, order int, n byte) Attachment {
	s := network.Subnets[0]
	a4 := s.Prefix.Addr().As4()
	a4[3] = n
	a := netip.AddrFrom4(a4)
	return Attachment{Network: network, Endpoint: &state.Endpoint{
		Network: network.ID, ID: nereid.NewEndpointID(), Order: order,
		Address: netip.PrefixFrom(a, s.Prefix.Bits()), Gateway: s.Gateway, MAC: MAC(a),
	}}
}

// within runs fn in a namespace; nil is the host's.
func within(t *testing.T, ns *os.File, fn func() error) {
	t.Helper()
	if ns == nil {
		assert.NilError(t, fn())
		return
	}
	assert.NilError(t, inNetns(ns, fn))
}

// listen serves TCP and UDP at an address of a namespace: each answers "name client-address: " and what it was sent.
func listen(t *testing.T, ns *os.File, name, at string) {
	t.Helper()
	within(t, ns, func() error {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					said, _ := io.ReadAll(c)
					fmt.Fprintf(c, "%s %s: %s", name, hostOf(c.RemoteAddr()), said)
				}()
			}
		}()
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { u.Close() })
		go func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := u.ReadFrom(buf)
				if err != nil {
					return
				}
				fmt.Fprintf(writer(func(p []byte) { u.WriteTo(p, from) }), "%s %s: %s", name, hostOf(from), buf[:n])
			}
		}()
		return nil
	})
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

func hostOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// ask sends a word from a namespace and returns what comes back, "" when nothing does.
func ask(t *testing.T, ns *os.File, network, at string) string {
	t.Helper()
	answer, _ := tryAsk(ns, network, at)
	return answer
}

// patience is how long a question may take; everything is on this machine. What must come may take as long as soon.
const (
	patience = 500 * time.Millisecond
	soon     = time.Minute
)

func tryAsk(ns *os.File, network, at string) (answer string, err error) {
	var c net.Conn
	dial := func() error {
		c, err = net.DialTimeout(network, at, patience)
		return err
	}
	if ns == nil {
		err = dial()
	} else {
		err = inNetns(ns, dial)
	}
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return "", err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.CloseWrite()
		b, err := io.ReadAll(c)
		return string(b), err
	}
	buf := make([]byte, 2048)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// askUntil asks again until an answer begins as it should: on a machine with much to do one may be late.
func askUntil(ns *os.File, network, at, begins string) (answer string, err error) {
	for range 40 {
		if answer, err = tryAsk(ns, network, at); strings.HasPrefix(answer, begins) {
			break
		}
	}
	return answer, err
}

// reaches asserts that the named server answers over TCP and UDP.
func reaches(t *testing.T, from *os.File, at, name string) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		answer, err := askUntil(from, network, at, name+" ")
		assert.Check(t, strings.HasPrefix(answer, name+" ") && strings.HasSuffix(answer, ": hello"),
			"%s to %s answered %q (%v), want %s", network, at, answer, err, name)
	}
}

// hears asserts an answer, word for word.
func hears(t *testing.T, from *os.File, network, at, want string) {
	t.Helper()
	answer, err := askUntil(from, network, at, want)
	assert.Check(t, answer == want, "%s to %s answered %q (%v), want %q", network, at, answer, err, want)
}

// misses asserts that nothing answers.
func misses(t *testing.T, from *os.File, at string) {
	t.Helper()
	var both sync.WaitGroup
	for _, network := range []string{"tcp", "udp"} {
		both.Go(func() {
			assert.Check(t, ask(t, from, network, at) == "", "%s to %s is answered", network, at)
		})
	}
	both.Wait()
}

// machine is another machine on a wire to the host, with 192.0.2.2 and 2001:db8::2; the host has .1 and ::1. It has
// no route to the containers.
func machine(t *testing.T) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "machine")
	ns, err := makeNetns(path, nereid.IDMap{}, func() error {
		return errors.Join(setUpLoopback(), sysctl("ipv6/conf/default/disable_ipv6", "0", true))
	})
	assert.NilError(t, err)
	nl, err := openNetlink(unix.NETLINK_ROUTE)
	assert.NilError(t, err)
	defer nl.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags = "wire0", net.FlagUp
	assert.NilError(t, nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "wire1", PeerNamespace: netlink.NsFd(int(ns.Fd()))}))
	t.Cleanup(func() {
		if l, err := netlink.LinkByName("wire0"); err == nil {
			assert.Check(t, netlink.LinkDel(l))
		}
		ns.Close()
		assert.Check(t, removeNetns(path))
	})
	address := func(link, last string) error {
		nl, err := openNetlink(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer nl.Close()
		l, err := nl.LinkByName(link)
		if err != nil {
			return err
		}
		v4, v6 := netip.MustParsePrefix("192.0.2."+last+"/24"), netip.MustParsePrefix("2001:db8::"+last+"/64")
		return errors.Join(
			nl.AddrReplace(l, &netlink.Addr{IPNet: ipNet(v4)}),
			nl.AddrReplace(l, &netlink.Addr{IPNet: ipNet(v6), Flags: unix.IFA_F_NODAD}),
			nl.LinkSetUp(l))
	}
	within(t, nil, func() error { return address("wire0", "1") })
	within(t, ns, func() error { return address("wire1", "2") })
	for last, where := range map[string]*os.File{"1": nil, "2": ns} { // or the first packet of IPv6 is lost
		within(t, where, func() error {
			nl, err := dialRtnl()
			if err != nil {
				return err
			}
			defer nl.close()
			for !nl.hears(netip.MustParseAddr("2001:db8::"+last)) && pause(t.Context(), time.Millisecond) {
			}
			return nil
		})
	}
	return ns
}
