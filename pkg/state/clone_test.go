package state_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// TestClonesShareNothingTheirOwnersChange changes every clone as its owners do and looks whether the original did.
func TestClonesShareNothingTheirOwnersChange(t *testing.T) {
	ip := netip.MustParseAddr("10.0.0.1")
	c := newContainer(id("a"), "web")
	c.Args = []string{"a"}
	c.Manifest = &ocispec.Descriptor{Size: 1}
	c.Mounts = []state.Mount{{Name: "data"}}
	c.State.Health = &container.Health{Status: "starting", Log: []*container.HealthcheckResult{{ExitCode: 1}}}
	c.Networks = map[string]*state.Endpoint{"bridge": {Aliases: []string{"a"}, DNSNames: []string{"a"}, Links: []string{"a"},
		LinkLocal: []netip.Addr{ip}, DriverOpts: map[string]string{"a": "b"}}, "none": nil}
	n := &state.Network{Subnets: []state.Subnet{{Auxiliary: map[string]netip.Addr{"a": ip}}},
		Labels: map[string]string{"a": "b"}, Options: map[string]string{"a": "b"}, IPAMOptions: map[string]string{"a": "b"}}
	p := &state.Port{Claims: []state.PortClaim{{ContainerPort: 1}}}
	v := &state.Volume{Labels: map[string]string{"a": "b"}, Options: map[string]string{"a": "b"}}
	i := &state.Image{Layers: []ocispec.Descriptor{{Size: 1}}, Sizes: []int64{1}, Digests: []string{"a"}, Hosts: []nereid.Host{"a"}}
	h := &state.Host{Labels: map[string]string{"a": "b"}}

	for _, tc := range []struct {
		name   string
		of     any
		change func()
	}{
		{"container", c, func() {
			c := c.Clone()
			c.Args[0], c.Manifest.Size, c.Mounts[0].Name = "x", 9, "x"
			c.State.Health.Status = "healthy"
			c.State.Health.Log[0] = nil
			c.Config.Hostname, c.HostConfig.Memory = "x", 9
			e := c.Networks["bridge"]
			e.Aliases[0], e.DNSNames[0], e.Links[0], e.DriverOpts["a"] = "x", "x", "x", "x"
			e.LinkLocal[0], e.Address = netip.Addr{}, netip.PrefixFrom(ip, 8)
			delete(c.Networks, "none")
		}},
		{"network", n, func() {
			n := n.Clone()
			n.Labels["a"], n.Options["a"], n.IPAMOptions["a"] = "x", "x", "x"
			n.Subnets[0].Auxiliary["a"] = netip.Addr{}
			n.Subnets[0].Gateway = ip
		}},
		{"port", p, func() { p.Clone().Claims[0].ContainerPort = 9 }},
		{"volume", v, func() { v := v.Clone(); v.Labels["a"], v.Options["a"], v.Home = "x", "x", "x" }},
		{"image", i, func() {
			i := i.Clone()
			i.Layers[0].Size, i.Sizes[0], i.Digests[0], i.Hosts[0] = 9, 9, "x", "x"
		}},
		{"host", h, func() { h.Clone().Labels["a"] = "x" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := asJSON(t, tc.of)
			tc.change()
			assert.Equal(t, asJSON(t, tc.of), before)
		})
	}
	assert.DeepEqual(t, (&state.Tag{Ref: "a"}).Clone(), &state.Tag{Ref: "a"})
	assert.DeepEqual(t, (&state.Account{Name: "a"}).Clone(), &state.Account{Name: "a"})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	assert.NilError(t, err)
	return string(b)
}
