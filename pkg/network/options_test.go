package network

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

func TestParseOptions(t *testing.T) {
	o, unknown, err := ParseOptions(map[string]string{
		optionMTU: "1400", optionBridgeName: "br-x", optionICC: "false", optionMasquerade: "false",
		optionHostBinding: "127.0.0.1", optionGateway6: "routed", optionTrusted: "eth0:eth1", optionPrefix: "net", "colour": "red",
	})
	assert.NilError(t, err)
	assert.DeepEqual(t, unknown, []string{"colour"})
	want := Options{
		Bridge: "br-x", MTU: 1400, HostBinding: netip.MustParseAddr("127.0.0.1"), Gateway4: GatewayNAT, Gateway6: GatewayRouted,
		Trusted: []string{"eth0", "eth1"}, LinkPrefix: "net",
	}
	assert.DeepEqual(t, o, want, cmpAddr)

	o, _, err = ParseOptions(nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, o, defaultOptions(), cmpAddr)

	for option, value := range map[string]string{
		optionMTU: "-1", optionBridgeName: "a/b", optionICC: "perhaps", optionHostBinding: "localhost", optionGateway4: "open", OptionIPv6: "",
	} {
		_, _, err := ParseOptions(map[string]string{option: value})
		assert.Check(t, errdefs.IsInvalidArgument(err), "%s=%s: %v", option, value, err)
	}
	_, _, err = ParseOptions(map[string]string{optionGateway4: "open"})
	assert.Error(t, err, "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: open (unknown gateway mode open)")
}

func TestInterfaceSysctls(t *testing.T) {
	for s, ok := range map[string]bool{
		"net.ipv4.conf.IFNAME.log_martians=1": true, "net.ipv6.conf.ifname.accept_ra=0,net.ipv4.neigh.IFNAME.gc_stale_time=9": true,
		"net.ipv4.ip_forward=1": false, "net.ipv4.conf.eth0.forwarding=1": false, "kernel.ipv4.conf.IFNAME.x=1": false,
		"net.ipv4.conf.IFNAME.x": false, "net.ipv4.conf.IFNAME.../../x=1": false, "": false,
	} {
		err := CheckSysctls(map[string]string{optionSysctls: s})
		assert.Check(t, (err == nil) == ok, "%q: %v", s, err)
	}
	assert.NilError(t, CheckSysctls(nil))
	err := CheckSysctls(map[string]string{optionSysctls: "x=1"})
	assert.Check(t, cmp.ErrorContains(err, "unrecognised network interface sysctl 'x=1'"))
}
