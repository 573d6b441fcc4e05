package spec

import (
	"fmt"

	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// cdiDriver is the driver name under which clients ask for devices that CDI specifications describe.
const cdiDriver = "cdi"

// setDeviceRequests injects the devices that drivers know. It comes last: what the drivers change they change over all
// else.
func setDeviceRequests(s *specs.Spec, in *Input, _ *SecurityOpts) error {
	for _, r := range in.HostConfig.DeviceRequests {
		if r.Driver != cdiDriver {
			return invalid("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
		}
		if err := injectCDI(s, in.Host, r); err != nil {
			return err
		}
	}
	return nil
}

func injectCDI(s *specs.Spec, h Host, r container.DeviceRequest) error {
	switch {
	case r.Count != 0:
		return invalid("unexpected count in CDI device request")
	case len(r.Options) > 0:
		return invalid("unexpected options in CDI device request")
	case len(r.DeviceIDs) == 0:
		return nil
	case h.CDI == nil:
		return invalid("CDI device injection failed: no CDI specification directories specified")
	}
	if err := h.CDI.Inject(s, r.DeviceIDs); err != nil {
		return invalid("CDI device injection failed: %s", err)
	}
	return nil
}

// CDI are the devices that the specifications in some directories describe. They are read anew whenever they are asked
// for: nothing watches the directories. Its methods may be called at once.
type CDI struct{ dirs []string }

// NewCDI reads from the directories, in the order in which later ones win; nil when there is none.
func NewCDI(dirs []string) *CDI {
	if len(dirs) == 0 {
		return nil
	}
	return &CDI{dirs: dirs}
}

func (c *CDI) read() (*cdi.Cache, error) {
	return cdi.NewCache(cdi.WithSpecDirs(c.dirs...), cdi.WithAutoRefresh(false))
}

// Inject adds the devices named "vendor.com/class=name" to a specification, or, on an error, none of them.
func (c *CDI) Inject(s *specs.Spec, devices []string) error {
	cache, err := c.read()
	if err != nil {
		return err
	}
	_, err = cache.InjectDevices(s, devices...)
	return err
}

// Devices are the names of all devices, sorted, and what is wrong with specifications.
func (c *CDI) Devices() (names, warnings []string) {
	if c == nil {
		return nil, nil
	}
	cache, err := c.read()
	if err != nil {
		return nil, []string{fmt.Sprintf("CDI cache initialization failed: %v", err)}
	}
	for path, errs := range cache.GetErrors() {
		for _, err := range errs {
			warnings = append(warnings, fmt.Sprintf("CDI: Error associated with spec file %s: %v", path, err))
		}
	}
	return cache.ListDevices(), warnings
}
