package compat

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
)

// Create is a request to create a container, as the present version understands it.
type Create struct {
	Config     *container.Config
	Host       *container.HostConfig
	Networking *network.NetworkingConfig
	// ReadOnlyNonRecursive is what a read-only bind mount means by default.
	ReadOnlyNonRecursive bool
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// Upgrade turns what a client of version v sent into what the present version would have sent, in place, and returns
// the warnings to answer with. cgroup2 tells which cgroup version the hosts have. No field of c may be nil, nor the map
// of endpoints.
func (c *Create) Upgrade(v Version, cgroup2 bool) (warnings []string, err error) {
	steps := []func(Version) error{c.below148, c.below145, c.below144, c.below143, c.from142, c.below142, c.below141(cgroup2), c.below140, c.below125}
	for _, step := range steps {
		if err := step(v); err != nil {
			return nil, err
		}
	}
	return c.migrate(v)
}

// migrate moves the settings that were the container's and are an endpoint's now.
func (c *Create) migrate(v Version) (warnings []string, err error) {
	if w := c.volumeDriver(v); w != "" {
		warnings = append(warnings, w)
	}
	for _, move := range []func(Version) (string, error){c.macAddress, c.interfaceSysctls} {
		w, err := move(v)
		if err != nil {
			return nil, err
		}
		if w != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings, nil
}

func (c *Create) below148(v Version) error {
	if v >= 48 {
		return nil
	}
	for _, ep := range c.Networking.EndpointsConfig {
		if ep != nil {
			ep.GwPriority = 0
		}
	}
	for _, m := range c.Host.Mounts {
		if m.Type == mount.TypeImage {
			return invalid(`Mount type "Image" needs API v1.48 or newer`)
		}
	}
	return nil
}

func (c *Create) below145(v Version) error {
	if v >= 45 {
		return nil
	}
	for _, m := range c.Host.Mounts {
		if m.VolumeOptions != nil && m.VolumeOptions.Subpath != "" {
			return invalid("VolumeOptions.Subpath needs API v1.45 or newer")
		}
	}
	return nil
}

func (c *Create) below144(v Version) error {
	if v >= 44 {
		return nil
	}
	if c.Config.Healthcheck != nil {
		c.Config.Healthcheck.StartInterval = 0
	}
	c.ReadOnlyNonRecursive = true
	for _, m := range c.Host.Mounts {
		if m.Type == mount.TypeBind && m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive {
			return invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
		}
	}
	if eps := c.Networking.EndpointsConfig; len(eps) > 1 {
		return invalid("Container cannot be created with multiple network endpoints: %s", strings.Join(slices.Sorted(maps.Keys(eps)), ", "))
	}
	return nil
}

func (c *Create) below143(v Version) error {
	if v < 43 {
		c.Host.Annotations = nil
	}
	return nil
}

// from142 refuses options of another mount type, which older versions let pass.
func (c *Create) from142(v Version) error {
	if v < 42 {
		return nil
	}
	c.Host.KernelMemory = 0
	for _, m := range c.Host.Mounts {
		if m.VolumeOptions != nil && m.Type != mount.TypeVolume {
			return invalid("VolumeOptions must not be specified on mount type %q", m.Type)
		}
		if m.BindOptions != nil && m.Type != mount.TypeBind {
			return invalid("BindOptions must not be specified on mount type %q", m.Type)
		}
		if m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs {
			return invalid("TmpfsOptions must not be specified on mount type %q", m.Type)
		}
	}
	return nil
}

func (c *Create) below142(v Version) error {
	if v >= 42 {
		return nil
	}
	c.Host.ConsoleSize = [2]uint{}
	for i := range c.Host.Mounts {
		m := &c.Host.Mounts[i]
		if m.BindOptions != nil {
			m.BindOptions.CreateMountpoint = false
		}
		if m.Type != mount.TypeVolume {
			m.VolumeOptions = nil
		}
		if m.Type != mount.TypeTmpfs {
			m.TmpfsOptions = nil
		}
	}
	return nil
}

func (c *Create) below141(cgroup2 bool) func(Version) error {
	return func(v Version) error {
		if v < 41 && !cgroup2 && c.Host.CgroupnsMode.IsEmpty() {
			c.Host.CgroupnsMode = container.CgroupnsModeHost
		}
		return nil
	}
}

func (c *Create) below140(v Version) error {
	if v >= 40 {
		return nil
	}
	for _, m := range c.Host.Mounts {
		if m.BindOptions != nil {
			m.BindOptions.NonRecursive = false
		}
	}
	c.Host.KernelMemoryTCP = 0
	if c.Host.IpcMode.IsEmpty() {
		c.Host.IpcMode = container.IPCModeShareable
	}
	return nil
}

// below125 leaves the removal to the client, as those clients expect.
func (c *Create) below125(v Version) error {
	if v < 25 {
		c.Host.AutoRemove = false
	}
	return nil
}

// volumeDriver warns about a driver that the mounts do not heed.
func (c *Create) volumeDriver(v Version) string {
	if c.Host.VolumeDriver == "" || v < 48 {
		return ""
	}
	for _, m := range c.Host.Mounts {
		o := m.VolumeOptions
		if m.Type == mount.TypeVolume && (o == nil || o.DriverConfig == nil || o.DriverConfig.Name == "") {
			return "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead"
		}
	}
	return ""
}

// macAddress moves the container's MAC address to the endpoint of its network mode.
func (c *Create) macAddress(v Version) (warning string, err error) {
	mac := c.Config.MacAddress
	if v < 44 {
		return "", c.macBefore144(v, mac)
	}
	if mac == "" {
		return "", nil
	}
	c.Config.MacAddress = ""
	const deprecated = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
	if !onOwnNetwork(c.Host.NetworkMode) {
		return deprecated, nil
	}
	ep, err := c.mainEndpoint(v)
	if err != nil {
		return "", fmt.Errorf("unable to migrate container-wide MAC address to a specific network: %w", err)
	}
	if ep.MacAddress != "" && ep.MacAddress != mac {
		return "", invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	ep.MacAddress = mac
	return deprecated, nil
}

func (c *Create) macBefore144(v Version, mac string) error {
	if mac == "" {
		for _, ep := range c.Networking.EndpointsConfig {
			if ep != nil {
				ep.MacAddress = ""
			}
		}
		return nil
	}
	if !onOwnNetwork(c.Host.NetworkMode) {
		return invalid("conflicting options: mac-address and the network mode")
	}
	ep, err := c.mainEndpoint(v)
	if err != nil {
		return err
	}
	ep.MacAddress = mac
	return nil
}

func onOwnNetwork(m container.NetworkMode) bool { return m.IsBridge() || m.IsUserDefined() }

// endpointSysctls is the endpoint option that holds sysctls with IFNAME in the place of the interface.
const endpointSysctls = "com.docker.network.endpoint.sysctls"

// interfaceSysctls moves sysctls that name eth0 to the endpoint of the network mode, for the versions before 1.48 that
// had no other way to say it.
func (c *Create) interfaceSysctls(v Version) (warning string, err error) {
	if !c.Host.NetworkMode.IsPrivate() {
		return "", nil
	}
	var moved, opts []string
	for _, k := range slices.Sorted(maps.Keys(c.Host.Sysctls)) {
		p := strings.SplitN(k, ".", 5)
		if len(p) != 5 || p[0] != "net" || !strings.HasPrefix(p[3], "eth") {
			continue
		}
		if v >= 48 {
			return "", fmt.Errorf("interface specific sysctl setting %q must be supplied using driver option '%s'", k, endpointSysctls)
		}
		if p[3] != "eth0" {
			return "", fmt.Errorf("unable to determine network endpoint for sysctl %s, use driver option '%s' to set per-interface sysctls", k, endpointSysctls)
		}
		moved = append(moved, k)
		opts = append(opts, fmt.Sprintf("net.%s.%s.IFNAME.%s=%s", p[1], p[2], p[4], c.Host.Sysctls[k]))
	}
	if len(moved) == 0 {
		return "", nil
	}
	return c.moveSysctls(v, moved, strings.Join(opts, ","))
}

func (c *Create) moveSysctls(v Version, moved []string, opt string) (warning string, err error) {
	ep, err := c.mainEndpoint(v)
	if err != nil {
		return "", fmt.Errorf("unable to find a network for sysctl %s: %w", moved[0], err)
	}
	warning = fmt.Sprintf("Migrated sysctl %q to DriverOpts{%q:%q}.", strings.Join(moved, ","), endpointSysctls, opt)
	if ep.DriverOpts == nil {
		ep.DriverOpts = map[string]string{}
	}
	if own, ok := ep.DriverOpts[endpointSysctls]; ok {
		opt += "," + own // what the endpoint says itself comes last and wins
	}
	ep.DriverOpts[endpointSysctls] = opt
	for _, k := range moved {
		delete(c.Host.Sysctls, k)
	}
	return warning, nil
}

// mainEndpoint finds or makes the endpoint of the network the mode names. Keys may be names or ids; where they do not
// match literally nobody can tell which one is meant, and a guess could attach the container twice.
func (c *Create) mainEndpoint(v Version) (*network.EndpointSettings, error) {
	name, eps := c.Host.NetworkMode.NetworkName(), c.Networking.EndpointsConfig
	if len(eps) == 0 {
		eps[name] = &network.EndpointSettings{}
		return eps[name], nil
	}
	if v < 44 { // one endpoint at most, whatever it is called
		for k := range eps {
			name = k
		}
	}
	ep, ok := eps[name]
	if !ok {
		return nil, invalid("HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
	}
	if ep == nil { // "networks": {"x": null}
		ep = &network.EndpointSettings{}
		eps[name] = ep
	}
	return ep, nil
}
