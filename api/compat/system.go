package compat

import (
	"encoding/json"
	"maps"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/system"
)

// Info gives an info answer the form of version v, ready for JSON. The answer must be the caller's own.
func Info(v Version, info *system.Info) (any, error) {
	extra := map[string]any{}
	if v < 50 {
		info.DiscoveredDevices = nil
		extra["BridgeNfIptables"], extra["BridgeNfIp6tables"] = false, false
	}
	if v < 49 {
		info.FirewallBackend = nil
		info.ContainerdCommit.Expected = info.ContainerdCommit.ID
		info.RuncCommit.Expected = info.RuncCommit.ID
		info.InitCommit.Expected = info.InitCommit.ID
	}
	if v < 47 && info.RegistryConfig != nil {
		info.RegistryConfig.ExtraFields = map[string]any{
			"AllowNondistributableArtifactsCIDRs":     json.RawMessage(nil),
			"AllowNondistributableArtifactsHostnames": json.RawMessage(nil),
		}
	}
	if v < 46 {
		info.Containerd = nil
	}
	if v < 44 {
		info.Runtimes = maps.Clone(info.Runtimes)
		for name, rt := range info.Runtimes {
			info.Runtimes[name] = system.RuntimeWithStatus{Runtime: rt.Runtime}
		}
	}
	if v >= 42 {
		info.KernelMemory = false
	}
	oldNames(v, info)
	return reshaped(info, extra, unknownInfo(v))
}

// unknownInfo names the fields of an info answer that version v has not heard of and that are never left out empty.
func unknownInfo(v Version) (names []string) {
	if v < 44 {
		names = append(names, "CDISpecDirs")
	}
	return names
}

// oldNames writes what the oldest clients want to see in the place of nothing or of too much.
func oldNames(v Version, info *system.Info) {
	if v < 39 {
		if info.KernelVersion == "" {
			info.KernelVersion = "<unknown>"
		}
		if info.OperatingSystem == "" {
			info.OperatingSystem = "<unknown>"
		}
	}
	if v < 25 {
		info.SecurityOptions = securityNames(info)
	}
}

func securityNames(info *system.Info) []string {
	opts, err := system.DecodeSecurityOptions(info.SecurityOptions)
	if err != nil {
		info.Warnings = append(info.Warnings, err.Error())
	}
	var names []string
	for _, o := range opts {
		names = append(names, o.Name)
	}
	return names
}

// reshaped is the answer with some fields more and some less.
func reshaped(info *system.Info, extra map[string]any, less []string) (any, error) {
	if len(extra)+len(less) == 0 {
		return info, nil
	}
	raw, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	maps.Copy(all, extra)
	for _, name := range less {
		delete(all, name)
	}
	return all, nil
}

// diskUsage is a disk usage answer as versions below 1.48 know it.
type diskUsage struct {
	*types.DiskUsage
	Containers []summary
}

// DiskUsage gives a disk usage answer the form of version v, ready for JSON. The answer must be the caller's own.
func DiskUsage(v Version, du *types.DiskUsage) any {
	for _, img := range du.Images {
		if v < 48 {
			img.Descriptor = nil
		}
		if v < 44 {
			img.VirtualSize = img.Size
		}
	}
	for _, b := range du.BuildCache {
		if v >= 42 {
			b.Parent = ""
		}
		if v < 42 {
			b.Parents = nil
			du.BuilderSize += b.Size
		}
	}
	if v < 48 {
		return diskUsage{du, summaries(v, du.Containers)}
	}
	return du
}

// KnowsEvent tells whether version v has heard of this kind of event.
func KnowsEvent(v Version, e events.Message) bool {
	return v >= 46 || e.Type != events.ImageEventType || e.Action != events.ActionCreate
}
