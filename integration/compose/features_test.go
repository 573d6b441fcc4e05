//go:build integration

package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// features: what a compose file says about a container is what the container sees.
func features(t *testing.T, p *project) {
	h := p.host
	h.Docker(t, "network", "create", "outside")
	h.Docker(t, "volume", "create", "kept")
	p.up(t)
	for service, lines := range sights {
		p.see(t, service, lines)
	}
	got := h.Docker(t, "inspect", "-f", "{{.Config.StopSignal}} {{.HostConfig.LogConfig.Type}} {{.Config.Tty}} {{.Config.OpenStdin}} {{.Config.Labels.is}} {{.HostConfig.PidsLimit}}", p.containers(t, "limited")[0])
	assert.Equal(t, got, "SIGINT none true true limited 50")
	assert.Equal(t, h.Docker(t, "volume", "ls", "-q", "--filter", "label=kept.by=the tests"), "features_named")
	assert.Equal(t, h.Docker(t, "network", "ls", "--format", "{{.Name}}", "--filter", "label=kept.by=the tests"), "features_addressed")
	p.keepsAnonymous(t)

	p.do(t, "down", "-v", "-t", "0")

	h.Docker(t, "volume", "rm", "kept") // what is external stays
	h.Docker(t, "network", "rm", "outside")
}

// keepsAnonymous changes a service: its new container has the anonymous volume of the old.
func (p *project) keepsAnonymous(t *testing.T) {
	t.Helper()
	file := filepath.Join(p.dir, "compose.yaml")
	b, err := os.ReadFile(file)
	assert.NilError(t, err)
	changed := strings.Replace(string(b), "      - device:/device\n", "      - device:/device\n    environment:\n      CHANGED: \"yes\"\n", 1)
	assert.NilError(t, os.WriteFile(file, []byte(changed), 0o644))
	p.up(t)
	p.see(t, "volumes", []sight{{"echo $CHANGED; ls /anonymous /named /kept", "yes\n/anonymous:\nx\n\n/kept:\nx\n\n/named:\nx"}})
}

// see runs lines in a service's container, in one shell, and compares what each prints.
func (p *project) see(t *testing.T, service string, lines []sight) {
	t.Helper()
	var script strings.Builder
	for _, l := range lines {
		script.WriteString(l.line + "\necho ----\n")
	}
	got := strings.Split(p.do(t, "exec", "-T", service, "sh", "-c", script.String()), "----")
	assert.Equal(t, len(got), len(lines)+1)
	for i, l := range lines {
		out := strings.TrimSpace(got[i])
		if part, ok := strings.CutPrefix(l.want, "~"); ok {
			assert.Assert(t, is.Contains(out, part), l.line)
		} else {
			assert.Equal(t, out, l.want, "%s: %s", service, l.line)
		}
	}
}

// sight is a line of shell and what it prints; "~x" wants x in it.
type sight struct{ line, want string }

// sights are what the services' containers see.
var sights = map[string][]sight{
	"static": {
		{"hostname", "named"},
		{"ip -4 -o addr", "~172.31.77.10/24"},
		{"ls /sys/class/net | grep -c eth", "2"},
		{"grep elsewhere /etc/hosts", "~192.0.2.7"},
		{"grep search /etc/resolv.conf", "search example.org"},
	},
	"beside": {
		{"ip -4 -o addr", "~172.31.77.10/24"},
	},
	"alone": {
		{"ls /sys/class/net", "lo"},
	},
	"onhost": {
		{"ip -o addr", "~198.18.0.1"},
	},
	"linked": {
		{"ping -c1 -W5 other | head -1", "PING other (172.31.77.10): 56 data bytes"},
		{"ping -c1 -W5 fixed | head -1", "PING fixed (172.31.77.10): 56 data bytes"},
	},
	"extended": {
		{"echo $OWN $FROM_FILE", "2 base"},
	},
	"volumes": {
		{"touch /named/x /anonymous/x /kept/x /memory/x /device/x && ls /nocopy", "x"},
		{"mount | grep -c 'tmpfs on /\\(memory\\|device\\) .*size=1024k'", "2"},
		{"touch /nocopy/y /bound/y 2>&1 | grep -c Read-only", "2"},
		{"ls /bound", "base.env\nbase.yaml"},
	},
	"limited": {
		{"id -u; id -G", "65534\n65534 50"},
		{"grep -E 'CapBnd|NoNewPrivs' /proc/self/status | tr -d '\\t'", "CapBnd:0000000000000400\nNoNewPrivs:1"},
		{"cat /proc/self/oom_score_adj", "300"},
		{"touch /x 2>&1 | grep -o 'Read-only file system'", "Read-only file system"},
		{"df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", "1024"},
		{"grep processes /proc/self/limits | tr -s ' ' | cut -d' ' -f3", "1000"},
		{"cat /proc/1/comm; pwd; cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "docker-init\n/tmp\n80"},
		{"stat -c %t,%T /dev/nothing", "1,3"},
	},
}
