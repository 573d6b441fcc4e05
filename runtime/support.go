package runtime

import "github.com/docker/docker/api/types/container"

// Check refuses what this host cannot do for a container, in Docker's words with class errdefs.ErrInvalidArgument, and
// warns of what it will not heed.
func (r *Runtime) Check(hc *container.HostConfig) (warnings []string, err error) {
	return r.host.Check(hc)
}

// Devices are the names of the devices that drivers can give to containers, and what is wrong with their specifications.
func (r *Runtime) Devices() (names, warnings []string) { return r.host.CDI.Devices() }
