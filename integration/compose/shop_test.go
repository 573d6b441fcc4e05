//go:build integration

package compose

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// shop: a web front end, an API, PostgreSQL and Redis, started in the order of their health, with secrets, and with
// a volume that outlives them.
func shop(t *testing.T, p *project) {
	p.up(t)
	p.startedInOrder(t)
	assert.Assert(t, is.Contains(p.get(t, "http://127.0.0.1:8080/"), "The shop is open"))
	p.post(t, "http://127.0.0.1:8080/api/notes", "bread")
	p.post(t, "http://127.0.0.1:8080/api/notes", "butter")
	p.wantNotes(t, "bread", "butter")
	assert.Equal(t, p.sql(t, "select count(*) from notes"), "2")
	assert.Equal(t, p.do(t, "run", "--rm", "-T", "migrate", "secret"), "28 characters")
	assert.Equal(t, p.do(t, "exec", "-T", "web", "wget", "-q", "-O", "-", "http://shop.example/"), "<h1>The shop is open</h1>")
	p.wantSettings(t)
	p.recreateOnChange(t)

	p.do(t, "down", "-t", "2")
	assert.Equal(t, p.host.Docker(t, "volume", "ls", "-q", "--filter", "name=shop_"), "shop_data")
	p.up(t)
	p.wantNotes(t, "bread", "butter")
	assert.Assert(t, !strings.Contains(p.do(t, "logs", "db"), "made a new cluster"))
	if p.old {
		p.do(t, "run", "--rm", "-T", "-e", "PGPASSWORD=correct horse battery staple", "admin")
	} else {
		assert.Equal(t, p.do(t, "--profile", "tools", "run", "--rm", "-T", "-e", "PGPASSWORD=correct horse battery staple", "admin"), "admin")
		p.newest(t)
	}
	p.do(t, "down", "-v", "-t", "2")
}

// up starts everything and returns when it is healthy.
func (p *project) up(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"up", "-d"}, args...)
	if !p.old {
		args = append(args, "--wait")
	}
	p.do(t, args...)
}

func (p *project) startedInOrder(t *testing.T) {
	t.Helper()
	var last time.Time
	for _, service := range []string{"db", "migrate", "api", "web"} {
		names := p.containers(t, service)
		assert.Equal(t, len(names), 1, service)
		at, err := time.Parse(time.RFC3339Nano, p.host.Docker(t, "inspect", "-f", "{{.State.StartedAt}}", names[0]))
		assert.NilError(t, err)
		assert.Assert(t, at.After(last), "%s started at %v, before what it depends on", service, at)
		last = at
		if service == "migrate" { // the next one waits for its end
			last, err = time.Parse(time.RFC3339Nano, p.host.Docker(t, "inspect", "-f", "{{.State.FinishedAt}}", names[0]))
			assert.NilError(t, err)
		}
	}
}

func (p *project) http() *http.Client {
	return &http.Client{Transport: p.host.Transport(), Timeout: 30 * time.Second}
}

// get waits for an answer: a server that is up may not listen yet.
func (p *project) get(t *testing.T, url string) (body string) {
	t.Helper()
	p.eventually(t, func() (err error) {
		body, err = p.tryGet(t, url)
		return err
	})
	return body
}

func (p *project) tryGet(t *testing.T, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	assert.NilError(t, err)
	res, err := p.http().Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s\n%s", url, res.Status, b)
	}
	return strings.TrimSpace(string(b)), err
}

func (p *project) post(t *testing.T, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	assert.NilError(t, err)
	res, err := p.http().Do(req)
	assert.NilError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	assert.NilError(t, err)
	assert.Assert(t, res.StatusCode < 300, "%s: %s\n%s", url, res.Status, b)
	return strings.TrimSpace(string(b))
}

func (p *project) wantNotes(t *testing.T, want ...string) {
	t.Helper()
	var got struct {
		Shop, Hits string
		Notes      []string
	}
	assert.NilError(t, json.Unmarshal([]byte(p.get(t, "http://127.0.0.1:8080/api/notes")), &got))
	assert.DeepEqual(t, got.Notes, want)
	assert.Equal(t, got.Shop, "the shop")
	assert.Assert(t, got.Hits != "")
}

func (p *project) sql(t *testing.T, query string) string {
	t.Helper()
	return p.do(t, "exec", "-T", "db", "psql", "-U", "postgres", "-Atc", query)
}

