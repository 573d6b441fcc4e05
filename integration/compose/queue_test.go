//go:build integration

package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"
)

const gate = "http://127.0.0.1:8090"

// queue: workers behind one published port, as many as one likes, and every verb of compose.
func queue(t *testing.T, p *project) {
	p.up(t, "--scale", "worker=3")
	p.wantWorkers(t, 3)
	p.eventually(t, func() error { // one that is up may not ask for work yet
		if by := p.worked(t, 20); len(by) != 3 {
			return fmt.Errorf("not every worker works: %v", by)
		}
		return nil
	})
	p.ownPorts(t)
	p.scale(t)
	p.verbs(t)
	p.foreground(t)
	p.orphans(t) // the workers are gone from the file then
	p.do(t, "down", "-v", "-t", "1")
}

func (p *project) wantWorkers(t *testing.T, n int) {
	t.Helper()
	assert.Equal(t, len(p.containers(t, "worker")), n)
	p.eventually(t, func() error {
		if got, err := p.tryGet(t, gate+"/workers"); err != nil || got != fmt.Sprint(n) {
			return fmt.Errorf("the name of the workers has %q addresses: %w", got, err)
		}
		return nil
	})
}

func (p *project) eventually(t *testing.T, check func() error) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if err := check(); err != nil {
			return poll.Continue("%v", err)
		}
		return poll.Success()
	}, poll.WithTimeout(composeTimeout))
}

// worked has jobs done and returns by whom.
func (p *project) worked(t *testing.T, jobs int) map[string]int {
	t.Helper()
	by := map[string]int{}
	for i := range jobs {
		answer, worker, _ := strings.Cut(p.post(t, gate+"/jobs", fmt.Sprint(i)), " ")
		assert.Equal(t, answer, fmt.Sprint(i*i))
		by[worker]++
		p.jobs++
	}
	return by
}

// ownPorts finds each worker at the port it took of the range.
func (p *project) ownPorts(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	for i := range 3 {
		addr := p.do(t, "port", "--index", fmt.Sprint(i+1), "worker", "9000")
		port := addr[strings.LastIndex(addr, ":")+1:]
		seen[p.get(t, "http://127.0.0.1:"+port+"/")] = true
	}
	assert.Equal(t, len(seen), 3)
}

func (p *project) scale(t *testing.T) {
	t.Helper()
	p.up(t, "--scale", "worker=5", "--no-recreate")
	p.wantWorkers(t, 5)
	p.up(t, "--scale", "worker=1")
	p.wantWorkers(t, 1)
	assert.Equal(t, len(p.worked(t, 5)), 1)
}

