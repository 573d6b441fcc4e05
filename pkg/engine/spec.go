package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// baseSpec is what the runtime must know of a container whatever becomes of it: enough for its root file system.
func (c *Containers) baseSpec(r *state.Container) runtime.Spec {
	spec := runtime.Spec{
		Key: keyOf(r), Path: r.Path, Args: r.Args, Config: r.Config, HostConfig: r.HostConfig,
		Hostname: r.Config.Hostname, Log: c.logConfig(r),
		Labels: map[string]string{hostLabel: string(c.Host)},
		Name:   "/" + r.Name, ImageName: r.Config.Image, ImageID: string(r.ImageID), Created: r.Created,
	}
	spec.IDMap = idMapOf(r)
	if r.Manifest != nil {
		spec.Image = *r.Manifest
	}
	return spec
}

// joinNamespaces enters the processes whose namespaces the container shares.
func (c *Containers) joinNamespaces(r *state.Container, spec *runtime.Spec) (err error) {
	if r.HostConfig.PidMode.IsContainer() {
		if spec.JoinPID, err = c.donor(r, r.HostConfig.PidMode.Container()); err != nil {
			return errInternal("failed to join PID namespace: %s", err)
		}
	}
	if r.HostConfig.IpcMode.IsContainer() {
		if spec.JoinIPC, err = c.ipcDonor(r, r.HostConfig.IpcMode.Container()); err != nil {
			return fmt.Errorf("failed to join IPC namespace: %w", err)
		}
	}
	return nil
}

// donor is the process of a running container whose namespace is shared; none is errdefs.ErrInvalidArgument, one that does
// not run errdefs.ErrConflict.
func (c *Containers) donor(r *state.Container, ref string) (pid int, err error) {
	d, err := c.State.View().FindContainer(r.Account, ref)
	if err != nil {
		return 0, asInvalid(err)
	}
	return d.State.Pid, running(d)
}

// running tells why a container has no process that another could share with.
func running(d *state.Container) error {
	if d.State.Status == state.StatusRestarting {
		return errRestarting(d.ID)
	}
	if !d.State.Running() {
		return errNotRunning(d.ID)
	}
	return nil
}

func (c *Containers) ipcDonor(r *state.Container, ref string) (pid int, err error) {
	d, err := c.State.View().FindContainer(r.Account, ref)
	if err == nil && !d.HostConfig.IpcMode.IsShareable() && !d.HostConfig.IpcMode.IsHost() && !d.HostConfig.IpcMode.IsContainer() {
		return 0, errInvalid("container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", ref)
	}
	return c.donor(r, ref)
}

// netDonor is the running container whose network namespace is shared; nil when none is.
func (c *Containers) netDonor(r *state.Container) (*state.Container, error) {
	if !r.HostConfig.NetworkMode.IsContainer() {
		return nil, nil
	}
	ref := r.HostConfig.NetworkMode.ConnectedContainer()
	d, err := c.State.View().FindContainer(r.Account, ref)
	if errdefs.IsNotFound(err) {
		return nil, errInternal("joining network namespace of container: %s", err)
	}
	if err != nil {
		return nil, fmt.Errorf("joining network namespace of container: %w", err)
	}
	switch {
	case d.ID == r.ID:
		return nil, errInternal("cannot join own network namespace")
	case d.State.Status == state.StatusRestarting:
		return nil, fmt.Errorf("cannot join network namespace of container: %w", errRestarting(d.ID))
	case !d.State.Running():
		return nil, errConflict("cannot join network namespace of a non running container: container %s is %s", d.Name, d.State.Status)
	}
	return d, nil
}

func netnsOf(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }

// spec is baseSpec with everything that a start settles but the network: mounts and shared namespaces. Release must be
// called when the task is made or has failed.
func (c *Containers) spec(ctx context.Context, r *state.Container) (spec runtime.Spec, release func(), err error) {
	spec = c.baseSpec(r)
	if err := c.joinNamespaces(r, &spec); err != nil {
		return spec, nil, err
	}
	spec.LinkEnv = c.linkEnv(r)
	spec.Mounts, release, err = c.volumes.RuntimeMounts(ctx, r, holderOf(keyOf(r)))
	return spec, release, err
}
