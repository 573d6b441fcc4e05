package network

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap/zaptest"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// again is the daemon after kill -9: what the first held is gone, what it made is there.
func again(t *testing.T, f *Fabric) *Fabric {
	t.Helper()
	f.mu.Lock()
	for _, sb := range f.sandboxes {
		sb.stop()
	}
	f.sandboxes = map[nereid.ContainerID]*sandbox{}
	f.mu.Unlock()
	cfg := f.cfg
	cfg.Log = zaptest.NewLogger(t)
	next, err := New(cfg)
	assert.NilError(t, err)
	t.Cleanup(func() {
		assert.Check(t, next.Restore(context.Background(), nil))
		next.close()
	})
	return next
}

func (b *box) restored(ports []Published) Restored {
	return Restored{ID: b.id, Options: SandboxOptions{Account: nereid.Admin}, Attachments: b.to, Ports: ports}
}

func TestRestoreKeepsWhatRuns(t *testing.T) {
	f, _ := resolvers(t, book{"db": "10.200.1.3"})
	n := testNetwork(1)
	web, gone := newBox(t, f, 2, n), newBox(t, f, 3, n)
	listen(t, web.ns, "web", ":80")
	ports := append(both("0.0.0.0", 8080, web, 80), both("::", 8080, web, 80)...)
	assert.NilError(t, f.Publish(t.Context(), web.id, ports))
	assert.NilError(t, f.Publish(t.Context(), gone.id, both("0.0.0.0", 9090, gone, 90)))
	var open net.Conn
	within(t, nil, func() (err error) {
		open, err = net.Dial("tcp", "127.0.0.1:8080")
		return err
	})
	defer open.Close()

	f = again(t, f)
	reaches(t, nil, "192.0.2.1:8080", "web") // while the daemon is away
	_, err := tryQuery(web, "udp", "db", dns.TypeA)
	assert.Check(t, err != nil, "who answers?")

	assert.NilError(t, f.Restore(t.Context(), []Restored{web.restored(ports)}))
	for _, at := range []string{"127.0.0.1:8080", "192.0.2.1:8080", "[::1]:8080"} {
		reaches(t, nil, at, "web")
	}
	assert.Equal(t, answers(query(t, web, "udp", "db", dns.TypeA)), "10.200.1.3")
	assert.Equal(t, answers(query(t, web, "tcp", "db", dns.TypeA)), "10.200.1.3")
	for _, proto := range []string{"tcp", "udp"} {
		assert.Check(t, !f.PortFree(proto, ports[0].HostIP, 8080), "the port is not held again")
		assert.Check(t, f.PortFree(proto, ports[0].HostIP, 9090))
	}
	_, err = os.Stat(f.netnsPath(gone.id))
	assert.Check(t, os.IsNotExist(err))
	assert.DeepEqual(t, hostLinks(t, f), []string{f.names.bridge(1), f.names.veth(web.to[0].Endpoint.ID)})
	assert.Equal(t, len(f.fw.have.ports), 2)

	// A connection from before goes on.
	_, err = open.Write([]byte("hello"))
	assert.NilError(t, err)
	assert.NilError(t, open.(*net.TCPConn).CloseWrite())
	open.SetReadDeadline(time.Now().Add(soon))
	buf := make([]byte, 100)
	got, err := open.Read(buf)
	assert.NilError(t, err)
	assert.Check(t, strings.HasPrefix(string(buf[:got]), "web "))

	// And once more changes nothing.
	assert.NilError(t, f.Restore(t.Context(), []Restored{web.restored(ports)}))
	reaches(t, nil, "127.0.0.1:8080", "web")
	assert.NilError(t, f.Remove(t.Context(), web.id))
	assert.NilError(t, f.Restore(t.Context(), nil))
	assert.Equal(t, len(hostLinks(t, f)), 0)
}

