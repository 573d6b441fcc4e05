package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/storage"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// storageDriver is the name that info and inspect give what root file systems lie on.
const storageDriver = "overlayfs"

// inspectResponse is what inspect says of a container from its record and its network settings. What is deeper in it
// than its fields may be the record's.
func inspectResponse(r *state.Container, nets *container.NetworkSettings) *container.InspectResponse {
	return &container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{
			ID:              string(r.ID),
			Created:         r.Created.UTC().Format(time.RFC3339Nano),
			Path:            r.Path,
			Args:            notNilArgs(r.Args),
			State:           inspectState(r),
			Image:           string(r.ImageID),
			LogPath:         r.LogPath,
			Name:            "/" + r.Name,
			RestartCount:    r.RestartCount,
			Driver:          storageDriver,
			Platform:        platformOS(r),
			AppArmorProfile: appArmorProfile(r.HostConfig),
			HostConfig:      inspectHostConfig(r),
			GraphDriver:     storage.DriverData{Name: storageDriver},
		},
		Mounts:                  mountPoints(r),
		Config:                  inspectConfig(r),
		NetworkSettings:         nets,
		ImageManifestDescriptor: manifestOf(r),
	}
}

// notNilArgs: a command without arguments has none, which is a list too.
func notNilArgs(args []string) []string {
	if args == nil {
		return []string{}
	}
	return args
}

// platformOS is the system of a container's image; all of ours are Linux.
func platformOS(r *state.Container) string {
	if r.Platform.OS == "" {
		return "linux"
	}
	return r.Platform.OS
}

func inspectState(r *state.Container) *container.State {
	s := r.State
	st := &container.State{
		Status:     s.Status,
		Running:    listedRunning(r),
		Paused:     s.Status == state.StatusPaused,
		Restarting: s.Status == state.StatusRestarting,
		OOMKilled:  s.OOMKilled,
		Dead:       s.Status == state.StatusDead,
		Pid:        s.Pid,
		ExitCode:   s.ExitCode,
		Error:      s.Error,
		StartedAt:  s.StartedAt.UTC().Format(time.RFC3339Nano),
		FinishedAt: s.FinishedAt.UTC().Format(time.RFC3339Nano),
	}
	if s.Health != nil {
		st.Health = &container.Health{Status: healthOf(r), FailingStreak: s.Health.FailingStreak, Log: slices.Clone(s.Health.Log)}
		if st.Health.Log == nil {
			st.Health.Log = []*container.HealthcheckResult{}
		}
	}
	return st
}

// inspectConfig is the configuration with the MAC address where old clients look for it. Its labels are the caller's.
func inspectConfig(r *state.Container) *container.Config {
	cfg := container.Config{}
	if r.Config != nil {
		cfg = *r.Config
	}
	cfg.Labels = labelsOf(r)
	mode := networkMode(r)
	ep := r.Networks[mode.NetworkName()]
	if ep != nil && cfg.MacAddress == "" && (mode.IsBridge() || mode.IsUserDefined()) {
		cfg.MacAddress = ep.WantMAC
	}
	return &cfg
}

func networkMode(r *state.Container) container.NetworkMode {
	if r.HostConfig == nil {
		return ""
	}
	return r.HostConfig.NetworkMode
}

// inspectHostConfig shows links of the default bridge as Docker does, by the full names of both sides; on other
// networks they belong to the endpoint.
func inspectHostConfig(r *state.Container) *container.HostConfig {
	hc := container.HostConfig{}
	if r.HostConfig != nil {
		hc = *r.HostConfig
	}
	asked := hc.Links
	hc.Links = nil
	if hc.NetworkMode.IsUserDefined() {
		return &hc
	}
	for _, link := range asked {
		name, alias, found := strings.Cut(link, ":")
		if !found {
			alias = name
		}
		hc.Links = append(hc.Links, fmt.Sprintf("/%s:/%s/%s", strings.TrimPrefix(name, "/"), r.Name, strings.TrimPrefix(alias, "/")))
	}
	return &hc
}

// appArmorProfile is the one that was asked for.
func appArmorProfile(hc *container.HostConfig) string {
	if hc == nil {
		return ""
	}
	for _, opt := range hc.SecurityOpt {
		for _, sep := range []string{"=", ":"} {
			if profile, ok := strings.CutPrefix(opt, "apparmor"+sep); ok {
				return profile
			}
		}
	}
	return ""
}

// inspectNode is what inspect says of the host a container runs on. A host that is not known has its name only.
func inspectNode(name nereid.Host, h *state.Host) *nereid.Node {
	n := &nereid.Node{ID: string(name), Name: string(name), Labels: map[string]string{}}
	if h == nil {
		return n
	}
	if h.Advertise.IsValid() {
		n.IP, n.Addr = h.Advertise.String(), h.Advertise.String()
	}
	n.Cpus, n.Memory = h.CPUs, h.Memory
	for k, v := range h.Labels {
		n.Labels[k] = v
	}
	return n
}
