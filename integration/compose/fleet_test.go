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
// them goes on while the daemons are killed, host by host.
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
}