// hostLinks are the names of the daemon's links on the host.
func hostLinks(t *testing.T, f *Fabric) (names []string) {
	t.Helper()
	links, err := f.nl.LinkList()
	assert.NilError(t, err)
	for _, l := range links {
		name := l.Attrs().Name
		if strings.HasPrefix(name, f.names.bridgePrefix()) || strings.HasPrefix(name, f.names.vethPrefix()) {
			names = append(names, name)
		}
	}
	return names
}

func TestRestoreAfterACrashInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, f *Fabric)
	}{
		{"of NewSandbox: a mount point without a mount", func(t *testing.T, f *Fabric) {
			t.Helper()
			assert.NilError(t, os.MkdirAll(filepath.Join(f.cfg.ExecRoot, "netns"), 0o755))
			assert.NilError(t, os.WriteFile(f.netnsPath(testBoxID(1)), nil, 0o444))
		}},
		{"of NewSandbox: a namespace without rules", func(t *testing.T, f *Fabric) {
			t.Helper()
			ns, err := makeNetns(f.netnsPath(testBoxID(1)), nereid.IDMap{}, func() error { return nil })
			assert.NilError(t, err)
			ns.Close()
		}},
		{"of the first Attach: a bridge that is down and has no address", func(t *testing.T, f *Fabric) {
			t.Helper()
			attrs := netlink.NewLinkAttrs()
			attrs.Name = f.names.bridge(1)
			assert.NilError(t, f.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
		}},
		{"of Attach: a link without a bridge, its end still here", func(t *testing.T, f *Fabric) {
			t.Helper()
			attrs := netlink.NewLinkAttrs()
			attrs.Name = f.names.veth("dead")
			assert.NilError(t, f.nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "nrtest-end"}))
		}},
		{"of Publish: rules of a port that nobody has", func(t *testing.T, f *Fabric) {
			t.Helper()
			b := newBox(t, f, 9, testNetwork(1))
			assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", 8080, b, 80)))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFabric(t)
			c.leave(t, f)
			f = again(t, f)
			assert.NilError(t, f.Restore(t.Context(), nil))
			assert.Equal(t, len(hostLinks(t, f)), 0)
			entries, err := os.ReadDir(filepath.Join(f.cfg.ExecRoot, "netns"))
			assert.Check(t, err == nil || os.IsNotExist(err))
			assert.Equal(t, len(entries), 0)
			assert.Equal(t, len(f.fw.have.ports)+len(f.fw.have.zones), 0)

			n := testNetwork(1)
			b := newBox(t, f, 2, n)
			listen(t, b.ns, "web", ":80")
			assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", 8080, b, 80)))
			reaches(t, nil, "127.0.0.1:8080", "web")
		})
	}
}

func TestRestoreOfAContainerWithoutItsNamespace(t *testing.T) {
	f := newFabric(t)
	n := testNetwork(1)
	web, lost := newBox(t, f, 2, n), newBox(t, f, 3, n)
	listen(t, web.ns, "web", ":80")
	f = again(t, f)
	assert.NilError(t, removeNetns(f.netnsPath(lost.id)))
	assert.NilError(t, f.Restore(t.Context(), []Restored{lost.restored(nil), web.restored(both("0.0.0.0", 8080, web, 80))}))
	assert.Check(t, errdefs.IsNotFound(f.Publish(t.Context(), lost.id, nil)))
	reaches(t, nil, "127.0.0.1:8080", "web")
}

func TestAttachReplacesWhatLeadsElsewhere(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	listen(t, b.ns, "web", ":80")
	assert.NilError(t, f.Attach(t.Context(), b.id, b.to), "once more")
	reaches(t, nil, "10.200.1.2:80", "web")

	id := testBoxID(7)
	_, err := f.NewSandbox(t.Context(), id, SandboxOptions{})
	assert.NilError(t, err)
	to := []Attachment{attachment(b.to[0].Network, 0, 3)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = f.names.veth(to[0].Endpoint.ID)
	assert.NilError(t, f.nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "nrtest-end"}))
	assert.NilError(t, f.Attach(t.Context(), id, to))
	ns, err := os.Open(f.netnsPath(id))
	assert.NilError(t, err)
	defer ns.Close()
	reaches(t, ns, "10.200.1.2:80", "web")
}

