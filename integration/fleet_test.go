//go:build integration

package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/integration/lab"
)

// fleetwide polls for what hosts find out about each other.
func fleetwide(t *testing.T, what string, cond func() bool) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if cond() {
			return poll.Success()
		}
		return poll.Continue("not yet: %s", what)
	}, poll.WithTimeout(2*time.Minute), poll.WithDelay(100*time.Millisecond))
}

// fleetOf starts a fleet that has busybox.
func fleetOf(t *testing.T, o lab.FleetOptions) *lab.Fleet {
	t.Helper()
	f := lab.NewFleet(t, o)
	f.Hosts[0].Load(t, "busybox:latest", lab.Busybox(t))
	allHave(t, f, "busybox:latest")
	return f
}

// allHave waits until every host knows an image that one of them was given.
func allHave(t *testing.T, f *lab.Fleet, ref string) {
	t.Helper()
	for _, h := range f.Hosts {
		fleetwide(t, h.Name+" knows "+ref, func() bool { return h.Try(t, "image", "inspect", ref).Code == 0 })
	}
}

// TestFleetMatrix runs every verb from one endpoint on containers of its own host and of another, which must not show,
// and on those of a host that is unreachable, which must be told soon and clearly.
func TestFleetMatrix(t *testing.T) {
	f := fleetOf(t, lab.FleetOptions{Hosts: 3})
	h1, h2, h3 := f.Hosts[0], f.Hosts[1], f.Hosts[2]
	for name, h := range map[string]*lab.Host{"near": h1, "far": h2, "lost": h3} {
		h.Docker(t, "run", "-d", "--name", name, "-e", "constraint:node=="+h.Name, "--label", "which="+name, "busybox", "sh", "-c", "echo hello; trap 'exit 7' TERM; while :; do sleep 0.1; done")
	}
	for _, where := range []struct {
		name string
		host *lab.Host
	}{{"near", h1}, {"far", h2}} {
		t.Run(where.name, func(t *testing.T) { everyVerb(t, h1, where.host, where.name) })
	}
	t.Run("the fleet as one", func(t *testing.T) {
		for _, h := range f.Hosts {
			runCases(t, h, []cliCase{
				{name: "ps of a host", args: "ps --filter node=" + h3.Name + " --format {{.Names}}", out: "lost"},
				{name: "label", args: "ps --filter label=nereid.host=" + h3.Name + " --format {{.Names}}", out: "lost"},
				{name: "label in inspect", args: `inspect -f '{{index .Config.Labels "nereid.host"}}' lost`, out: h3.Name},
				{name: "label in ps", args: `ps --filter name=lost --format '{{.Label "nereid.host"}}'`, out: h3.Name},
				{name: "inspect tells the host", args: "inspect -f {{.Config.Labels.which}} lost", out: "lost"},
				{name: "names are the fleet's", args: "create --name lost busybox", code: 1, stderr: `Conflict. The container name "/lost" is already in use by container`},
			})
		}
		id := h1.Docker(t, "info", "-f", "{{.ID}}")
		for _, h := range f.Hosts {
			assert.Equal(t, h.Docker(t, "info", "-f", "{{.ID}}"), id)
			assert.Assert(t, is.Contains(h.Docker(t, "info"), h3.Name))
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		wait := h1.Command(t.Context(), "wait", "lost")
		var said strings.Builder
		wait.Stdout, wait.Stderr = &said, &said
		assert.NilError(t, wait.Start())
		logs := h1.Command(t.Context(), "logs", "-f", "lost")
		assert.NilError(t, logs.Start())
		connected(t, wait)
		connected(t, logs)
		f.CutLink(t, h3)
		fleetwide(t, "ps says so", func() bool {
			return strings.Contains(h1.Docker(t, "ps", "--filter", "name=lost", "--format", "{{.Status}}"), "(host "+h3.Name+" unreachable)")
		})
		assert.Check(t, wait.Wait())
		assert.Equal(t, said.String(), "-1\n", "which is all that docker wait shows of an error")
		assert.Assert(t, logs.Wait() != nil, "logs -f must not end as if all were well")
		assert.Assert(t, is.Contains(h1.Nereid(t, "host", "ls"), "unreachable"))
		fleetwide(t, "names of what runs there are hidden", func() bool { return strings.Contains(h1.Nereid(t, "cns", "status"), h3.Name) })
		for _, args := range []string{
			"stop lost", "start lost", "restart lost", "kill lost", "pause lost", "logs lost", "exec lost true", "top lost", "rm -f lost",
			"rename lost found", "update --memory 64m lost", "diff lost", "cp lost:/etc/passwd /tmp/nowhere", "attach lost", "stats --no-stream lost",
			"export -o /tmp/nereid-nowhere.tar lost", "commit lost", "wait lost",
		} {
			began := time.Now()
			r := h1.Try(t, split(args)...)
			assert.Check(t, r.Code != 0, args)
			if args != "attach lost" { // of which docker shows the status alone
				assert.Check(t, is.Contains(r.Combined(), "unreachable"), args)
			}
			assert.Check(t, time.Since(began) < 10*time.Second, "%s took %v", args, time.Since(began))
		}
		runCases(t, h1, []cliCase{
			{name: "inspect still answers", args: "inspect -f {{.State.Status}} lost", out: "running"},
			{name: "the name is still taken", args: "create --name lost busybox", code: 1, stderr: "is already in use"},
		})
		f.MendLink(t, h3)
		fleetwide(t, "it is back", func() bool { return h1.Try(t, "exec", "lost", "true").Code == 0 })
		assert.Assert(t, !strings.Contains(h1.Docker(t, "ps", "-a"), "unreachable"))
		fleetwide(t, "and its names", func() bool { return !strings.Contains(h1.Nereid(t, "cns", "status"), h3.Name) })
	})
}

// connected waits until a command has a connection: its request is on its way then.
func connected(t *testing.T, c *exec.Cmd) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.Process.Pid))
		for _, fd := range open {
			if to, _ := os.Readlink(fd); strings.HasPrefix(to, "socket:") {
				return nil
			}
		}
		return fmt.Errorf("%v has no connection yet", c.Args)
	})
}