// wantSettings checks what the file says about the API's container and what the others see of theirs.
func (p *project) wantSettings(t *testing.T) {
	t.Helper()
	got := p.host.Docker(t, "inspect", "-f", `{{range .HostConfig.Ulimits}}{{.}}{{end}} {{index .HostConfig.Sysctls "net.core.somaxconn"}} {{.HostConfig.Init}} {{.Config.Labels.tier}} {{index .HostConfig.LogConfig.Config "max-size"}} {{.Config.StopTimeout}}`, p.containers(t, "api")[0])
	assert.Equal(t, got, "nofile=2048:4096 256 true middle 1m 2")
	assert.Equal(t, p.do(t, "exec", "-T", "db", "sh", "-c", "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"), "131072")
	assert.Assert(t, is.Contains(p.do(t, "exec", "-T", "cache", "mount"), "tmpfs on /data type tmpfs"))
	assert.Equal(t, p.try(t, "exec", "-T", "db", "ping", "-c", "1", "-W", "1", p.host.Outside).Code, 1, "an internal network leads nowhere")
}

// recreateOnChange changes one service in the file: it gets a new container on its old volume, and the cache keeps its
// own.
func (p *project) recreateOnChange(t *testing.T) {
	t.Helper()
	file := filepath.Join(p.dir, "compose.yaml")
	b, err := os.ReadFile(file)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(file, []byte(strings.Replace(string(b), "shm_size: 128m", "shm_size: 96m", 1)), 0o644))
	id := func(service string) string {
		return p.host.Docker(t, "inspect", "-f", "{{.Id}}", p.containers(t, service)[0])
	}
	db, cache := id("db"), id("cache")

	p.up(t)

	assert.Assert(t, id("db") != db, "not recreated")
	assert.Equal(t, id("cache"), cache, "recreated without need")
	p.wantNotes(t, "bread", "butter")
}

// newest is what docker-compose 1.29 does not know.
func (p *project) newest(t *testing.T) {
	t.Helper()
	p.files = append(p.files, "compose.new.yaml")
	p.env = append(p.env, "BANNER=no entry", "TOKEN=s3cret")
	p.up(t)
	sees := func(args ...string) string {
		return p.do(t, append([]string{"exec", "-T", "web"}, args...)...)
	}
	assert.Equal(t, sees("cat", "/etc/motd"), "welcome to shop")
	assert.Equal(t, sees("cat", "/etc/banner"), "no entry")
	assert.Equal(t, sees("stat", "-c", "%a", "/etc/banner"), "440")
	assert.Equal(t, sees("cat", "/run/secrets/web_token"), "s3cret")
	got := p.host.Docker(t, "inspect", "-f", "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}} {{.HostConfig.PidsLimit}}", p.containers(t, "web")[0])
	assert.Equal(t, got, "750000000 100663296 33554432 64")
	p.watch(t)
}

// watch changes a file here and finds it changed in the container, and gone when it goes. Of a batch with a file that
// goes in it only that was done: compose starts the exec that it removes files with twice, and heard that this is wrong.
func (p *project) watch(t *testing.T) {
	t.Helper()
	said, stop := p.background(t, "watch", "--no-up")
	defer stop()
	p.eventually(t, func() error {
		if !strings.Contains(said(), "Watch enabled") {
			return fmt.Errorf("watch says:\n%s", said())
		}
		return nil
	})
	assert.NilError(t, os.WriteFile(filepath.Join(p.dir, "live", "news.txt"), []byte("second edition\n"), 0o644))
	p.eventually(t, func() error {
		if got, err := p.tryGet(t, "http://127.0.0.1:8080/live/news.txt"); got != "second edition" {
			return fmt.Errorf("%s %w\n%s", got, err, said())
		}
		return nil
	})
	assert.NilError(t, os.Rename(filepath.Join(p.dir, "live", "news.txt"), filepath.Join(p.dir, "live", "moved.txt")))
	p.eventually(t, func() error {
		if got, err := p.tryGet(t, "http://127.0.0.1:8080/live/moved.txt"); got != "second edition" {
			return fmt.Errorf("%s %w\n%s", got, err, said())
		}
		if got, err := p.tryGet(t, "http://127.0.0.1:8080/live/news.txt"); err == nil {
			return fmt.Errorf("%s is still there\n%s", got, said())
		}
		return nil
	})
	assert.Assert(t, !strings.Contains(said(), "Error"), said())
}