func TestFailedAttachLeavesNothing(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	bad := attachment(testNetwork(2), 1, 2)
	bad.Endpoint.Gateway = b.addr // not on this network
	bad.Endpoint.GwPriority = 1
	err := f.Attach(t.Context(), b.id, append(b.to, bad))
	assert.ErrorContains(t, err, "default route")
	assert.DeepEqual(t, hostLinks(t, f), []string{f.names.bridge(1), f.names.veth(b.to[0].Endpoint.ID), f.names.bridge(2)})
}

// TestRunRepairsRules has Run bring back what "nft flush ruleset" took.
func TestRunRepairsRules(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	listen(t, b.ns, "web", ":80")
	assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", 8080, b, 80)))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.guardRules(ctx); close(done) }()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		flushRules(t) // until the guard listens too
		for range 5 {
			if answer := ask(t, nil, "tcp", "10.200.1.1:8080"); strings.HasPrefix(answer, "web ") {
				return poll.Success()
			}
		}
		return poll.Continue("no answer yet")
	}, poll.WithTimeout(soon))
	stop()
	<-done
}

func TestManyComeAndGo(t *testing.T) {
	f := newFabric(t)
	n := testNetwork(1)
	before := openFiles(t)
	for i := range 20 {
		b := newBox(t, f, byte(i+2), n)
		assert.NilError(t, f.Publish(t.Context(), b.id, both("0.0.0.0", uint16(8000+i), b, 80)))
		assert.NilError(t, f.Remove(t.Context(), b.id))
		b.ns.Close()
	}
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if left := hostLinks(t, f); len(left) > 1 {
			return poll.Continue("more than the bridge: %q", left)
		}
		if n := openFiles(t); n > before+4 { // the conversation with nftables is one
			return poll.Continue("file descriptors leak: %d, before %d", n, before)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
	assert.Equal(t, len(f.fw.have.ports), 0)
}

// TestLinkOfASharedNamespace has another container hold the namespace of one that is removed.
func TestLinkOfASharedNamespace(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1)) // its open file is the other
	assert.NilError(t, f.Remove(t.Context(), b.id))
	again := newBox(t, f, 2, b.to[0].Network) // the same address
	listen(t, again.ns, "again", ":80")
	reaches(t, nil, "10.200.1.2:80", "again")
	assert.Equal(t, len(hostLinks(t, f)), 2)

	assert.NilError(t, f.Remove(t.Context(), again.id))
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if left := hostLinks(t, f); len(left) > 1 {
			return poll.Continue("more than the bridge: %q", left)
		}
		return poll.Success()
	}, poll.WithTimeout(soon))
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	assert.NilError(t, err)
	return len(entries)
}

// TestAttachAfterSomeoneDeletedTheBridge: the next container of the network gets a new one.
func TestAttachAfterSomeoneDeletedTheBridge(t *testing.T) {
	f := newFabric(t)
	n := testNetwork(1)
	newBox(t, f, 2, n)
	assert.NilError(t, f.deleteLink(BridgeName(f.cfg.Host, n)))
	a, b := newBox(t, f, 3, n), newBox(t, f, 4, n)
	listen(t, b.ns, "b", b.addr.String()+":80")
	reaches(t, a.ns, b.addr.String()+":80", "b")
}

// TestPortsHaveNoIPv6: a link that has it makes every other one dearer.
func TestPortsHaveNoIPv6(t *testing.T) {
	f := newFabric(t)
	b := newBox(t, f, 2, testNetwork(1))
	value, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + f.names.veth(b.to[0].Endpoint.ID) + "/disable_ipv6")
	assert.NilError(t, err)
	assert.Equal(t, string(value), "1\n")
}