// TestFleetEndpointsAgree does one thing after another, each at another endpoint than the one before: what was made at one
// is there at the next, and what was removed is gone.
func TestFleetEndpointsAgree(t *testing.T) {
	f := fleetOf(t, lab.FleetOptions{Hosts: 3, Servers: 2})
	turn := 0
	next := func(method, path, body string) (int, string) {
		t.Helper()
		turn++
		req, err := http.NewRequestWithContext(t.Context(), method, "http://d"+path, strings.NewReader(body))
		assert.NilError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := f.Hosts[turn%3].Client().Do(req)
		assert.NilError(t, err)
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		assert.NilError(t, err)
		return resp.StatusCode, string(said)
	}
	for n := range 30 {
		for _, step := range []struct {
			method, path, body string
			code               int
		}{
			{"POST", "/networks/create", `{"Name":"net"}`, 201},
			{"GET", "/networks/net", "", 200},
			{"POST", "/volumes/create", `{"Name":"vol"}`, 201},
			{"GET", "/volumes/vol", "", 200},
			{"POST", "/images/busybox/tag?repo=new&tag=x", "", 201},
			{"POST", "/containers/create?name=web", `{"Image":"new:x","HostConfig":{"NetworkMode":"net","Binds":["vol:/v"]}}`, 201},
			{"GET", "/containers/web/json", "", 200},
			{"POST", "/containers/web/rename?name=db", "", 204},
			{"POST", "/containers/create?name=web", `{"Image":"new:x"}`, 201},
			{"DELETE", "/containers/db", "", 204},
			{"POST", "/containers/web/rename?name=db", "", 204},
			{"DELETE", "/containers/db", "", 204},
			{"DELETE", "/images/new:x", "", 200},
			{"DELETE", "/volumes/vol", "", 204},
			{"DELETE", "/networks/net", "", 204},
		} {
			code, said := next(step.method, step.path, step.body)
			assert.Equal(t, code, step.code, "round %d, %s %s: %s", n, step.method, step.path, said)
		}
	}
	code, said := next("GET", "/containers/web/json", "")
	assert.Equal(t, code, 404, said)
}

