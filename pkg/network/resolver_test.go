package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// book is a Names of fixed content.
type book map[string]string

func (b book) Addresses(_ nereid.Account, _ nereid.ContainerID, name string, six bool) ([]netip.Addr, bool) {
	value, known := b[strings.ToLower(name)]
	var addrs []netip.Addr
	for _, s := range strings.Fields(value) {
		if a := netip.MustParseAddr(s); a.Is6() == six {
			addrs = append(addrs, a)
		}
	}
	return addrs, known
}

func (b book) Pointer(_ nereid.Account, _ nereid.ContainerID, addr netip.Addr) (string, bool) {
	for name, value := range b {
		if value == addr.String() {
			return name + ".net1", true
		}
	}
	return "", false
}

// zoneServer is an Authority that knows one name.
type zoneServer struct{}

func (zoneServer) ServeDNS(_ context.Context, query *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(query)
	m.Authoritative = true
	if query.Question[0].Name == "web.svc.cns.internal." {
		m.Answer = []dns.RR{rr("web.svc.cns.internal. 5 A 10.200.1.9")}
		return m
	}
	return m.SetRcode(query, dns.RcodeNameError)
}

func rr(s string) dns.RR {
	r, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return r
}

// upstream is a DNS server on the other machine, at 192.0.2.2:53 over UDP and TCP. It counts what it is asked.
type upstream struct {
	asked atomic.Int32
	from  atomic.Value // the asker's address
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	u.asked.Add(1)
	u.from.Store(hostOf(w.RemoteAddr()))
	m := new(dns.Msg).SetReply(query)
	m.RecursionAvailable = true
	switch name := query.Question[0].Name; name {
	case "example.com.":
		m.Answer = []dns.RR{rr("example.com. 60 A 203.0.113.1")}
	case "volatile.example.com.":
		m.Answer = []dns.RR{rr("volatile.example.com. 0 A 203.0.113.2")}
	case "big.example.com.":
		for i := range 100 {
			m.Answer = append(m.Answer, rr(fmt.Sprintf("big.example.com. 60 A 203.0.113.%d", i)))
		}
		if w.LocalAddr().Network() == "udp" {
			m.Truncate(dns.MinMsgSize)
		}
	case "broken.example.com.":
		m.Rcode = dns.RcodeServerFailure
	case "silent.example.com.":
		return
	default:
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{rr("example.com. 60 SOA ns. admin. 1 2 3 4 60")}
	}
	_ = w.WriteMsg(m)
}

func startUpstream(t *testing.T, ns *os.File, at string) *upstream {
	t.Helper()
	u := &upstream{}
	u.from.Store("")
	within(t, ns, func() error {
		pc, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		for _, s := range []*dns.Server{{PacketConn: pc, Handler: u}, {Listener: l, Handler: u}} {
			go func() { _ = s.ActivateAndServe() }()
			t.Cleanup(func() { _ = s.Shutdown() })
		}
		return nil
	})
	return u
}

// query asks the container's resolver as a client in the container does.
func query(t *testing.T, b *box, network, name string, qtype uint16, edit ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m, err := tryQuery(b, network, name, qtype, edit...)
	assert.NilError(t, err)
	return m
}

