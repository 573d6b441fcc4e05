//go:build integration

package compose

import (
	"fmt"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestComposeOnAFleet runs the applications as they are on a fleet of three, each asked for at another endpoint. One of
// them goes on while the daemons are killed, host by host, and the others come back when whole machines are.
func TestComposeOnAFleet(t *testing.T) {
	f := lab.NewFleet(t, lab.FleetOptions{Hosts: 3})
	f.Hosts[0].Load(t, "busybox:latest", lab.Busybox(t))
	loadImages(t, f.Hosts[0])
	for i, app := range []struct {
		name string
		test func(*testing.T, *project)
	}{{"shop", shop}, {"queue", queue}, {"twins", twins}} {
		t.Run(app.name, func(t *testing.T) {
			p := newProject(t, f.Hosts[i], clients[i%2], app.name, application(t, app.name))
			app.test(t, p)
			p.wantNothingLeft(t)
		})
	}
	t.Run("killed and started host by host", func(t *testing.T) {
		// The shop's files are on the endpoint's host, and what mounts them runs there. That host is fuller than the others.
		for i := range 3 {
			f.Hosts[1].Docker(t, "create", "--name", fmt.Sprint("ballast", i), "-e", "constraint:node=="+f.Hosts[1].Name, "busybox")
		}
		p := newProject(t, f.Hosts[1], clients[0], "shop", application(t, "shop"))
		p.up(t)
		on := map[string]bool{}
		for _, service := range []string{"web", "api", "db", "cache"} {
			on[p.host.Docker(t, "inspect", "-f", "{{.Node.Name}}", p.containers(t, service)[0])] = true
		}
		assert.Assert(t, len(on) > 1, "it is spread: %v", on)
		p.post(t, "http://127.0.0.1:8080/api/notes", "bread")
		for _, h := range f.Hosts {
			h.Kill9(t)
			h.Start(t)
			poll.WaitOn(t, func(poll.LogT) poll.Result {
				if r := p.host.Try(t, "ps", "--format", "{{.Status}}"); r.Code != 0 || strings.Contains(r.Stdout, "unreachable") {
					return poll.Continue("%s is not heard yet: %s", h.Name, r.Combined())
				}
				return poll.Success()
			}, poll.WithTimeout(composeTimeout))
			p.wantNotes(t, "bread")
		}
		p.do(t, "down", "-v", "-t", "2")
		f.Hosts[1].Docker(t, "rm", "ballast0", "ballast1", "ballast2")
		p.wantNothingLeft(t)
	})
	t.Run("machines killed and started one by one", func(t *testing.T) { machines(t, f) })
}

// machines runs a queue and one of the twins, whose containers go anywhere, and kills each machine in turn with all that
// runs there. The user goes on at another endpoint.
func machines(t *testing.T, f *lab.Fleet) {
	jobs := newProject(t, f.Hosts[0], clients[0], "queue", application(t, "queue"))
	jobs.up(t, "--scale", "worker=3")
	twin := newProject(t, f.Hosts[0], clients[0], "twins", application(t, "twins"))
	twin.env = []string{"WHO=twin", "PORT=8200"}
	twin.up(t)
	twin.ask(t, "sh", "-c", "echo kept >/data/who")

	for i, h := range f.Hosts {
		for _, p := range []*project{jobs, twin} {
			p.host = f.Hosts[(i+1)%len(f.Hosts)]
			p.plug(t)
		}
		there := jobs.statusesOn(t, h)
		assert.Assert(t, there["worker"] != "", "one of three workers is on each of three hosts: %v", there)

		f.KillHost(t, h)
		jobs.eventually(t, func() error {
			for service, status := range jobs.statusesOn(t, h) {
				if !strings.HasSuffix(status, " (host "+h.Name+" unreachable)") {
					return fmt.Errorf("%s on the dead %s: %s", service, h.Name, status)
				}
			}
			return nil
		})
		if len(twin.statusesOn(t, h)) == 0 {
			assert.Equal(t, twin.get(t, "http://127.0.0.1:8200/"), "twin", "it goes on")
		}

		f.MendLink(t, h)
		h.Start(t)
		for _, p := range []*project{jobs, twin} {
			p.eventually(t, func() error {
				for service, status := range p.statusesOn(t, h) {
					asExpected := strings.HasPrefix(status, "Exited (")
					if service == "worker" { // its policy has it start again, and fail as long as the queue is away
						asExpected = strings.HasPrefix(status, "Up ") || strings.HasPrefix(status, "Restarting (1)")
					}
					if !asExpected || strings.Contains(status, "unreachable") {
						return fmt.Errorf("%s on %s, which is back: %s", service, h.Name, status)
					}
				}
				return nil
			})
		}
		jobs.upAgain(t, "--scale", "worker=3")
		twin.upAgain(t)
		jobs.wantWorkers(t, 3)
		jobs.worked(t, 3)
		assert.Equal(t, jobs.do(t, "ps", "-a", "--format", "{{.Service}} {{.State}}"),
			"gate running\nqueue running\nworker running\nworker running\nworker running")
		assert.Equal(t, twin.get(t, "http://127.0.0.1:8200/"), "twin")
		assert.Equal(t, twin.ask(t, "cat", "/data/who"), "kept")
	}
	for _, p := range []*project{jobs, twin} {
		p.do(t, "down", "-v", "-t", "1")
		p.wantNothingLeft(t)
	}
}

// upAgain starts what has ended. Services that cannot start while others are away do so in their own time.
func (p *project) upAgain(t *testing.T, args ...string) {
	t.Helper()
	p.eventually(t, func() error {
		if r := p.try(t, append([]string{"up", "-d", "--wait"}, args...)...); r.Code != 0 {
			return fmt.Errorf("%s", r.Combined())
		}
		return nil
	})
}

// statusesOn are the services that have a container on a host, and what docker ps says of it.
func (p *project) statusesOn(t *testing.T, h *lab.Host) map[string]string {
	t.Helper()
	found := map[string]string{}
	format := `{{.Label "com.docker.compose.service"}}: {{.Status}}`
	for line := range strings.Lines(p.host.Docker(t, "ps", "-a", "--filter", "node="+h.Name, "--filter", "label=com.docker.compose.project="+p.name, "--format", format)) {
		service, status, _ := strings.Cut(strings.TrimSpace(line), ": ")
		found[service] = status
	}
	return found
}
