package runtime

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/containerd/containerd/v2/version"
)

// Component is a part this host runs containers with, as `docker version` and `docker info` show it.
type Component struct {
	Version string
	Commit  string
}

// Versions of what runs the containers.
type Versions struct {
	Containerd Component
	Runc       Component
}

// Versions asks containerd and runs runc.
func (r *Runtime) Versions(ctx context.Context) (Versions, error) {
	v := Versions{Containerd: Component{Version: version.Version, Commit: version.Revision}}
	if r.embedded == nil {
		remote, err := r.client.Version(ctx)
		if err != nil {
			return Versions{}, fmt.Errorf("version of containerd: %w", err)
		}
		v.Containerd = Component{Version: remote.Version, Commit: remote.Revision}
	}
	out, err := exec.CommandContext(ctx, r.cfg.Runc, "--version").Output()
	if err != nil {
		return Versions{}, fmt.Errorf("version of runc: %w", err)
	}
	v.Runc = parseRuncVersion(string(out))
	return v, nil
}

// parseRuncVersion reads "runc version 1.5.2\ncommit: v1.5.2-0-g…\nspec: …".
func parseRuncVersion(out string) Component {
	var c Component
	for _, line := range strings.Split(out, "\n") {
		if v, ok := strings.CutPrefix(line, "runc version "); ok {
			c.Version = v
		}
		if v, ok := strings.CutPrefix(line, "commit: "); ok {
			c.Commit = v
		}
	}
	return c
}
