package network

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestHosts(t *testing.T) {
	entries := []HostEntry{
		{netip.MustParseAddr("192.0.2.7"), []string{"db"}},
		{netip.MustParseAddr("2001:db8::7"), []string{"db"}},
		{netip.MustParseAddr("10.128.0.2"), OwnNames("web", "example.com")},
	}
	assert.Equal(t, string(Hosts(entries, true)), "127.0.0.1\tlocalhost\n"+
		"::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"+
		"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"+
		"192.0.2.7\tdb\n2001:db8::7\tdb\n10.128.0.2\tweb.example.com web\n")
	assert.Equal(t, string(Hosts(entries, false)), "127.0.0.1\tlocalhost\n192.0.2.7\tdb\n10.128.0.2\tweb.example.com web\n")
}

func TestOwnNames(t *testing.T) {
	for _, c := range []struct {
		host, domain string
		want         []string
	}{
		{"web", "", []string{"web"}},
		{"web", "example.com", []string{"web.example.com", "web"}},
		{"web.example.com", "", []string{"web.example.com", "web"}},
		{"web.a", "b", []string{"web.a.b", "web"}},
	} {
		assert.DeepEqual(t, OwnNames(c.host, c.domain), c.want)
	}
}

func TestExtraHosts(t *testing.T) {
	gateways := addrs("10.128.0.1", "2001:db8::1")
	for _, c := range []struct {
		extra string
		want  string
		words string
	}{
		{"db:192.0.2.7", "192.0.2.7\tdb\n", ""},
		{"db:2001:db8::7", "2001:db8::7\tdb\n", ""},
		{"db:[2001:db8::7]", "2001:db8::7\tdb\n", ""},
		{"host:host-gateway", "10.128.0.1\thost\n2001:db8::1\thost\n", ""},
		{"db", "", `bad format for add-host: "db"`},
		{":1.2.3.4", "", `bad format for add-host: ":1.2.3.4"`},
		{"db:nowhere", "", `invalid IP address in add-host: "nowhere"`},
	} {
		t.Run(c.extra, func(t *testing.T) {
			entries, err := ExtraHosts([]string{c.extra}, gateways)
			if c.words != "" {
				assert.Error(t, err, c.words)
				assert.Check(t, errdefs.IsInvalidArgument(err))
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, string(Hosts(entries, true)[len(Hosts(nil, true)):]), c.want)
		})
	}
	_, err := ExtraHosts([]string{"h:host-gateway"}, nil)
	assert.Error(t, err, "unable to derive the IP value for host-gateway")
}

func TestResolvConf(t *testing.T) {
	const host = "# comment\n; another\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver bad\nsearch old.example\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 1.2.3.4\n"
	for _, c := range []struct {
		name    string
		host    string
		dns     DNS
		bridge  string
		ndots   bool
		inHost  string
		without string
	}{
		{
			"the host's", host, DNS{},
			"nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 trust-ad ndots:0\nsortlist 1.2.3.4\n", false,
			"nameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 1.2.3.4\n",
			"nameserver 192.0.2.1\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 1.2.3.4\n",
		},
		{
			"all asked for", host, DNS{Servers: addrs("9.9.9.9", "127.0.0.1"), Search: []string{"x.example"}, Options: []string{"ndots:2", "rotate"}},
			"nameserver 127.0.0.11\nsearch x.example\noptions ndots:2 rotate\nsortlist 1.2.3.4\n", true,
			"nameserver 9.9.9.9\nnameserver 127.0.0.1\nsearch x.example\noptions ndots:2 rotate\nsortlist 1.2.3.4\n",
			"nameserver 9.9.9.9\nnameserver 127.0.0.1\nsearch x.example\noptions ndots:2 rotate\nsortlist 1.2.3.4\n",
		},
		{
			"no search at all", "search a.example\n", DNS{Search: []string{"."}},
			"nameserver 127.0.0.11\noptions ndots:0\n", false, "", "",
		},
		{
			"a bad ndots", "options ndots:x\n", DNS{},
			"nameserver 127.0.0.11\noptions ndots:0\n", true, "options ndots:x\n", "options ndots:x\n",
		},
		{"an empty host", "", DNS{}, "nameserver 127.0.0.11\noptions ndots:0\n", false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			content, ndots := ResolvConf([]byte(c.host), c.dns)
			assert.Equal(t, string(content), c.bridge)
			assert.Equal(t, ndots, c.ndots)
			assert.Equal(t, string(HostResolvConf([]byte(c.host), c.dns)), c.inHost)
			assert.Equal(t, string(PlainResolvConf([]byte(c.host), c.dns)), c.without)
		})
	}
	_, err := ParseDNS([]string{"x"}, nil, nil)
	assert.Error(t, err, "bad nameserver address x")
}
