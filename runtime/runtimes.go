package runtime

import (
	"maps"
	"path/filepath"

	"github.com/containerd/containerd/api/types/runc/options"
)

// runcName is what users call runc; its shim's name means the same.
const runcName = "runc"

func isRunc(name string) bool { return name == "" || name == runcName || name == runtimeName }

// runtimes are the programs by the names users may choose from.
func (c Config) runtimes() map[string]string {
	all := map[string]string{runcName: c.Runc, runtimeName: c.Runc}
	maps.Copy(all, c.Runtimes)
	return all
}

// runcOptions tell the shim which program to run, and who owns the ends of the pipes: the container's root, so that its
// processes can open what they write to anew. Each program keeps its records apart: they need not be alike.
func (r *Runtime) runcOptions(s Spec) *options.Options {
	name := s.HostConfig.Runtime
	if name == "" {
		name = runcName
	}
	return &options.Options{BinaryName: r.host.Runtimes[name], Root: r.runcRoot(name), IoUid: s.IDMap.UID, IoGid: s.IDMap.GID}
}

func (r *Runtime) runcRoot(name string) string {
	if isRunc(name) {
		return filepath.Join(r.cfg.State, runcName)
	}
	return filepath.Join(r.cfg.State, "runtime-"+name)
}