// everyVerb runs the verbs on one running container, from an endpoint.
func everyVerb(t *testing.T, from, owner *lab.Host, name string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "in")
	assert.NilError(t, os.WriteFile(file, []byte("copied\n"), 0o644))
	runCases(t, from, []cliCase{
		{name: "ps", args: "ps --filter name=" + name + " --format '{{.Names}} {{.State}}'", out: name + " running"},
		{name: "inspect", args: "inspect -f {{.State.Running}} " + name, out: "true"},
		{name: "inspect -s", args: "inspect -s -f '{{if .SizeRw}}sized{{end}}' " + name, out: "sized"},
		{name: "logs", args: "logs " + name, out: "hello", again: true},
		{name: "exec", args: "exec " + name + " echo hi", out: "hi"},
		{name: "exec with input", args: "exec -i " + name + " sh -c 'cat; echo end'", stdin: "a\nb\n", out: "a\nb\nend"},
		{name: "exec's code", args: "exec " + name + " sh -c 'exit 5'", code: 5},
		{name: "exec with a terminal", args: "exec -t " + name + " tty", out: "~/dev/pts/"},
		{name: "top", args: "top " + name, out: "~sleep"},
		{name: "stats", args: "stats --no-stream --format {{.Name}} " + name, out: name, again: true}, // dashes when the client has waited for two seconds in vain
		{name: "diff", args: "diff " + name, out: ""},
		{name: "port", args: "port " + name, out: ""},
		{name: "cp in", args: "cp " + file + " " + name + ":/tmp/file"},
		{name: "cp arrived", args: "exec " + name + " cat /tmp/file", out: "copied"},
		{name: "cp out", args: "cp " + name + ":/tmp/file " + dir + "/out"},
		{name: "export", args: "export -o " + dir + "/fs.tar " + name},
		{name: "commit", args: "commit " + name + " made-from-" + name, out: "~sha256:"},
		{name: "pause", args: "pause " + name, out: name},
		{name: "paused", args: "ps --filter status=paused --format {{.Names}}", out: name},
		{name: "unpause", args: "unpause " + name, out: name},
		{name: "update", args: "update --restart no " + name, out: name},
		{name: "rename", args: "rename " + name + " other", out: ""},
		{name: "rename back", args: "rename other " + name, out: ""},
		{name: "attach without input", args: "attach --no-stdin --sig-proxy=false nosuch", code: 1, stderr: "No such container: nosuch"},
		{name: "restart", args: "restart -t 5 " + name, out: name},
		{name: "it listens again", args: "exec " + name + " sh -c 'until grep -q SigCgt:.*[4567cdef]...$ /proc/1/status; do sleep 0.1; done'"},
		{name: "stop", args: "stop -t 30 " + name, out: name},
		{name: "stopped", args: "inspect -f {{.State.ExitCode}} " + name, out: "7"},
		{name: "wait", args: "wait " + name, out: "7"},
		{name: "start", args: "start " + name, out: name},
		{name: "kill", args: "kill " + name, out: name},
		{name: "killed", args: "wait " + name, out: "137"},
		{name: "rm", args: "rm " + name, out: name},
		{name: "gone", args: "inspect " + name, code: 1, out: "[]", stderr: "No such object: " + name},
	})
	told := from.Docker(t, "events", "--since", "2m", "--until", fmt.Sprint(time.Now().Unix()+1), "--filter", "event=destroy", "--filter", "container="+name,
		"--format", `{{.Action}} {{index .Actor.Attributes "nereid.host"}}`)
	assert.Equal(t, told, "destroy "+owner.Name)
	copied, err := os.ReadFile(dir + "/out")
	assert.NilError(t, err)
	assert.Equal(t, string(copied), "copied\n")

	// A container in the foreground, input, output and exit code, where the docker client attaches before it starts.
	owner.Docker(t, "create", "-i", "--name", name, "-e", "constraint:node=="+owner.Name, "busybox", "sh", "-c", "read x; echo got $x; echo err >&2; exit 3")
	assert.Equal(t, where(t, from, name), owner.Name)
	r := from.TryWith(t, lab.Cmd{Stdin: "word\n"}, "start", "-ai", name)
	assert.Equal(t, r.Code, 3, r.Combined())
	assert.Equal(t, r.Stdout, "got word\n")
	assert.Equal(t, r.Stderr, "err\n")
	from.Docker(t, "rm", name)
}

