package compat

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

func newCreate(edit func(*Create)) *Create {
	c := &Create{
		Config:     &container.Config{},
		Host:       &container.HostConfig{NetworkMode: "bridge"},
		Networking: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}},
	}
	if edit != nil {
		edit(c)
	}
	return c
}

func TestParse(t *testing.T) {
	for in, want := range map[string]Version{"": 51, "1.24": 24, "1.51": 51, "1.44": 44, "1.30.1": 30, "1.044": 44} {
		v, err := Parse(in)
		assert.NilError(t, err)
		assert.Equal(t, v, want, in)
	}
	for _, in := range []string{"1.23", "1.52", "2", "0.9", ".", "1", "99999999999999999999.1", "1.99999999999999999999"} {
		_, err := Parse(in)
		assert.Check(t, errdefs.IsInvalidArgument(err), in)
	}
	assert.Equal(t, Version(44).String(), "1.44")
}

// What a version does not know is ignored, refused or given the meaning it had: at the version before the change and
// not at the version of the change.
func TestCreateOfOldVersions(t *testing.T) {
	bind := func(o mount.BindOptions) func(*Create) {
		return func(c *Create) {
			own := o
			c.Host.Mounts = []mount.Mount{{Type: mount.TypeBind, BindOptions: &own}}
		}
	}
	for name, tc := range map[string]struct {
		since Version // the change
		edit  func(*Create)
		same  func(*Create) bool // as the present version has it
	}{
		"gateway priority": {48, func(c *Create) { c.Networking.EndpointsConfig["bridge"] = &network.EndpointSettings{GwPriority: 3} },
			func(c *Create) bool { return c.Networking.EndpointsConfig["bridge"].GwPriority == 3 }},
		"start interval": {44, func(c *Create) { c.Config.Healthcheck = &container.HealthConfig{StartInterval: 3} },
			func(c *Create) bool { return c.Config.Healthcheck.StartInterval == 3 }},
		"read-only means recursive": {44, nil, func(c *Create) bool { return !c.ReadOnlyNonRecursive }},
		"endpoint's MAC address": {44, func(c *Create) { c.Networking.EndpointsConfig["bridge"] = &network.EndpointSettings{MacAddress: "x"} },
			func(c *Create) bool { return c.Networking.EndpointsConfig["bridge"].MacAddress == "x" }},
		"annotations": {43, func(c *Create) { c.Host.Annotations = map[string]string{"a": "b"} },
			func(c *Create) bool { return c.Host.Annotations["a"] == "b" }},
		"console size": {42, func(c *Create) { c.Host.ConsoleSize = [2]uint{1, 2} },
			func(c *Create) bool { return c.Host.ConsoleSize == [2]uint{1, 2} }},
		"create mountpoint": {42, bind(mount.BindOptions{CreateMountpoint: true}),
			func(c *Create) bool { return c.Host.Mounts[0].BindOptions.CreateMountpoint }},
		"non-recursive bind": {40, bind(mount.BindOptions{NonRecursive: true}),
			func(c *Create) bool { return c.Host.Mounts[0].BindOptions.NonRecursive }},
		"kernel memory":     {40, func(c *Create) { c.Host.KernelMemoryTCP = 1 }, func(c *Create) bool { return c.Host.KernelMemoryTCP == 1 }},
		"IPC by the engine": {40, nil, func(c *Create) bool { return c.Host.IpcMode == "" }},
		"auto-remove":       {25, func(c *Create) { c.Host.AutoRemove = true }, func(c *Create) bool { return c.Host.AutoRemove }},
	} {
		for _, v := range []Version{24, tc.since - 1, tc.since, Newest} {
			c := newCreate(tc.edit)
			_, err := c.Upgrade(v, true)
			assert.NilError(t, err, name)
			assert.Equal(t, tc.same(c), v >= tc.since, "%s at %s", name, v)
		}
	}
}

func TestCgroupNamespaceOfOldVersions(t *testing.T) {
	for _, tc := range []struct {
		v       Version
		cgroup2 bool
		want    container.CgroupnsMode
	}{{40, false, "host"}, {40, true, ""}, {41, false, ""}} {
		c := newCreate(nil)
		_, err := c.Upgrade(tc.v, tc.cgroup2)
		assert.NilError(t, err)
		assert.Equal(t, c.Host.CgroupnsMode, tc.want)
	}
}