func tryQuery(b *box, network, name string, qtype uint16, edit ...func(*dns.Msg)) (m *dns.Msg, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	for _, e := range edit {
		e(q)
	}
	var conn net.Conn
	err = inNetns(b.ns, func() (err error) {
		conn, err = net.DialTimeout(network, "127.0.0.11:53", soon)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := &dns.Client{Timeout: soon, UDPSize: maxMessage}
	m, _, err = client.ExchangeWithConn(q, &dns.Conn{Conn: conn})
	return m, err
}

func answers(m *dns.Msg) string {
	var list []string
	for _, r := range m.Answer {
		list = append(list, strings.TrimPrefix(r.String(), r.Header().String()))
	}
	return strings.Join(list, " ")
}

// resolvers makes a Fabric with names, a zone and upstream servers on another machine.
func resolvers(t *testing.T, names book) (*Fabric, *upstream) {
	t.Helper()
	client := machine(t)
	up := startUpstream(t, client, "192.0.2.2:53")
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	assert.NilError(t, os.WriteFile(conf, []byte("nameserver 192.0.2.2\n"), 0o644))
	f := newFabric(t, func(c *Config) {
		c.Names, c.CNS, c.Zone, c.ResolvConf = names, zoneServer{}, "cns.internal", conf
	})
	return f, up
}

func TestResolverAnswers(t *testing.T) {
	names := book{"db": "10.200.1.3", "six": "2001:db8::3", "two": "10.200.1.3 10.200.1.4", "bridge-net.web": "10.200.1.5"}
	f, _ := resolvers(t, names)
	b := newBox(t, f, 2, testNetwork(1))
	for _, c := range []struct {
		name  string
		asked string
		qtype uint16
		rcode int
		want  string
	}{
		{"a container", "db", dns.TypeA, dns.RcodeSuccess, "10.200.1.3"},
		{"a container in capitals", "DB", dns.TypeA, dns.RcodeSuccess, "10.200.1.3"},
		{"no IPv6 address", "db", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"an IPv6 address", "six", dns.TypeAAAA, dns.RcodeSuccess, "2001:db8::3"},
		{"no IPv4 address", "six", dns.TypeA, dns.RcodeSuccess, ""},
		{"mail for a container", "db", dns.TypeMX, dns.RcodeSuccess, ""},
		{"an address's name", "3.1.200.10.in-addr.arpa", dns.TypePTR, dns.RcodeSuccess, "db.net1."},
		{"an IPv6 address's name", "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", dns.TypePTR, dns.RcodeSuccess, "six.net1."},
		{"a stranger's address", "9.9.9.9.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, ""},
		{"a service", "web.svc.cns.internal", dns.TypeA, dns.RcodeSuccess, "10.200.1.9"},
		{"no such service", "x.svc.cns.internal", dns.TypeA, dns.RcodeNameError, ""},
		{"the world", "example.com", dns.TypeA, dns.RcodeSuccess, "203.0.113.1"},
		{"nothing in the world", "nope.example.com", dns.TypeA, dns.RcodeNameError, ""},
		{"an upstream that fails", "broken.example.com", dns.TypeA, dns.RcodeServerFailure, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(c.name+" over "+network, func(t *testing.T) {
				m := query(t, b, network, c.asked, c.qtype)
				assert.Equal(t, dns.RcodeToString[m.Rcode], dns.RcodeToString[c.rcode])
				assert.Equal(t, answers(m), c.want)
				assert.Check(t, m.RecursionAvailable)
			})
		}
	}
	both := strings.Fields(answers(query(t, b, "udp", "two", dns.TypeA)))
	assert.Equal(t, len(both), 2)
	assert.Equal(t, query(t, b, "udp", "db", dns.TypeA, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }).Rcode, dns.RcodeNotImplemented)
}

func TestResolverTruncation(t *testing.T) {
	f, up := resolvers(t, book{})
	b := newBox(t, f, 2, testNetwork(1))
	m := query(t, b, "udp", "big.example.com", dns.TypeA)
	assert.Check(t, m.Truncated)
	m.Compress = true // as it was sent
	assert.Check(t, m.Len() <= dns.MinMsgSize)
	assert.Equal(t, up.asked.Load(), int32(2), "over UDP and then TCP")
	m = query(t, b, "tcp", "big.example.com", dns.TypeA)
	assert.Equal(t, len(m.Answer), 100)
	m = query(t, b, "udp", "big.example.com", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(4096, false) })
	assert.Equal(t, len(m.Answer), 100)
}

func TestResolverRemembersAsLongAsAllowed(t *testing.T) {
	f, up := resolvers(t, book{})
	b := newBox(t, f, 2, testNetwork(1))
	for range 3 {
		query(t, b, "udp", "example.com", dns.TypeA)
	}
	assert.Equal(t, up.asked.Load(), int32(1))
	for range 3 {
		query(t, b, "udp", "volatile.example.com", dns.TypeA)
	}
	assert.Equal(t, up.asked.Load(), int32(4))
	assert.Equal(t, up.from.Load(), "192.0.2.1", "the host's own servers are asked from the host")
}

func TestResolverWithServersOfItsOwn(t *testing.T) {
	f, up := resolvers(t, book{})
	id := testBoxID(1)
	n := testNetwork(1)
	_, err := f.NewSandbox(t.Context(), id, SandboxOptions{
		Account:   nereid.Admin,
		Upstreams: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5353"), netip.MustParseAddrPort("192.0.2.2:53")},
		NdotsSet:  true,
	})
	assert.NilError(t, err)
	assert.NilError(t, f.Attach(t.Context(), id, []Attachment{attachment(n, 0, 2)}))
	b := &box{t: t, id: id}
	b.ns, err = os.Open(f.netnsPath(id))
	assert.NilError(t, err)
	defer b.ns.Close()

	assert.Equal(t, answers(query(t, b, "udp", "example.com", dns.TypeA)), "203.0.113.1")
	assert.Equal(t, up.asked.Load(), int32(1))
	own := startUpstream(t, b.ns, "127.0.0.1:5353") // the container's own loopback
	assert.Equal(t, answers(query(t, b, "udp", "volatile.example.com", dns.TypeA)), "203.0.113.2")
	assert.Equal(t, own.asked.Load(), int32(1))
	assert.Equal(t, own.from.Load(), "127.0.0.1")
	assert.Equal(t, up.asked.Load(), int32(1))

	m := query(t, b, "udp", "single", dns.TypeA)
	assert.Equal(t, m.Rcode, dns.RcodeSuccess)
	assert.Equal(t, own.asked.Load(), int32(1), "a single label leaked")
}

// TestResolverLeadsNobodyOut: a container without a way to the world could send data in questions to the host's servers.
func TestResolverLeadsNobodyOut(t *testing.T) {
	f, world := resolvers(t, book{"db": "10.200.1.3"})
	loop := startUpstream(t, nil, "127.0.0.53:53")
	assert.NilError(t, os.WriteFile(f.cfg.ResolvConf, []byte("nameserver 127.0.0.53\nnameserver 192.0.2.2\n"), 0o644))
	inner := testNetwork(1)
	inner.Internal = true
	b := newBox(t, f, 2, inner)
	internal, both := b.to, append(slices.Clone(b.to), attachment(testNetwork(2), 1, 2))
	for _, c := range []struct {
		name string
		to   []Attachment
		want string
	}{
		{"on an internal network", internal, "SERVFAIL"},
		{"on another too", both, "NOERROR 203.0.113.1"},
		{"on the internal one alone again", internal, "SERVFAIL"},
		{"on none", nil, "SERVFAIL"},
	} {
		assert.NilError(t, f.Attach(t.Context(), b.id, c.to))
		before := world.asked.Load() + loop.asked.Load()
		m := query(t, b, "udp", "example.com", dns.TypeA)
		assert.Equal(t, strings.TrimSpace(dns.RcodeToString[m.Rcode]+" "+answers(m)), c.want, c.name)
		assert.Equal(t, world.asked.Load()+loop.asked.Load() > before, c.want != "SERVFAIL", c.name)
		assert.Equal(t, answers(query(t, b, "udp", "db", dns.TypeA)), "10.200.1.3", c.name)
	}
	assert.NilError(t, f.Attach(t.Context(), b.id, internal))
	other := newBox(t, f, 3, inner)
	near := startUpstream(t, other.ns, other.addr.String()+":53")
	assert.NilError(t, os.WriteFile(f.cfg.ResolvConf, []byte("nameserver "+other.addr.String()+"\n"), 0o644))
	assert.Equal(t, answers(query(t, b, "udp", "example.com", dns.TypeA)), "203.0.113.1", "a server that the container itself reaches")
	assert.Equal(t, near.from.Load(), b.addr.String())
}

// TestResolverAsItsOwnServer: with --dns 127.0.0.11 there is no server to ask, and the host's are not meant.
func TestResolverAsItsOwnServer(t *testing.T) {
	f, world := resolvers(t, book{})
	id := testBoxID(1)
	path, err := f.NewSandbox(t.Context(), id, SandboxOptions{Account: nereid.Admin, Upstreams: Upstreams([]netip.Addr{resolverAddr})})
	assert.NilError(t, err)
	assert.NilError(t, f.Attach(t.Context(), id, []Attachment{attachment(testNetwork(1), 0, 2)}))
	b := &box{t: t, id: id}
	b.ns, err = os.Open(path)
	assert.NilError(t, err)
	defer b.ns.Close()
	assert.Equal(t, query(t, b, "udp", "example.com", dns.TypeA).Rcode, dns.RcodeServerFailure)
	assert.Equal(t, world.asked.Load(), int32(0))
}

func TestResolverBesideTheContainersOwnServer(t *testing.T) {
	f, _ := resolvers(t, book{"db": "10.200.1.3"})
	b := newBox(t, f, 2, testNetwork(1))
	mine := startUpstream(t, b.ns, "0.0.0.0:53")
	assert.Equal(t, answers(query(t, b, "udp", "db", dns.TypeA)), "10.200.1.3")
	assert.Equal(t, answers(query(t, b, "tcp", "db", dns.TypeA)), "10.200.1.3")
	assert.Equal(t, mine.asked.Load(), int32(0))
}

func TestResolverOfASilentUpstream(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the four seconds that a server may be silent")
	}
	f, _ := resolvers(t, book{"db": "10.200.1.3"})
	b := newBox(t, f, 2, testNetwork(1))
	done := make(chan *dns.Msg)
	go func() {
		m, _ := tryQuery(b, "udp", "silent.example.com", dns.TypeA)
		done <- m
	}()
	assert.Equal(t, answers(query(t, b, "udp", "db", dns.TypeA)), "10.200.1.3", "one question holds up others")
	m := <-done
	assert.Assert(t, m != nil)
	assert.Equal(t, m.Rcode, dns.RcodeServerFailure)
}

