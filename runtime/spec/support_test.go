package spec

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// remapped is a host that puts containers into user namespaces, with quotas, a second runtime and no security module.
func remapped() Host {
	return Host{
		Runtimes: map[string]string{"runc": "/runc", "crun": "/crun"},
		IDMap:    nereid.IDMap{UID: 100000, GID: 100000, UIDs: 65536, GIDs: 65536},
		Quota:    func() bool { return true },
	}
}

func TestCheck(t *testing.T) {
	plain := Host{Runtimes: map[string]string{"runc": "/runc"}}
	for _, c := range []struct {
		name, want, warning string
		host                Host
		with                container.HostConfig
	}{
		{name: "nothing special", host: plain},
		{name: "runtime", host: plain, with: container.HostConfig{Runtime: "crun"}, want: "unknown or invalid runtime name: crun"},
		{name: "added runtime", host: remapped(), with: container.HostConfig{Runtime: "crun"}},
		{name: "isolation", host: plain, with: container.HostConfig{Isolation: "hyperv"}, want: "invalid isolation 'hyperv' on linux"},
		{name: "isolation by its name", host: plain, with: container.HostConfig{Isolation: "default"}},
		{
			name: "size without quota", host: plain, with: container.HostConfig{StorageOpt: map[string]string{"size": "1g"}},
			want: "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
		},
		{name: "size", host: remapped(), with: container.HostConfig{StorageOpt: map[string]string{"size": "1g"}}},
		{name: "size of nothing", host: plain, with: container.HostConfig{StorageOpt: map[string]string{"size": "0"}}},
		{name: "size misspelt", host: remapped(), with: container.HostConfig{StorageOpt: map[string]string{"size": "big"}}, want: "invalid size: 'big'"},
		{name: "storage option", host: remapped(), with: container.HostConfig{StorageOpt: map[string]string{"dm.fs": "x"}}, want: "Unknown option dm.fs"},
		{
			name: "user namespace mode", host: plain, with: container.HostConfig{UsernsMode: "remap"},
			warning: "User namespace mode remap is not known. User namespace mode discarded.",
		},
		{name: "privileged", host: plain, with: container.HostConfig{Privileged: true}},
		{name: "privileged and remapped", host: remapped(), with: container.HostConfig{Privileged: true}, want: "privileged mode is incompatible with user namespaces"},
		{name: "privileged outside", host: remapped(), with: container.HostConfig{Privileged: true, UsernsMode: "host"}},
		{name: "host network", host: remapped(), with: container.HostConfig{NetworkMode: "host"}, want: "cannot share the host's network namespace when user namespaces are enabled"},
		{name: "host processes", host: remapped(), with: container.HostConfig{PidMode: "host"}, want: "cannot share the host PID namespace when user namespaces are enabled"},
		{name: "host memory", host: remapped(), with: container.HostConfig{IpcMode: "host"}, want: "cannot share the host IPC namespace when user namespaces are enabled"},
		{name: "security", host: plain, with: container.HostConfig{SecurityOpt: []string{"fence=on"}}, want: `invalid --security-opt 2: "fence=on"`},
		{name: "labels off", host: plain, with: container.HostConfig{SecurityOpt: []string{"label=disable"}}},
		{
			name: "label", host: plain, with: container.HostConfig{SecurityOpt: []string{"label=type:web"}},
			warning: "SELinux is not supported. Security option label=type:web discarded.",
		},
		{name: "no profile", host: plain, with: container.HostConfig{SecurityOpt: []string{"apparmor=unconfined"}}},
		{
			name: "profile", host: plain, with: container.HostConfig{SecurityOpt: []string{"apparmor=web"}},
			warning: "Your kernel does not support AppArmor or it is not enabled. Security option apparmor=web discarded.",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			warnings, err := c.host.Check(&c.with)
			assert.Equal(t, strings.Join(warnings, "\n"), c.warning)
			if c.want == "" {
				assert.NilError(t, err)
				return
			}
			assert.ErrorContains(t, err, c.want)
			assert.Assert(t, errdefs.IsInvalidArgument(err), err)
		})
	}
}
