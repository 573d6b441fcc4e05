//go:build integration

package compose

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func sorted(text string) []string {
	words := strings.Fields(text)
	slices.Sort(words)
	return words
}

// twins: two projects with the same service names at once. Each finds its own services and volumes, and reaches
// nothing of the other.
func twins(t *testing.T, one *project) {
	two := newProject(t, one.host, one.client, "twins2", application(t, "twins"))
	pair := []*project{one, two}
	for i, p := range pair {
		p.env = []string{fmt.Sprint("WHO=twin", i), fmt.Sprint("PORT=", 8200+i)}
		p.up(t)
	}
	for i, p := range pair {
		me := fmt.Sprint("twin", i)
		assert.Equal(t, p.get(t, fmt.Sprintf("http://127.0.0.1:%d/", 8200+i)), me)
		assert.Equal(t, p.ask(t, "wget", "-q", "-O", "-", "http://web/"), me)
		p.ask(t, "sh", "-c", "echo "+me+" >/data/who")
	}
	for i, p := range pair {
		other := pair[1-i]
		assert.Equal(t, p.ask(t, "cat", "/data/who"), fmt.Sprint("twin", i), "its own volume")
		addr := one.host.Docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", other.containers(t, "web")[0])
		for _, to := range []string{addr, other.containers(t, "web")[0]} { // by address, and by a name of the other's
			r := p.try(t, "exec", "-T", "ask", "wget", "-q", "-T", "2", "-O", "-", "http://"+to+"/")
			assert.Assert(t, r.Code != 0, "%s reaches %s", p.name, to)
		}
		assert.Equal(t, p.ask(t, "cat", "/sys/class/net/eth0/mtu"), "1400")
	}
	two.do(t, "down", "-v", "-t", "0")
	assert.Equal(t, one.ask(t, "wget", "-q", "-O", "-", "http://web/"), "twin0", "the end of the other is not its own")
	one.do(t, "down", "-v", "-t", "0")
}

func (p *project) ask(t *testing.T, args ...string) string {
	t.Helper()
	return p.do(t, append([]string{"exec", "-T", "ask"}, args...)...)
}
