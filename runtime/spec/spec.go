// Package spec turns Docker's container configuration into an OCI runtime specification, as Docker makes it.
package spec

import (
	"fmt"
	"path"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Input is all a specification is made of.
type Input struct {
	ID         string
	Path       string
	Args       []string
	Config     *container.Config
	HostConfig *container.HostConfig
	Hostname   string
	LinkEnv    []string   // variables that tell of linked containers
	Rootfs     string     // absolute path of the mounted root file system
	User       specs.User // see ResolveUser
	Mounts     []Mount
	Netns      string // path; empty: the host's
	Userns     string // path; empty: the host's

	// Process ids of the containers whose namespaces are joined; 0: none.
	JoinPID, JoinIPC, JoinUTS int

	ShmPath      string // directory of the host that becomes /dev/shm; empty: a tmpfs of its own
	CgroupParent string // used when HostConfig names none
	InitPath     string // static init of the host for HostConfig.Init
	OwnRoots     []string
	Host         Host
}

// Build makes the specification. It reads nothing but in.Host; options that cannot be honoured are errors of class
// errdefs.ErrInvalidArgument that name the option.
func Build(in Input) (*specs.Spec, error) {
	sec, err := ParseSecurityOpts(in.HostConfig.SecurityOpt)
	if err != nil {
		return nil, err
	}
	s := base(in, sec)
	// Order matters: seccomp looks at the capabilities, mounts at the root and the namespaces.
	for _, step := range []func(*specs.Spec, *Input, *SecurityOpts) error{
		setProcess, setNamespaces, setResources, setDevices, setCapabilities, setSeccomp, setMounts, setPaths, setAppArmor, setSysctls,
		setDeviceRequests,
	} {
		if err := step(s, &in, sec); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func base(in Input, sec *SecurityOpts) *specs.Spec {
	hc := in.HostConfig
	s := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: in.Rootfs, Readonly: hc.ReadonlyRootfs},
		Hostname:    in.Hostname,
		Process:     &specs.Process{User: in.User, NoNewPrivileges: sec.NoNewPrivileges},
		Annotations: hc.Annotations,
		Linux: &specs.Linux{
			CgroupsPath: CgroupsPath(in.ID, in.HostConfig, in.CgroupParent),
			Sysctl:      map[string]string{},
			Resources:   &specs.LinuxResources{},
		},
	}
	return s
}

// CgroupsPath of a container is absolute, as Docker documents a relative parent to be below that of the init process.
// The parent is the host's default.
func CgroupsPath(id string, hc *container.HostConfig, parent string) string {
	if hc != nil && hc.CgroupParent != "" {
		parent = hc.CgroupParent
	}
	return path.Join("/", parent, id)
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}
