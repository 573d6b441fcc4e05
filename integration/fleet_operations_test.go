//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// asking has another machine ask a URL all the while. The end returns how often it was asked, and what went wrong.
func asking(t *testing.T, h *lab.Host, url string) (end func() (asked int, failed []string)) {
	t.Helper()
	stop := make(chan struct{})
	var done sync.WaitGroup
	var asked int
	var failed []string
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond): // the pause between two questions of a user
			}
			asked++
			// The kernel alone makes the connection, in time; who serves may wait for a processor.
			if r := h.From(t, "curl", "-sS", "--connect-timeout", "3", "--max-time", "30", url); r.Stdout != "hello from busybox\n" {
				failed = append(failed, fmt.Sprintf("%s %s: %s", time.Now().UTC().Format("15:04:05.000"), url, strings.TrimSpace(r.Combined())))
			}
		}
	})
	ended := sync.OnceFunc(func() { close(stop); done.Wait() })
	t.Cleanup(ended)
	return func() (int, []string) { ended(); return asked, failed }
}

// pids are the processes of containers, by name.
func pids(t *testing.T, h *lab.Host, names ...string) string {
	t.Helper()
	return h.Docker(t, append([]string{"inspect", "-f", "{{.Name}} {{.State.Pid}} {{.State.StartedAt}}"}, names...)...)
}

// TestFleetUpgrade replaces the daemon of one host after the other under a running application, as an upgrade does: no
// container ends, and a published port answers at every host all the while. A client reads from the other hosts.
func TestFleetUpgrade(t *testing.T) {
	f := fleetOf(t, lab.FleetOptions{Hosts: 3})
	h1, h2 := f.Hosts[0], f.Hosts[1]
	serveOn(t, h1, h2, "web", "-p", "8080:80")
	serveOn(t, h1, h1, "near")
	before := pids(t, h1, "web", "near")
	var ends []func() (int, []string)
	for _, h := range f.Hosts {
		fetch(t, h.From, "http://"+h.Addr+":8080/")
		ends = append(ends, asking(t, h, "http://"+h.Addr+":8080/"))
	}
	for i, h := range f.Hosts {
		h.Stop(t)
		other := f.Hosts[(i+1)%3]
		fleetwide(t, "the others write on", func() bool { return other.Try(t, "volume", "create", "during").Code == 0 })
		fleetwide(t, "it is told to have left", func() bool { return strings.Contains(other.Nereid(t, "host", "ls"), " left ") })
		h.Start(t)
		fleetwide(t, "all are alive", func() bool { return strings.Count(other.Nereid(t, "host", "ls"), " alive ") == 3 })
	}
	for _, end := range ends {
		asked, failed := end()
		assert.Check(t, asked > 10)
		assert.Check(t, is.Len(failed, 0), "of %d", asked)
	}
	assert.Equal(t, pids(t, h1, "web", "near"), before)
	for _, h := range f.Hosts {
		fetch(t, h.On, "http://127.0.0.1:8080/")
	}
}

// others drains or resumes all hosts but one.
func others(t *testing.T, f *lab.Fleet, but *lab.Host, verb string) {
	t.Helper()
	for _, h := range f.Hosts {
		if h != but {
			but.Nereid(t, "host", verb, h.Name)
		}
	}
}