// TestFleetLosesADaemon stops, pauses and kills the daemon of one of three servers, and then its machine: what runs goes
// on, and what a user sees is true.
func TestFleetLosesADaemon(t *testing.T) {
	f := fleetOf(t, lab.FleetOptions{Hosts: 3})
	h1, h2, h3 := f.Hosts[0], f.Hosts[1], f.Hosts[2]
	serveOn(t, h1, h2, "there", "-p", "8080:80")
	answers := func(at *lab.Host) bool { // the kernel alone makes the connection; who serves may wait for a processor
		return at.From(t, "curl", "-sf", "--connect-timeout", "2", "--max-time", "30", "http://"+at.Addr+":8080/").Code == 0
	}
	h1.Docker(t, "run", "-d", "--name", "here", "-e", "constraint:node=="+h1.Name, "busybox", "sleep", "600")
	status := func(from *lab.Host) string {
		return from.Docker(t, "ps", "-a", "--filter", "name=there", "--format", "{{.Status}}")
	}
	lost := func() bool { return strings.Contains(status(h1), "unreachable") }
	back := func() bool {
		return !lost() && h1.Try(t, "exec", "there", "true").Code == 0
	}
	writes := func() bool { return h1.Try(t, "create", "--rm", "busybox").Code == 0 }

	// Paused, it takes connections and says nothing.
	f.Pause(t, h2)
	began := time.Now()
	r := h1.Try(t, "exec", "there", "true")
	assert.Check(t, r.Code != 0)
	assert.Check(t, time.Since(began) < 15*time.Second, "a paused daemon held its user for %v", time.Since(began))
	fleetwide(t, "a paused daemon is noticed", lost)
	assert.Assert(t, writes(), "two of three servers are enough")
	assert.Assert(t, answers(h1) && answers(h3), "its containers are served")
	f.Resume(t, h2)
	fleetwide(t, "the daemon that went on is heard", back)

	// Killed, it comes back without a token.
	h2.Kill9(t)
	fleetwide(t, "a killed daemon is noticed", lost)
	assert.Assert(t, writes())
	assert.Assert(t, answers(h1) && answers(h2) && answers(h3), "its containers are served")
	r = h3.Try(t, "run", "--rm", "-p", "8080:80", "-e", onHost(h3), "busybox", "true")
	assert.Assert(t, is.Contains(r.Stderr, "port is already allocated"), "the machine is there, and has the port")
	h2.Start(t)
	fleetwide(t, "the daemon that came back is heard", back)

	// Its machine dies, and with it its containers: the fleet says that it does not know, gives their ports to others, and
	// then says that they ended.
	f.KillHost(t, h2)
	for i := range 3 { // some are sent to it
		h1.Docker(t, "create", "--name", fmt.Sprint("after", i), "-e", "constraint:node!="+h1.Name, "busybox")
		assert.Equal(t, where(t, h3, fmt.Sprint("after", i)), h3.Name)
	}
	fleetwide(t, "a dead machine is noticed", lost)
	assert.Assert(t, writes())
	assert.Equal(t, h1.Docker(t, "inspect", "-f", "{{.State.Status}}", "there"), "running")
	fleetwide(t, "its port is withdrawn", func() bool {
		return h1.On(t, "ss", "-Hltn", "sport", "=", ":8080").Stdout+h3.On(t, "ss", "-Hltn", "sport", "=", ":8080").Stdout == ""
	})
	serveOn(t, h1, h3, "heir", "-p", "8080:80")
	fleetwide(t, "its port answers for another", func() bool { return answers(h1) && answers(h3) })
	f.MendLink(t, h2)
	h2.Start(t)
	fleetwide(t, "its containers have ended", func() bool { return strings.HasPrefix(status(h1), "Exited (") })
	fleetwide(t, "it serves the port of the other", func() bool { return answers(h2) })
	r = h1.Try(t, "start", "there")
	assert.Assert(t, is.Contains(r.Stderr, "port is already allocated"))

	// Cut off, it goes on for itself, and lets go of its port when it hears that another has it.
	h1.Docker(t, "rm", "-f", "heir")
	h1.Docker(t, "start", "there")
	f.CutLink(t, h2)
	fleetwide(t, "the port is free", func() bool {
		return h1.Try(t, "run", "-d", "--name", "heir", "-p", "8080:80", "-e", onHost(h3), "busybox", "httpd", "-f", "-h", "/etc").Code == 0 ||
			h1.Try(t, "rm", "-f", "heir").Code != 0
	})
	assert.Equal(t, h2.On(t, "curl", "-sf", "http://127.0.0.1:8080/").Code, 0, "cut off it goes on")
	f.MendLink(t, h2)
	fleetwide(t, "it lets go of the port", func() bool { return h1.Docker(t, "port", "there") == "" && back() })
	fleetwide(t, "it serves the port of the other", func() bool { return h2.On(t, "curl", "-s", "http://127.0.0.1:8080/passwd").Code == 0 })
	h1.Docker(t, "rm", "-f", "there", "heir")
	serveOn(t, h1, h2, "there", "-p", "8080:80")
	h1.Docker(t, "stop", "-t", "0", "there")
	h1.Docker(t, "rm", "there")
	fleetwide(t, "all know that it is gone", func() bool { return status(h2) == "" })
}

