//go:build integration

// Package compose drives real applications with every version of compose.
package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// composeTimeout bounds every command: an "up --wait" waits for the health of all services.
const composeTimeout = 2 * time.Minute

// client is one version of compose.
type client struct {
	name string
	args []string // what starts it
	old  bool     // docker-compose 1.29 knows less
	bin  string   // its folder below bin/, with the plugin
}

var clients = []client{
	{name: "v2", args: []string{"docker", "compose"}, bin: "compose2"},
	{name: "v5", args: []string{"docker", "compose"}, bin: "compose5"},
	{name: "1.29", args: []string{"docker-compose"}, old: true},
}

// project is one application under one name on one host, driven by one client.
type project struct {
	client
	host  *lab.Host
	name  string
	dir   string
	files []string
	env   []string
	jobs  int // that the queue has done
}

// TestCompose runs every application on one host, several at once, each with one version of compose after the other:
// what one leaves behind the next would stumble over.
func TestCompose(t *testing.T) {
	h := newHost(t)
	for app, test := range map[string]func(*testing.T, *project){"shop": shop, "queue": queue, "twins": twins, "features": features} {
		t.Run(app, func(t *testing.T) {
			t.Parallel()
			for _, c := range clients {
				t.Run(c.name, func(t *testing.T) {
					p := newProject(t, h, c, app, application(t, app))
					test(t, p)
					p.wantNothingLeft(t)
				})
			}
		})
	}
}

// wantNothingLeft finds nothing of the project on the host.
func (p *project) wantNothingLeft(t *testing.T) {
	t.Helper()
	mine := []string{"--filter", "label=com.docker.compose.project=" + p.name}
	for _, list := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q"}} {
		assert.Equal(t, p.host.Docker(t, append(list, mine...)...), "", "%v", list)
	}
}

func newProject(t *testing.T, h *lab.Host, c client, name, dir string) *project {
	t.Helper()
	p := &project{client: c, host: h, name: name, dir: dir, files: []string{"compose.yaml"}}
	p.plug(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s", p.try(t, "ps", "-a").Combined(), p.try(t, "logs", "--tail", "20").Combined())
		}
		p.try(t, "kill")
		p.try(t, "down", "-v", "--remove-orphans", "-t", "0")
	})
	return p
}

// plug gives the docker command this version of compose.
func (p *project) plug(t *testing.T) {
	t.Helper()
	if p.old {
		if _, err := exec.LookPath(p.args[0]); err != nil {
			t.Fatal("docker-compose of Debian is not installed: run `make deps`")
		}
		return
	}
	plugins := filepath.Join(p.config(), "cli-plugins")
	assert.NilError(t, os.MkdirAll(plugins, 0o755))
	target := filepath.Join(lab.Bin(t), p.bin, "cli-plugins", "docker-compose")
	if _, err := os.Stat(target); err != nil {
		t.Fatalf("run `make clients` first: %v", err)
	}
	link := filepath.Join(plugins, "docker-compose")
	_ = os.Remove(link)
	assert.NilError(t, os.Symlink(target, link))
}

func (p *project) config() string { return filepath.Join(p.host.Dir, "docker-"+p.client.name) }

// command is a compose command line in full.
func (p *project) command(args ...string) []string {
	line := append([]string{}, p.args...)
	line = append(line, "-p", p.name)
	for _, f := range p.files {
		line = append(line, "-f", f)
	}
	if !p.old {
		line = append(line, "--progress", "plain")
	}
	return append(line, args...)
}

// environ is what a command sees: the host to talk to, the client's plugins, a home of its own, where watch keeps its
// locks, and the project's own variables.
func (p *project) environ() []string {
	return append(append(p.host.Env(), "DOCKER_CONFIG="+p.config(), "HOME="+p.config(), "COMPOSE_MENU=false", "NO_COLOR=1"), p.env...)
}

func (p *project) try(t *testing.T, args ...string) lab.Result {
	t.Helper()
	return lab.Execute(t, lab.Cmd{Dir: p.dir, Env: p.environ(), Timeout: composeTimeout}, p.command(args...)...)
}

// do runs a compose command that has to succeed and returns what it printed.
func (p *project) do(t *testing.T, args ...string) string {
	t.Helper()
	r := p.try(t, args...)
	assert.Equal(t, r.Code, 0, "%s\n%s", strings.Join(r.Args, " "), r.Combined())
	return strings.TrimSpace(r.Stdout)
}

// background runs a compose command until the test ends or stop is called; it returns what it has printed so far.
func (p *project) background(t *testing.T, args ...string) (said func() string, stop func()) {
	t.Helper()
	return lab.Spawn(t, lab.Cmd{Dir: p.dir, Env: p.environ()}, p.command(args...)...)
}

// containers of a service, by name, running or not.
func (p *project) containers(t *testing.T, service string) []string {
	t.Helper()
	out := p.host.Docker(t, "ps", "-a", "--format", "{{.Names}}", "--filter", "label=com.docker.compose.project="+p.name, "--filter", "label=com.docker.compose.service="+service)
	return strings.Fields(out)
}