// TestFleetDrains empties a host: what can go on elsewhere does, with all that is its own, and what cannot is named.
func TestFleetDrains(t *testing.T) {
	f := fleetOf(t, lab.FleetOptions{Hosts: 3})
	h1, h2 := f.Hosts[0], f.Hosts[1]
	h1.Docker(t, "network", "create", "app")
	others(t, f, h2, "drain")
	serve(t, h1, "--name", "web", "--restart", "always", "--network", "app", "--network-alias", "www", "-p", "8080:80", "--health-cmd", "true", "--health-interval", "100ms")
	h1.Docker(t, "run", "-d", "--name", "db", "--restart", "always", "-v", "data:/data", "busybox", "sleep", "600")
	h1.Docker(t, "run", "-d", "--name", "plain", "busybox", "sleep", "600")
	h1.Docker(t, "run", "-d", "--name", "here", "--restart", "always", "-e", onHost(h2), "busybox", "sleep", "600")
	others(t, f, h2, "resume")
	fleetwide(t, "all take containers", func() bool { return !strings.Contains(h2.Nereid(t, "host", "ls"), "draining") })
	serveOn(t, h1, h1, "client", "--network", "app")
	reach(t, h1, "client", "www")
	told := "{{.Id}} {{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}} {{json .NetworkSettings.Ports}} {{.RestartCount}}"
	before := h1.Docker(t, "inspect", "-f", told, "web")
	assert.Equal(t, where(t, h1, "web"), h2.Name)

	out := h1.Nereid(t, "host", "drain", h2.Name)
	for name, want := range map[string]string{
		"web": "moved to ", "db": "stays: its volume data is there", "plain": "stays: it has no restart policy",
		"here": "stays: no host fits: 1 of 3 hosts takes no new containers (drained: " + h2.Name + ")",
	} {
		assert.Check(t, is.Regexp(`(?m)^[0-9a-f]{12} +`+name+` +admin +`+regexp.QuoteMeta(want), out))
	}
	now := where(t, h1, "web")
	assert.Assert(t, now != h2.Name)
	fleetwide(t, "it is healthy there", func() bool {
		return h1.Docker(t, "inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", "web") == "running healthy"
	})
	assert.Equal(t, h1.Docker(t, "inspect", "-f", told, "web"), before)
	id := h1.Docker(t, "inspect", "-f", "{{.Id}}", "web")
	fleetwide(t, "nothing of it is left where it was", func() bool { return h2.On(t, "find", h2.Dir, "-name", "*"+id+"*").Stdout == "" })
	for _, h := range f.Hosts {
		fetch(t, h.From, "http://"+h.Addr+":8080/")
		fetch(t, h.On, "http://127.0.0.1:8080/")
	}
	reach(t, h1, "client", "www")
	assert.Equal(t, strings.Join(strings.Fields(h1.Docker(t, "ps", "--filter", "node="+h2.Name, "--format", "{{.Names}}")), " "), "here plain db")
	assert.Equal(t, h1.Docker(t, "exec", "web", "echo", "hi"), "hi")
	assert.Assert(t, is.Contains(h1.Nereid(t, "host", "drain", h2.Name), "web"), "asked again it tells the same")

	// Its daemon dies in the middle of a drain, and goes on when it is back.
	h1.Nereid(t, "host", "resume", h2.Name)
	fleetwide(t, "all take containers", func() bool { return !strings.Contains(h2.Nereid(t, "host", "ls"), "draining") })
	h1.Docker(t, "rm", "-f", "here", "plain", "db", "web")
	others(t, f, h2, "drain")
	h1.Docker(t, "run", "-d", "--name", "slow", "--restart", "always", "--stop-timeout", "5", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
	assert.Equal(t, where(t, h1, "slow"), h2.Name)
	others(t, f, h2, "resume")
	fleetwide(t, "all take containers", func() bool { return !strings.Contains(h2.Nereid(t, "host", "ls"), "draining") })
	drain := make(chan lab.Result, 1)
	go func() { drain <- h1.TryNereid(t, "host", "drain", h2.Name) }()
	id = h1.Docker(t, "inspect", "-f", "{{.Id}}", "slow")
	fleetwide(t, "the drain has begun", func() bool {
		log, err := os.ReadFile(filepath.Join(h2.Dir, "daemon.log"))
		assert.NilError(t, err)
		return regexp.MustCompile(`container leaves.*` + id).Match(log)
	})
	h2.Kill9(t)
	assert.Assert(t, (<-drain).Code != 0)
	h2.Start(t)
	fleetwide(t, "it moved", func() bool {
		return where(t, h1, "slow") != h2.Name && h1.Docker(t, "inspect", "-f", "{{.State.Status}}", "slow") == "running"
	})
	assert.Equal(t, h1.Docker(t, "ps", "-q", "--filter", "node="+h2.Name), "")
}

// TestFleetOfFiveServers goes from one server to three and five and back to one, loses two of five on the way, and in the
// end all of them, and comes back from a backup. Somebody asks for a page and for changes all the while.
func TestFleetOfFiveServers(t *testing.T) {
	f := fleetOf(t, lab.FleetOptions{Hosts: 1})
	h1 := f.Hosts[0]
	serve(t, h1, "--name", "web", "-p", "8080:80")
	fetch(t, h1.From, "http://"+h1.Addr+":8080/")
	end := asking(t, h1, "http://"+h1.Addr+":8080/")
	written := 0
	writes := func(at *lab.Host) {
		t.Helper()
		name := fmt.Sprint("v", written)
		at.Docker(t, "volume", "create", name) // without a second try
		written++
		for _, h := range f.Hosts {
			if h != at && h.Answers() {
				fleetwide(t, h.Name+" sees it", func() bool { return h.Try(t, "volume", "inspect", name).Code == 0 })
			}
		}
	}
	servers := func() int { return strings.Count(h1.Nereid(t, "host", "ls"), " server ") }
	for n := 2; n <= 5; n++ {
		writes(f.Add(t, true))
		writes(h1)
		assert.Equal(t, servers(), n)
	}

	// A backup, as operators make it: the directories of one server, while its daemon is stopped.
	h2 := f.Hosts[1]
	backup := t.TempDir()
	h2.Stop(t)
	for _, dir := range []string{"etcd", "fleet"} {
		assert.NilError(t, os.CopyFS(filepath.Join(backup, dir), os.DirFS(filepath.Join(h2.Dir, "data", dir))))
	}
	kept := written
	fleetwide(t, "four of five write", func() bool { return h1.Try(t, "volume", "create", "four").Code == 0 })
	h2.Start(t)

	// Two of five are lost at once.
	for _, h := range f.Hosts[3:] {
		f.KillHost(t, h)
	}
	fleetwide(t, "three of five write", func() bool { return h1.Try(t, "volume", "create", "three").Code == 0 })
	writes(f.Hosts[2])
	fleetwide(t, "the loss is noticed", func() bool { return strings.Count(h1.Nereid(t, "host", "ls"), " unreachable ") == 2 })
	for _, h := range f.Hosts[3:] {
		h1.Nereid(t, "host", "rm", h.Name)
		h.Removed = true
		writes(h2)
	}
	assert.Equal(t, servers(), 3)
	h1.Nereid(t, "host", "rm", "--force", f.Hosts[2].Name)
	f.Hosts[2].Removed = true
	assert.ErrorContains(t, f.Hosts[2].WaitExit(t), "exit status")
	fleetwide(t, "two are left", func() bool { return servers() == 2 })
	writes(h2)
	asked, failed := end()
	assert.Check(t, asked > 10)
	assert.Check(t, is.Len(failed, 0), "of %d", asked)

	// All are lost. A machine with the name and the address of the one that was kept gets the backup.
	f.KillHost(t, h1)
	h2.Kill9(t)
	for _, dir := range []string{"etcd", "fleet"} {
		at := filepath.Join(h2.Dir, "data", dir)
		assert.NilError(t, os.RemoveAll(at))
		assert.NilError(t, os.CopyFS(at, os.DirFS(filepath.Join(backup, dir))))
	}
	h2.StartWith(t, "--last-server")
	assert.Equal(t, strings.Count(h2.Docker(t, "volume", "ls", "-q"), "v"), kept)
	assert.Equal(t, h2.Docker(t, "ps", "--format", "{{.Names}}"), "web")
	for i, h := range f.Hosts {
		if i != 1 {
			fleetwide(t, "the loss is noticed", func() bool { return h2.TryNereid(t, "host", "rm", h.Name).Code == 0 })
			h.Removed = true
		}
	}
	h2.Stop(t)
	h2.Start(t)
	assert.Equal(t, h2.Docker(t, "ps", "-aq"), "", "records of what ran on hosts that are gone go with them")
	h2.Docker(t, "volume", "create", "after")
}