// TestFleetWithoutQuorum loses two of three servers: the last one answers what it knows, and says what it cannot do.
func TestFleetWithoutQuorum(t *testing.T) {
	f := fleetOf(t, lab.FleetOptions{Hosts: 3})
	h1 := f.Hosts[0]
	h1.Docker(t, "run", "-d", "--name", "here", "-e", "constraint:node=="+h1.Name, "busybox", "sh", "-c", "echo hello; sleep 600")
	f.Hosts[1].Kill9(t)
	f.Hosts[2].Kill9(t)
	fleetwide(t, "writes are refused", func() bool {
		r := h1.Try(t, "create", "busybox")
		return r.Code != 0 && strings.Contains(r.Stderr, "most of its servers do not answer")
	})
	runCases(t, h1, []cliCase{
		{name: "ps", args: "ps --format {{.Names}}", out: "here"},
		{name: "inspect", args: "inspect -f {{.State.Status}} here", out: "running"},
		{name: "logs", args: "logs here", out: "hello"},
		{name: "version", args: "version -f {{.Server.APIVersion}}", out: "1.51"},
	})
	for _, args := range []string{
		"pause here", "stop -t 0 here", "restart -t 0 here", "kill here", "rm -f here", "rename here there", "update --memory 64m here", "exec here true", "stop -t 0 here",
	} {
		began := time.Now()
		r := h1.Try(t, split(args)...)
		assert.Check(t, r.Code != 0 && strings.Contains(r.Combined(), "most of its servers do not answer"), "%s: %s", args, r.Combined())
		assert.Check(t, time.Since(began) < 10*time.Second, "%s took %v", args, time.Since(began))
	}
	assert.Equal(t, h1.Docker(t, "inspect", "-f", "{{.State.Status}}", "here"), "running")
	h1.Kill9(t)
	assert.NilError(t, h1.Launch(t))
	fleetwide(t, "a daemon that starts now says what it waits for", func() bool {
		return strings.Contains(h1.Try(t, "ps").Stderr, "this host waits for the state of the fleet")
	})
	assert.Equal(t, h1.Docker(t, "version", "-f", "{{.Server.APIVersion}}"), "1.51")
	assert.Assert(t, is.Contains(h1.Try(t, "info").Stderr, "this host waits for the state of the fleet"))
	f.Hosts[1].Start(t)
	fleetwide(t, "the one that waited goes on", h1.Answers)
	fleetwide(t, "two of three write again", func() bool { return h1.Try(t, "create", "busybox").Code == 0 })
	assert.Equal(t, h1.Docker(t, "exec", "here", "echo", "hi"), "hi", "what could not be recorded was not done")

	// Two of three are gone for good: the last one goes on alone, and takes others again.
	f.KillHost(t, f.Hosts[1])
	f.KillHost(t, f.Hosts[2])
	h1.Stop(t)
	h1.StartWith(t, "--last-server")
	assert.Equal(t, h1.Docker(t, "logs", "here"), "hello")
	for _, h := range f.Hosts[1:] {
		fleetwide(t, "the loss is noticed", func() bool { return h1.TryNereid(t, "host", "rm", h.Name).Code == 0 })
		h.Removed = true
	}
	h1.Stop(t)
	h1.Start(t)
	h4 := f.Add(t, true)
	fleetwide(t, "it sees two servers", func() bool { return strings.Count(h4.Nereid(t, "host", "ls"), " server ") == 2 })
	assert.Equal(t, h4.Docker(t, "exec", "here", "echo", "hi"), "hi")
}

