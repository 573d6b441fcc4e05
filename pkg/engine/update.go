package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Update changes a container's resources and restart policy, those of its running processes at once.
func (c *Containers) Update(ctx context.Context, ref string, cfg container.UpdateConfig) (container.UpdateResponse, error) {
	hc := &container.HostConfig{Resources: cfg.Resources, RestartPolicy: cfg.RestartPolicy}
	v := c.verifier()
	v.update = true
	if err := v.verify(nil, hc); err != nil {
		return container.UpdateResponse{Warnings: v.warnings}, err
	}
	answer := container.UpdateResponse{Warnings: append(v.warnings, notUpdated(&cfg.Resources)...)}
	r, err := c.find(ctx, ref)
	if err != nil {
		return answer, err
	}
	err = c.asked(ctx, r, func(r *state.Container) error {
		if err := c.update(ctx, r, hc); err != nil {
			return fmt.Errorf("Cannot update container %s: %w", r.ID, err)
		}
		return nil
	})
	return answer, err
}

// update applies the change to the process first: a record that says more than is so would mislead for longer.
func (c *Containers) update(ctx context.Context, r *state.Container, hc *container.HostConfig) error {
	if r.State.Status == state.StatusRemoving || r.State.Status == state.StatusDead {
		return errInternal(`container is marked for removal and cannot be "update"`)
	}
	old := r.HostConfig
	changed := *old
	if err := applyUpdate(&changed, hc); err != nil {
		return err
	}
	ctx, cancel := work(ctx)
	defer cancel()
	if r.State.Running() {
		if err := c.Runtime.Update(ctx, keyOf(r), hc.Resources); err != nil {
			if err = c.meanwhile(r, err); errdefs.IsConflict(err) {
				return err
			}
			return errInternal("%s", err)
		}
	}
	_, err := c.transit(ctx, keyOf(r), func(r *state.Container) ([]state.Op, error) {
		r.HostConfig = &changed
		return []state.Op{tell(r, events.ActionUpdate)}, nil
	})
	if err != nil && r.State.Running() {
		if err := c.Runtime.Update(ctx, keyOf(r), old.Resources); err != nil {
			c.logger(keyOf(r)).Error("resources not set back after a failed update", zap.Error(err))
		}
	}
	return err
}

// applyUpdate changes what the update names and refuses what contradicts what stays.
func applyUpdate(to, with *container.HostConfig) error {
	if err := checkUpdate(&to.Resources, &with.Resources); err != nil {
		return err
	}
	if with.RestartPolicy.Name != "" {
		if to.AutoRemove && !with.RestartPolicy.IsNone() {
			return errConflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		to.RestartPolicy = with.RestartPolicy
	}
	applyResources(&to.Resources, &with.Resources)
	return nil
}

// notUpdated warns of settings that a container keeps for its life.
func notUpdated(r *container.Resources) (warnings []string) {
	for _, s := range []struct {
		name  string
		given bool
	}{
		{"CgroupParent", r.CgroupParent != ""},
		{"BlkioWeightDevice", len(r.BlkioWeightDevice) > 0},
		{"BlkioDeviceReadBps", len(r.BlkioDeviceReadBps) > 0},
		{"BlkioDeviceWriteBps", len(r.BlkioDeviceWriteBps) > 0},
		{"BlkioDeviceReadIOps", len(r.BlkioDeviceReadIOps) > 0},
		{"BlkioDeviceWriteIOps", len(r.BlkioDeviceWriteIOps) > 0},
		{"Devices", len(r.Devices) > 0},
		{"DeviceCgroupRules", len(r.DeviceCgroupRules) > 0},
		{"DeviceRequests", len(r.DeviceRequests) > 0},
		{"MemorySwappiness", r.MemorySwappiness != nil},
		{"OomKillDisable", r.OomKillDisable != nil},
		{"Ulimits", len(r.Ulimits) > 0},
	} {
		if s.given {
			warnings = append(warnings, s.name+" cannot be changed by an update. Setting discarded.")
		}
	}
	return warnings
}

func checkUpdate(to, with *container.Resources) error {
	switch {
	case with.NanoCPUs > 0 && to.CPUPeriod > 0:
		return errConflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case with.NanoCPUs > 0 && to.CPUQuota > 0:
		return errConflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case with.CPUPeriod > 0 && to.NanoCPUs > 0:
		return errConflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case with.CPUQuota > 0 && to.NanoCPUs > 0:
		return errConflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case with.Memory != 0 && with.Memory > to.MemorySwap && with.MemorySwap == 0:
		return errConflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	return nil
}

func applyResources(to, with *container.Resources) {
	to.BlkioWeight = orElse(with.BlkioWeight, to.BlkioWeight)
	to.CPUShares = orElse(with.CPUShares, to.CPUShares)
	to.NanoCPUs = orElse(with.NanoCPUs, to.NanoCPUs)
	to.CPUPeriod = orElse(with.CPUPeriod, to.CPUPeriod)
	to.CPUQuota = orElse(with.CPUQuota, to.CPUQuota)
	to.CpusetCpus = orElse(with.CpusetCpus, to.CpusetCpus)
	to.CpusetMems = orElse(with.CpusetMems, to.CpusetMems)
	to.Memory = orElse(with.Memory, to.Memory)
	to.MemorySwap = orElse(with.MemorySwap, to.MemorySwap)
	to.MemoryReservation = orElse(with.MemoryReservation, to.MemoryReservation)
	to.KernelMemory = orElse(with.KernelMemory, to.KernelMemory)
	to.CPURealtimePeriod = orElse(with.CPURealtimePeriod, to.CPURealtimePeriod)
	to.CPURealtimeRuntime = orElse(with.CPURealtimeRuntime, to.CPURealtimeRuntime)
	if with.PidsLimit != nil {
		to.PidsLimit = with.PidsLimit
	}
}
