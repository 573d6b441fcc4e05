package network

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
)

func TestParsePool(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // empty: refused
		size int
	}{
		{"10.128.0.0/10,size=20", "10.128.0.0/10", 20},
		{"base=172.30.0.0/16,size=24", "172.30.0.0/16", 24},
		{"172.30.0.0/16, size=16", "172.30.0.0/16", 16},
		{"172.30.0.0/16", "", 0},
		{"172.30.0.0/16,24", "", 0},
		{"172.30.0.0/16,size=x", "", 0},
		{"172.30.0.0/16,size=15", "", 0},
		{"172.30.0.0/16,size=30", "", 0},
		{"172.30.0.1/16,size=24", "", 0},
		{"2001:db8::/32,size=64", "", 0},
		{"x,size=24", "", 0},
	} {
		t.Run(c.in, func(t *testing.T) {
			p, err := ParsePool(c.in)
			if c.want == "" {
				assert.Check(t, errdefs.IsInvalidArgument(err), err)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, p.Base.String(), c.want)
			assert.Equal(t, p.Size, c.size)
		})
	}
}

func TestChooseSubnet(t *testing.T) {
	pool := func(s string) []Pool {
		p, err := ParsePool(s)
		assert.NilError(t, err)
		return []Pool{p}
	}
	for _, c := range []struct {
		name  string
		pools []Pool
		taken []string
		want  string // empty: none
	}{
		{"the first", DefaultPools(), nil, "10.128.0.0/20"},
		{"the next", DefaultPools(), []string{"10.128.0.0/20", "10.128.16.0/20"}, "10.128.32.0/20"},
		{"past a small one", DefaultPools(), []string{"10.128.3.0/24"}, "10.128.16.0/20"},
		{"past a large one", DefaultPools(), []string{"10.128.0.0/12"}, "10.144.0.0/20"},
		{"between", DefaultPools(), []string{"10.128.16.0/20"}, "10.128.0.0/20"},
		{"IPv6 does not matter", DefaultPools(), []string{"2001:db8::/32"}, "10.128.0.0/20"},
		{"none left", pool("10.0.0.0/24,size=25"), []string{"10.0.0.1/32", "10.0.0.200/32"}, ""},
		{"the second pool", append(pool("10.0.0.0/24,size=24"), DefaultPools()...), []string{"10.0.0.0/8"}, ""},
		{"the second pool, free", append(pool("192.168.0.0/24,size=24"), DefaultPools()...), []string{"192.168.0.0/16"}, "10.128.0.0/20"},
		{"at the end of all addresses", pool("255.255.255.0/24,size=25"), []string{"255.255.255.0/24"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var taken []netip.Prefix
			for _, s := range c.taken {
				taken = append(taken, netip.MustParsePrefix(s))
			}
			s, err := ChooseSubnet(c.pools, taken)
			if c.want == "" {
				assert.Error(t, err, "all predefined address pools have been fully subnetted")
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, s.String(), c.want)
		})
	}
}

func TestHostRoutes(t *testing.T) {
	machine(t)
	routes, err := HostRoutes()
	assert.NilError(t, err)
	found := false
	for _, r := range routes {
		found = found || r == Route{Prefix: netip.MustParsePrefix("192.0.2.0/24")}
		assert.Check(t, r.Prefix.Bits() > 0)
	}
	assert.Check(t, found, "%v", routes)
}
