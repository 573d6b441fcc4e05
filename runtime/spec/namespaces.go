package spec

import (
	"fmt"

	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func setNamespaces(s *specs.Spec, in *Input, _ *SecurityOpts) error {
	hc := in.HostConfig
	if err := checkNamespaceModes(hc); err != nil {
		return err
	}
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(t specs.LinuxNamespaceType, path string) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
	if in.Userns != "" {
		add(specs.UserNamespace, in.Userns)
	}
	switch {
	case in.Netns != "":
		add(specs.NetworkNamespace, in.Netns)
	case in.Config.NetworkDisabled:
		add(specs.NetworkNamespace, "")
	}
	if !hc.UTSMode.IsHost() {
		add(specs.UTSNamespace, joined(in.JoinUTS, "uts"))
	}
	// A joined UTS namespace has its hostname, and so has the host's.
	if hc.UTSMode.IsHost() || in.JoinUTS > 0 {
		s.Hostname = ""
	}
	if !hc.PidMode.IsHost() {
		add(specs.PIDNamespace, joined(in.JoinPID, "pid"))
	}
	if !hc.IpcMode.IsHost() {
		add(specs.IPCNamespace, joined(in.JoinIPC, "ipc"))
	}
	if hc.CgroupnsMode.IsPrivate() || hc.CgroupnsMode.IsEmpty() && in.Host.Unified {
		add(specs.CgroupNamespace, "")
	}
	return nil
}

func joined(pid int, ns string) string {
	if pid == 0 {
		return ""
	}
	return fmt.Sprintf("/proc/%d/ns/%s", pid, ns)
}

func checkNamespaceModes(hc *container.HostConfig) error {
	switch {
	case !hc.IpcMode.Valid():
		return invalid("invalid IPC mode: %v", hc.IpcMode)
	case !hc.PidMode.Valid():
		return invalid("invalid PID mode: %v", hc.PidMode)
	case !hc.UTSMode.Valid():
		return invalid("invalid UTS mode: %v", hc.UTSMode)
	case !hc.CgroupnsMode.Valid():
		return invalid("invalid cgroup namespace mode: %v", hc.CgroupnsMode)
	}
	return nil
}

const pingGroups = "net.ipv4.ping_group_range"

// setSysctls gives what Docker gives to a network namespace of the container's own, and then what the user asked for.
func setSysctls(s *specs.Spec, in *Input, _ *SecurityOpts) error {
	if in.Config.Domainname != "" {
		// The specification has no field for the NIS domain; the sysctl does what setdomainname(2) does.
		s.Linux.Sysctl["kernel.domainname"] = in.Config.Domainname
	}
	if in.HostConfig.NetworkMode.IsPrivate() && (in.Netns != "" || in.Config.NetworkDisabled) {
		for name, value := range map[string]string{
			pingGroups:                            "0 2147483647", // ping without CAP_NET_RAW
			"net.ipv4.ip_unprivileged_port_start": "0",            // any port without CAP_NET_BIND_SERVICE
		} {
			// The groups of a user namespace are not those the kernel wants to hear of.
			if in.Host.SysctlExists(name) && (in.Userns == "" || name != pingGroups) {
				s.Linux.Sysctl[name] = value
			}
		}
	}
	for name, value := range in.HostConfig.Sysctls {
		s.Linux.Sysctl[name] = value
	}
	return nil
}