func TestCreateRefusals(t *testing.T) {
	mounted := func(m mount.Mount) func(*Create) { return func(c *Create) { c.Host.Mounts = []mount.Mount{m} } }
	for name, tc := range map[string]struct {
		v    Version
		edit func(*Create)
		want string
	}{
		"image mounts":         {47, mounted(mount.Mount{Type: mount.TypeImage}), `Mount type "Image" needs API v1.48 or newer`},
		"subpath":              {44, mounted(mount.Mount{Type: mount.TypeVolume, VolumeOptions: &mount.VolumeOptions{Subpath: "x"}}), "VolumeOptions.Subpath needs API v1.45 or newer"},
		"forced read-only":     {43, mounted(mount.Mount{Type: mount.TypeBind, BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}}), "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"},
		"several networks":     {43, func(c *Create) { c.Networking.EndpointsConfig["b"], c.Networking.EndpointsConfig["a"] = nil, nil }, "Container cannot be created with multiple network endpoints: a, b"},
		"volume options":       {42, mounted(mount.Mount{Type: mount.TypeBind, VolumeOptions: &mount.VolumeOptions{}}), `VolumeOptions must not be specified on mount type "bind"`},
		"bind options":         {42, mounted(mount.Mount{Type: mount.TypeVolume, BindOptions: &mount.BindOptions{}}), `BindOptions must not be specified on mount type "volume"`},
		"tmpfs options":        {42, mounted(mount.Mount{Type: mount.TypeVolume, TmpfsOptions: &mount.TmpfsOptions{}}), `TmpfsOptions must not be specified on mount type "volume"`},
		"MAC of shared stacks": {43, func(c *Create) { c.Config.MacAddress, c.Host.NetworkMode = "x", "host" }, "conflicting options: mac-address and the network mode"},
		"two MACs": {44, func(c *Create) {
			c.Config.MacAddress = "x"
			c.Networking.EndpointsConfig["bridge"] = &network.EndpointSettings{MacAddress: "y"}
		}, "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"},
		"MAC of which network": {44, func(c *Create) {
			c.Config.MacAddress = "x"
			c.Networking.EndpointsConfig["other"] = &network.EndpointSettings{}
		}, "unable to migrate container-wide MAC address to a specific network: HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks"},
		"sysctl of an interface": {48, func(c *Create) { c.Host.Sysctls = map[string]string{"net.ipv6.conf.eth0.forwarding": "1"} },
			`interface specific sysctl setting "net.ipv6.conf.eth0.forwarding" must be supplied using driver option 'com.docker.network.endpoint.sysctls'`},
		"sysctl of another interface": {47, func(c *Create) { c.Host.Sysctls = map[string]string{"net.ipv6.conf.eth1.forwarding": "1"} },
			"unable to determine network endpoint for sysctl net.ipv6.conf.eth1.forwarding, use driver option 'com.docker.network.endpoint.sysctls' to set per-interface sysctls"},
	} {
		_, err := newCreate(tc.edit).Upgrade(tc.v, true)
		assert.Check(t, cmp.Error(err, tc.want), name)
	}
	// Before 1.42 options of another mount type were let pass.
	c := newCreate(mounted(mount.Mount{Type: mount.TypeBind, VolumeOptions: &mount.VolumeOptions{}, TmpfsOptions: &mount.TmpfsOptions{}}))
	_, err := c.Upgrade(41, true)
	assert.NilError(t, err)
	assert.Assert(t, c.Host.Mounts[0].VolumeOptions == nil && c.Host.Mounts[0].TmpfsOptions == nil)
}

func TestMACAddressMovesToTheEndpoint(t *testing.T) {
	for v, warnings := range map[Version]int{24: 0, 43: 0, 44: 1, 51: 1} {
		for _, eps := range []map[string]*network.EndpointSettings{{}, {"blue": {IPAddress: "10.0.0.2"}}, {"blue": nil}} {
			c := newCreate(func(c *Create) {
				c.Config.MacAddress, c.Host.NetworkMode = "02:42:ac:11:00:02", "blue"
				c.Networking.EndpointsConfig = map[string]*network.EndpointSettings{}
				for k, ep := range eps {
					c.Networking.EndpointsConfig[k] = ep
				}
			})
			w, err := c.Upgrade(v, true)
			assert.NilError(t, err)
			assert.Equal(t, len(w), warnings)
			assert.Equal(t, c.Networking.EndpointsConfig["blue"].MacAddress, "02:42:ac:11:00:02")
		}
	}
	// One endpoint of an old client is the network mode's, whatever it is called.
	c := newCreate(func(c *Create) {
		c.Config.MacAddress = "x"
		c.Networking.EndpointsConfig["abc123"] = &network.EndpointSettings{}
	})
	_, err := c.Upgrade(43, true)
	assert.NilError(t, err)
	assert.Equal(t, c.Networking.EndpointsConfig["abc123"].MacAddress, "x")
}

func TestInterfaceSysctlsMoveToTheEndpoint(t *testing.T) {
	c := newCreate(func(c *Create) {
		c.Host.Sysctls = map[string]string{"net.ipv4.conf.eth0.log_martians": "1", "net.ipv6.conf.eth0.forwarding": "1", "net.core.somaxconn": "9"}
		c.Networking.EndpointsConfig["bridge"] = &network.EndpointSettings{DriverOpts: map[string]string{endpointSysctls: "net.ipv4.conf.IFNAME.x=2"}}
	})
	warnings, err := c.Upgrade(47, true)
	assert.NilError(t, err)
	assert.DeepEqual(t, warnings, []string{`Migrated sysctl "net.ipv4.conf.eth0.log_martians,net.ipv6.conf.eth0.forwarding" to DriverOpts{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.forwarding=1"}.`})
	assert.DeepEqual(t, c.Host.Sysctls, map[string]string{"net.core.somaxconn": "9"})
	assert.Equal(t, c.Networking.EndpointsConfig["bridge"].DriverOpts[endpointSysctls], "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.forwarding=1,net.ipv4.conf.IFNAME.x=2")
}

func TestVolumeDriverWarning(t *testing.T) {
	c := func(o *mount.VolumeOptions) *Create {
		return newCreate(func(c *Create) {
			c.Host.VolumeDriver = "d"
			c.Host.Mounts = []mount.Mount{{Type: mount.TypeVolume, VolumeOptions: o}}
		})
	}
	for _, tc := range []struct {
		v    Version
		o    *mount.VolumeOptions
		want int
	}{{51, nil, 1}, {51, &mount.VolumeOptions{DriverConfig: &mount.Driver{Name: "x"}}, 0}, {47, nil, 0}} {
		w, err := c(tc.o).Upgrade(tc.v, true)
		assert.NilError(t, err)
		assert.Equal(t, len(w), tc.want)
	}
}