// TestFleetGrowsAndShrinks goes from one server to three and back, with hosts that are none, and refuses who may not
// come.
func TestFleetGrowsAndShrinks(t *testing.T) {
	f := lab.NewFleet(t, lab.FleetOptions{Hosts: 2, Servers: 1})
	h1, h2 := f.Hosts[0], f.Hosts[1]
	h3 := f.Add(t, true)
	h4 := f.Add(t, true)
	fleetwide(t, "all see three servers", func() bool { return strings.Count(h2.Nereid(t, "host", "ls"), " server ") == 3 })

	// A host that is no server goes on when the first server is gone for good. It is taken out at once, in the middle of the
	// election that its end brings.
	f.KillHost(t, h1)
	h3.Nereid(t, "host", "rm", h1.Name)
	h1.Removed = true
	fleetwide(t, "all know", func() bool { return !strings.Contains(h2.Nereid(t, "host", "ls"), h1.Name) })
	h2.Docker(t, "volume", "create", "written")
	fleetwide(t, "all see it", func() bool { return h4.Docker(t, "volume", "ls", "-q") == "written" })
	h2.Stop(t)
	h2.Start(t)
	assert.Equal(t, h2.Docker(t, "volume", "ls", "-q"), "written")

	// A host that is removed while it lives ends, and does not come back.
	h3.Nereid(t, "host", "rm", h4.Name)
	h4.Removed = true
	assert.ErrorContains(t, h4.WaitExit(t), "exit status")
	assert.Assert(t, is.Contains(h4.LogTail(), "removed from the fleet"))
	fleetwide(t, "one server is left", func() bool { return strings.Count(h2.Nereid(t, "host", "ls"), " server ") == 1 })
	h2.Docker(t, "volume", "rm", "written")

	// Operators' words.
	h3.Nereid(t, "host", "label", h2.Name, "rack=r1", "disk=ssd")
	h3.Nereid(t, "host", "label", h2.Name, "disk=")
	fleetwide(t, "it shows its labels", func() bool { return strings.Contains(h2.Nereid(t, "host", "inspect", h2.Name), `"rack": "r1"`) })
	assert.Assert(t, is.Contains(h2.Nereid(t, "host", "inspect", h2.Name), `"rack": "r1"`))
	assert.Assert(t, is.Contains(h3.Docker(t, "info", "-f", "{{.Labels}}"), "rack=r1"))
	assert.Assert(t, is.Contains(h3.Nereid(t, "host", "drain", h2.Name), "gets no new containers"))
	assert.Assert(t, is.Contains(h3.Nereid(t, "host", "ls"), "alive, draining"))
	h2.Nereid(t, "host", "resume", h2.Name)
	fleetwide(t, "all know", func() bool { return !strings.Contains(h3.Nereid(t, "host", "ls"), "draining") })
	for args, want := range map[string]string{
		"host inspect nosuch": "No such host: nosuch",
		"host rm " + h2.Name:  "is the one that was asked",
		"host drain nosuch":   "No such host: nosuch",
	} {
		r := h2.TryNereid(t, strings.Fields(args)...)
		assert.Check(t, r.Code == 1 && strings.Contains(r.Stderr, want), "%s: %s", args, r.Combined())
	}
}

// TestFleetRefusesStrangers tries to join with what does not let in.
func TestFleetRefusesStrangers(t *testing.T) {
	f := lab.NewFleet(t, lab.FleetOptions{Hosts: 1})
	h := f.Hosts[0]
	other := lab.New(t)
	token, expired := h.Nereid(t, "token"), h.Nereid(t, "token", "--life", "1ns")
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"another fleet's token", "is not of the fleet that the token is for", []string{"--token", other.Nereid(t, "token")}},
		{"an expired one", "has expired", []string{"--token", expired}},
		{"a host's for a server", "not for servers", []string{"--token", token, "--server"}},
		{"a name that is taken", "is in the fleet already", []string{"--token", token, "--name", h.Name}},
		{"no token", "not a join token", []string{"--token", "SWMTKN-1-x-y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			args := append([]string{filepath.Join(lab.Bin(t), "nereid"), "daemon", "--name", "stranger", "--advertise", "198.18.0.99", "--join", h.Addr + ":2377",
				"--data-root", root + "/d", "--exec-root", root + "/e"}, c.args...)
			r := h.On(t, args...)
			assert.Check(t, r.Code == 1 && strings.Contains(r.Stderr, c.want), r.Combined())
		})
	}
	assert.Assert(t, !strings.Contains(h.Nereid(t, "host", "ls"), "stranger"))
	h.Nereid(t, "token", "--rotate")
	r := h.On(t, filepath.Join(lab.Bin(t), "nereid"), "daemon", "--name", "stranger", "--advertise", "198.18.0.99", "--join", h.Addr+":2377",
		"--data-root", t.TempDir(), "--exec-root", t.TempDir(), "--token", token)
	assert.Check(t, r.Code == 1 && strings.Contains(r.Stderr, "not known"), r.Combined())
}