func TestReverse(t *testing.T) {
	for name, want := range map[string]string{
		"1.2.3.4.in-addr.arpa.": "4.3.2.1", "1.2.3.in-addr.arpa.": "", "x.2.3.4.in-addr.arpa.": "", "example.com.": "",
		strings.Repeat("0.", 31) + "ip6.arpa.": "", strings.Repeat("f.", 32) + "ip6.arpa.": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		strings.Repeat("g.", 32) + "ip6.arpa.": "",
	} {
		a, ok := reverse(name)
		assert.Equal(t, ok, want != "", name)
		if ok {
			assert.Equal(t, a.String(), want)
		}
	}
}

func TestCacheKeepsTime(t *testing.T) {
	c := newAnswerCache()
	now := time.Now()
	k := cacheKey{name: "example.com.", qtype: dns.TypeA, keep: true}
	m := new(dns.Msg)
	m.Answer = []dns.RR{rr("example.com. 60 A 203.0.113.1")}
	c.put(k, m, now)
	assert.Equal(t, c.get(k, now.Add(20*time.Second)).Answer[0].Header().Ttl, uint32(40))
	assert.Check(t, c.get(k, now.Add(60*time.Second)) == nil)

	for i := range cacheSize + 10 {
		k.name = fmt.Sprint(i)
		c.put(k, m, now)
	}
	assert.Equal(t, len(c.answers), cacheSize)

	failed := new(dns.Msg)
	failed.Rcode = dns.RcodeServerFailure
	assert.Equal(t, keepFor(failed), time.Duration(0))
	none := new(dns.Msg)
	none.Rcode = dns.RcodeNameError
	assert.Equal(t, keepFor(none), time.Duration(0), "nobody said for how long")
	none.Ns = []dns.RR{rr("example.com. 3600 SOA ns. admin. 1 2 3 4 20")}
	assert.Equal(t, keepFor(none), 20*time.Second)
}