// verbs are the ones of daily life.
func (p *project) verbs(t *testing.T) {
	t.Helper()
	events, stopEvents := p.background(t, "events", "--json")
	logs, stopLogs := p.background(t, "logs", "-f", "--no-color", "worker")
	defer stopEvents()
	defer stopLogs()

	p.eventually(t, func() error { // it shows what happens from when it listens on
		p.do(t, "exec", "-T", "queue", "true")
		if events() == "" {
			return fmt.Errorf("no events yet")
		}
		return nil
	})
	assert.Assert(t, is.Contains(p.do(t, "ps"), p.containers(t, "gate")[0]))
	assert.DeepEqual(t, sorted(p.do(t, "ps", "--services")), []string{"gate", "queue", "worker"})
	assert.Assert(t, is.Contains(p.do(t, "config", "--services"), "gate"))
	assert.Assert(t, is.Contains(p.do(t, "images"), "shop-redis"))
	assert.Assert(t, is.Contains(p.do(t, "top", "queue"), "redis-server"))
	assert.Assert(t, strings.HasSuffix(p.do(t, "port", "gate", "80"), ":8090"))
	assert.Equal(t, p.do(t, "exec", "-T", "queue", "redis-cli", "get", "id"), fmt.Sprint(p.jobs))
	r := p.try(t, "exec", "-T", "queue", "sh", "-c", "exit 7")
	assert.Equal(t, r.Code, 7)
	assert.Equal(t, p.do(t, "run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "queue", "-c", "cat /etc/hostname | wc -c"), "13")

	p.do(t, "pause", "gate")
	assert.Assert(t, is.Contains(p.host.Docker(t, "ps", "--format", "{{.Status}}", "--filter", "name="+p.containers(t, "gate")[0]), "(Paused)"))
	p.do(t, "unpause", "gate")
	p.worked(t, 1)
	p.do(t, "restart", "-t", "1", "worker")
	p.worked(t, 1)
	p.do(t, "stop", "-t", "1", "gate")
	p.do(t, "start", "gate")
	p.get(t, gate+"/workers")
	p.worked(t, 1)
	p.do(t, "kill", "-s", "SIGKILL", "gate")
	p.do(t, "rm", "-f", "gate")
	assert.Equal(t, len(p.containers(t, "gate")), 0)
	before := p.containerIDs(t)
	p.up(t, "--force-recreate")
	for _, id := range p.containerIDs(t) {
		assert.Assert(t, !strings.Contains(strings.Join(before, " "), id), "not recreated")
	}
	p.get(t, gate+"/workers")
	p.worked(t, 1)

	p.eventually(t, func() error {
		for _, want := range []string{`"action":"pause"`, `"action":"restart"`, `"action":"kill"`, `"action":"destroy"`} {
			if !strings.Contains(strings.ReplaceAll(events(), `": "`, `":"`), want) {
				return fmt.Errorf("no %s in %s", want, events())
			}
		}
		if regexp.MustCompile(`(?m)^.*worker.*\| +did 0$`).FindString(logs()) == "" {
			return fmt.Errorf("the log misses what was done:\n%s", logs())
		}
		return nil
	})
	if p.old {
		p.unknownVerbs(t)
	} else {
		p.newVerbs(t)
	}
}

// unknownVerbs are those of the newer versions that docker-compose 1.29 has not, whatever engine it talks to.
func (p *project) unknownVerbs(t *testing.T) {
	t.Helper()
	for _, verb := range []string{"cp", "wait", "stats", "watch", "ls", "volumes"} {
		r := p.try(t, verb)
		assert.Assert(t, r.Code != 0 && strings.Contains(r.Combined(), "No such command: "+verb), "%s: %s", verb, r.Combined())
	}
}

// newVerbs are not in docker-compose 1.29.
func (p *project) newVerbs(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f")
	assert.NilError(t, os.WriteFile(file, []byte("carried\n"), 0o644))
	p.do(t, "cp", file, "queue:/tmp/f")
	assert.Equal(t, p.do(t, "exec", "-T", "queue", "cat", "/tmp/f"), "carried")
	p.do(t, "cp", "queue:/tmp/f", file+"2")
	b, err := os.ReadFile(file + "2")
	assert.NilError(t, err)
	assert.Equal(t, string(b), "carried\n")
	p.eventually(t, func() error { // a client that waits for two seconds in vain shows dashes
		stats := p.do(t, "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
		if name := p.containers(t, "queue")[0]; !strings.Contains(stats, name) {
			return fmt.Errorf("no %s in %s", name, stats)
		}
		return nil
	})
	assert.Assert(t, is.Contains(p.do(t, "ls", "--format", "json"), `"Name":"queue"`))
	assert.Assert(t, is.Contains(p.do(t, "volumes"), "VOLUME NAME"))
	p.wait(t)
	p.up(t)
}

// wait has one command wait for the end of a service that another ends. Which of them is first there is chance: until
// the waiting one has seen it, the service is started and ended again.
func (p *project) wait(t *testing.T) {
	t.Helper()
	code := regexp.MustCompile(`exited with status code \d+`)
	waited, stop := p.background(t, "wait", "worker")
	p.eventually(t, func() error {
		if code.MatchString(waited()) {
			return nil
		}
		if waited() != "" { // nothing to wait for
			stop()
			p.do(t, "start", "worker")
			waited, stop = p.background(t, "wait", "worker")
		}
		p.try(t, "kill", "-s", "SIGTERM", "worker")
		return fmt.Errorf("wait says %q", waited())
	})
}

// foreground brings everything up before the user's eyes, who then has enough of it.
func (p *project) foreground(t *testing.T) {
	t.Helper()
	said, interrupt := p.background(t, "up", "--force-recreate")
	p.eventually(t, func() error {
		for _, line := range []string{"gate is open", "working"} { // before, up is busy starting: what it starts then outlives its end
			if !strings.Contains(said(), line) {
				return fmt.Errorf("up says:\n%s", said())
			}
		}
		return nil
	})
	p.worked(t, 1)
	p.eventually(t, func() error {
		if !strings.Contains(said(), "did ") {
			return fmt.Errorf("up says:\n%s", said())
		}
		return nil
	})
	interrupt()
	for _, service := range []string{"gate", "queue"} {
		got := p.host.Docker(t, "inspect", "-f", "{{.State.Status}}", p.containers(t, service)[0])
		assert.Equal(t, got, "exited", "%s outlived the interrupt", service)
	}
}

// orphans are containers of services that are no longer in the file.
func (p *project) orphans(t *testing.T) {
	t.Helper()
	file := filepath.Join(p.dir, "compose.yaml")
	b, err := os.ReadFile(file)
	assert.NilError(t, err)
	cut := regexp.MustCompile(`(?s)  worker:\n.*?\n\n`).ReplaceAll(b, nil)
	assert.Assert(t, len(cut) < len(b))
	assert.NilError(t, os.WriteFile(file, cut, 0o644))
	p.up(t)
	assert.Equal(t, len(p.containers(t, "worker")), 1)
	p.up(t, "--remove-orphans")
	assert.Equal(t, len(p.containers(t, "worker")), 0)
}

func (p *project) containerIDs(t *testing.T) []string {
	t.Helper()
	return strings.Fields(p.do(t, "ps", "-q"))
}
