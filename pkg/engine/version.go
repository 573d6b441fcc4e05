package engine

import (
	"cmp"
	"context"
	"runtime"
	"runtime/debug"

	"github.com/docker/docker/api/types"
)

// The versions of the Engine API that are served.
const (
	apiVersion    = "1.51"
	minAPIVersion = "1.24"
)

// Version says which software this endpoint is made of. It needs no state.
func (s *System) Version(ctx context.Context) types.Version {
	f := s.facts()
	commit, built := s.build()
	v := types.Version{
		Version:       s.Deps.Version,
		APIVersion:    apiVersion,
		MinAPIVersion: minAPIVersion,
		GitCommit:     commit,
		BuildTime:     built,
		GoVersion:     runtime.Version(),
		Os:            runtime.GOOS,
		Arch:          runtime.GOARCH,
		KernelVersion: f.kernel,
	}
	v.Platform.Name = "nereid"
	v.Components = []types.ComponentVersion{
		{
			Name:    "Engine",
			Version: v.Version,
			Details: map[string]string{
				"ApiVersion":    v.APIVersion,
				"MinAPIVersion": v.MinAPIVersion,
				"GitCommit":     v.GitCommit,
				"BuildTime":     v.BuildTime,
				"GoVersion":     v.GoVersion,
				"Os":            v.Os,
				"Arch":          v.Arch,
				"KernelVersion": v.KernelVersion,
				"Experimental":  "false",
			},
		},
		component("containerd", toolVersion{version: f.containerd}),
		component("runc", f.runc),
		component("docker-init", f.init),
	}
	return v
}

func component(name string, t toolVersion) types.ComponentVersion {
	return types.ComponentVersion{Name: name, Version: orNA(t.version), Details: map[string]string{"GitCommit": t.commit}}
}

// build tells what this binary was built from, as the daemon was told or, else, as the Go tool noted.
func (s *System) build() (commit, built string) {
	noted := buildSettings()
	return cmp.Or(s.cfg.Commit, noted["vcs.revision"]), cmp.Or(s.cfg.Built, noted["vcs.time"])
}

// buildSettings are what the Go tool noted about this binary.
func buildSettings() map[string]string {
	settings := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	return settings
}

// moduleVersion is the version of a module built into this binary, without the leading v; empty when it is not.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == path {
			if d.Replace != nil {
				d = d.Replace
			}
			return trimV(d.Version)
		}
	}
	return ""
}

func trimV(v string) string {
	if len(v) > 0 && v[0] == 'v' {
		return v[1:]
	}
	return v
}
