//go:build integration

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestBadInput sends what no client should, and wants the code and the words that Docker has for it and nothing left.
func TestBadInput(t *testing.T) {
	h := lab.NewWithBusybox(t)
	before := settled(t, h)
	a := newAsker(t, h)
	create := "POST /containers/create"
	for _, c := range []struct {
		name   string
		ask    question
		status int
		words  string
	}{
		{"no JSON", question{line: create, body: "{"}, 400, "invalid JSON: unexpected EOF"},
		{"other JSON", question{line: create, body: "[]"}, 400, "cannot unmarshal array"},
		{"two values", question{line: create, body: `{"Image":"busybox"}{}`}, 400, "unexpected content after JSON"},
		{"no body", question{line: create}, 400, "got EOF while reading request body"},
		{"a wrong type", question{line: create, body: object{"Image": 1}}, 400, "cannot unmarshal number"},
		{"a number too large", question{line: create, body: `{"Image":"busybox","HostConfig":{"Memory":1e30}}`}, 400, "cannot unmarshal number 1e30"},
		{"content type", question{line: create, body: `{}`, header: map[string]string{"Content-Type": "text/plain"}}, 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"broken content type", question{line: create, body: `{}`, header: map[string]string{"Content-Type": "a/b/c;;"}}, 400, "malformed Content-Type header"},
		{"name with a slash", question{line: create + "?name=a/b", body: object{"Image": "busybox"}}, 400, "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{"name with a NUL", question{line: create + "?name=a%00b", body: object{"Image": "busybox"}}, 400, "Invalid container name (a\x00b)"},
		{"name that is no UTF-8", question{line: create + "?name=%FF", body: object{"Image": "busybox"}}, 400, "Invalid container name"},
		{"query that cannot be read", question{line: create + "?name=%zz", body: object{"Image": "busybox"}}, 400, "invalid URL escape"},
		{"no image", question{line: create, body: object{"Image": ""}}, 400, "no command specified"},
		{"memory below zero", question{line: create, body: object{"Image": "busybox", "HostConfig": object{"Memory": -1}}}, 400, "Minimum memory limit allowed is 6MB"},
		{"shm below zero", question{line: create, body: object{"Image": "busybox", "HostConfig": object{"ShmSize": -1}}}, 400, "SHM size can not be less than 0"},
		{"grace below zero", question{line: create, body: object{"Image": "busybox", "Healthcheck": object{"StartPeriod": -1}}}, 400, "StartPeriod in Healthcheck cannot be less than 1ms"},
		{"restart policy", question{line: create, body: object{"Image": "busybox", "HostConfig": object{"RestartPolicy": object{"Name": "sometimes"}}}}, 400, "unknown policy 'sometimes'"},
		{"mount type", question{line: create, body: object{"Image": "busybox", "HostConfig": object{"Mounts": []object{{"Type": "cloud", "Target": "/x"}}}}}, 400, "mount type unknown"},
		{"port", question{line: create, body: object{"Image": "busybox", "HostConfig": object{"PortBindings": object{"70000/tcp": []object{}}}}}, 400, "70000"},
		{"stop signal", question{line: create, body: object{"Image": "busybox", "StopSignal": "SIGNO"}}, 400, "invalid signal: SIGNO"},
		{"a null among limits", question{line: create, body: `{"Image":"busybox","HostConfig":{"Ulimits":[null]}}`}, 400, "invalid Ulimits"},
		{"a null among devices", question{line: create, body: `{"Image":"busybox","HostConfig":{"BlkioWeightDevice":[null]}}`}, 400, "invalid BlkioWeightDevice"},
		{"platform", question{line: create + "?platform=a/b/c/d", body: object{"Image": "busybox"}}, 400, "cannot parse platform specifier"},
		{"a version too old", question{line: "GET /containers/json?filters={"}, 400, "invalid filter"},
		{"unknown filter", question{line: "GET /containers/json" + filter("colour", "red")}, 400, "invalid filter 'colour'"},
		{"unknown state", question{line: "GET /containers/json" + filter("status", "tired")}, 400, "invalid value for state (tired)"},
		{"event times", question{line: "GET /events?since=yesterday"}, 500, `parsing "yesterday": invalid syntax`}, // Docker's code
		{"events that end before they begin", question{line: "GET /events?since=20&until=10"}, 400, "cannot be after `until` time"},
		{"image name", question{line: "POST /images/create?fromImage=a%20b"}, 400, "invalid reference format"},
		{"import", question{line: "POST /images/create?fromSrc=-&repo=BAD", body: []byte("x"), header: map[string]string{"Content-Type": "application/x-tar"}}, 400, "must be lowercase"},
		{"import of no tar", question{line: "POST /images/create?fromSrc=-&repo=x", body: []byte("no tar"), header: map[string]string{"Content-Type": "application/x-tar"}}, 400, "unexpected EOF"},
		{"tag", question{line: "POST /images/busybox/tag?repo=x&tag=%20"}, 400, "invalid tag format"},
		{"search", question{line: "GET /images/search?term=x&limit=many"}, 400, "invalid limit specified"},
		{"usage of what", question{line: "GET /system/df?type=secrets"}, 400, "unknown object type: secrets"},
		{"condition", question{line: "POST /containers/nosuch/wait?condition=bored"}, 400, "invalid condition"},
		{"volume name", question{line: "POST /volumes/create", body: object{"Name": "a/b"}}, 400, "includes invalid characters for a local volume name"},
		{"driver", question{line: "POST /volumes/create", body: object{"Name": "ab", "Driver": "nosuch"}}, 404, "nosuch"},
		{"auth", question{line: "POST /auth", body: "{"}, 500, "unexpected EOF"}, // Docker's code
		{"exec of what", question{line: "POST /containers/nosuch/exec", body: object{"Cmd": []string{"x"}}}, 404, "No such container: nosuch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := a.in(t).put(c.status, c.ask)
			var said struct{ Message string }
			r.into(t, &said)
			assert.Check(t, is.Contains(said.Message, c.words))
		})
	}
	t.Run("unknown operation", func(t *testing.T) {
		status, r := a.in(t).do(http.MethodGet, "/v1.51/nosuch", question{})
		assert.Equal(t, status, 404)
		assert.Equal(t, strings.TrimSpace(string(r.body)), `{"message":"page not found"}`)
	})
	t.Run("too old and too new", func(t *testing.T) {
		for version, words := range map[string]string{"1.23": "client version 1.23 is too old", "1.99": "client version 1.99 is too new"} {
			status, r := a.in(t).do(http.MethodGet, "/v"+version+"/info", question{})
			assert.Equal(t, status, 400)
			assert.Check(t, is.Contains(string(r.body), words))
		}
	})
	t.Run("enormous header", func(t *testing.T) {
		status, _ := a.in(t).do(http.MethodGet, "/v1.51/info", question{header: map[string]string{"X-Large": strings.Repeat("x", 2<<20)}})
		assert.Equal(t, status, 431)
	})
	t.Run("enormous body", func(t *testing.T) {
		body := fmt.Sprintf(`{"Image":"busybox","Labels":{"x":%q}}`, strings.Repeat("x", 16<<20+1000))
		status, r := a.in(t).do(http.MethodPost, "/v1.51/containers/create", question{body: body})
		assert.Equal(t, status, 400)
		assert.Check(t, is.Contains(string(r.body), "larger than"))
	})
	t.Run("ten thousand labels", func(t *testing.T) {
		labels := map[string]string{}
		for n := range 10_000 {
			labels[fmt.Sprintf("label-%d", n)] = strings.Repeat("v", 20)
		}
		a := a.in(t)
		var made struct{ ID string }
		a.ask(201, create+"?name=labelled", object{"Image": "busybox", "Cmd": []string{"true"}, "Labels": labels}).into(t, &made)
		a.ask(204, "POST /containers/labelled/start")
		a.ask(200, "POST /containers/labelled/wait")
		assert.Check(t, is.Equal(h.Docker(t, "ps", "-aq", "--no-trunc", "--filter", "label=label-9999="+labels["label-9999"]), made.ID))
		a.ask(204, "DELETE /containers/labelled?v=1")
	})
	t.Run("text that is no UTF-8", func(t *testing.T) {
		a := a.in(t)
		a.ask(201, create+"?name=bytes", []byte("{\"Image\":\"busybox\",\"Env\":[\"A=\xff\"],\"Labels\":{\"\xfe\":\"x\"},\"Cmd\":[\"true\"]}"))
		a.ask(200, "GET /containers/bytes/json")
		a.ask(204, "POST /containers/bytes/start")
		a.ask(204, "DELETE /containers/bytes?v=1&force=1")
	})
	eventually(t, 30*time.Second, func() error { return differ(before, inventory(t, h)) })
}

// execOnce has the host make what its first exec makes and all others share.
func execOnce(t *testing.T, h *lab.Host) {
	t.Helper()
	h.Docker(t, "run", "-d", "--name", "once", "busybox", "sleep", "600")
	h.Docker(t, "exec", "once", "true")
	h.Docker(t, "rm", "-fv", "once")
}

// crowd is how many do the same thing at once.
const crowd = 20

// together has a crowd send the same request at the same time and returns the statuses, sorted.
func together(t *testing.T, h *lab.Host, method, path string, body any) (statuses []int, bodies []string) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	start := make(chan struct{})
	for range crowd {
		all.Go(func() {
			raw, _ := json.Marshal(body)
			req, err := http.NewRequestWithContext(t.Context(), method, "http://nereid"+api+path, bytes.NewReader(raw))
			assert.Check(t, err)
			req.Header.Set("Content-Type", "application/json")
			client := h.Client()
			client.Timeout = 3 * time.Minute // each waits for all before it
			<-start
			res, err := client.Do(req)
			if !assert.Check(t, err) {
				return
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			assert.Check(t, err)
			mu.Lock()
			defer mu.Unlock()
			statuses, bodies = append(statuses, res.StatusCode), append(bodies, string(b))
		})
	}
	close(start)
	all.Wait()
	slices.Sort(statuses)
	return statuses, bodies
}

// count is how many of the crowd got a status; the others must have got one of the rest.
func count(t *testing.T, statuses []int, status int, rest ...int) (n int) {
	t.Helper()
	for _, s := range statuses {
		if s == status {
			n++
		} else if !slices.Contains(rest, s) {
			t.Errorf("status %d among %v", s, statuses)
		}
	}
	return n
}

// TestCrowd has many users do the same thing to one container at once: one of them does it, and every other one is
// told clearly that it is done.
func TestCrowd(t *testing.T) {
	h := lab.NewWithBusybox(t)
	execOnce(t, h)
	before := settled(t, h)
	cfg := object{"Image": "busybox", "Cmd": []string{"sleep", "600"}, "Volumes": object{"/v": object{}}, "ExposedPorts": object{"80/tcp": object{}}, "HostConfig": object{"PublishAllPorts": true}}
	for round := range 3 {
		statuses, _ := together(t, h, "POST", "/containers/create?name=one", cfg)
		assert.Equal(t, count(t, statuses, 201, 409), 1, "one wins the name")
		assert.Equal(t, len(strings.Fields(h.Docker(t, "ps", "-aq"))), 1)

		statuses, _ = together(t, h, "POST", "/containers/one/start", nil)
		assert.Equal(t, count(t, statuses, 204, 304), 1, "one starts it")

		statuses, bodies := together(t, h, "POST", "/containers/one/exec", object{"Cmd": []string{"true"}})
		assert.Equal(t, count(t, statuses, 201), crowd, "%v", bodies)

		statuses, _ = together(t, h, "POST", "/containers/one/pause", nil)
		assert.Equal(t, count(t, statuses, 204, 409), 1, "one pauses it")
		statuses, _ = together(t, h, "POST", "/containers/one/unpause", nil)
		assert.Equal(t, count(t, statuses, 204, 500), 1, "one unpauses it")

		statuses, _ = together(t, h, "POST", "/containers/one/rename?name=two", nil)
		assert.Equal(t, count(t, statuses, 204, 404, 400), 1, "one renames it")

		statuses, _ = together(t, h, "POST", "/containers/two/restart?t=0", nil)
		assert.Assert(t, count(t, statuses, 204) == crowd, "all want it to run again, and it does: %v", statuses)

		statuses, _ = together(t, h, "POST", "/containers/two/stop?t=0", nil)
		assert.Assert(t, count(t, statuses, 204, 304) >= 1)

		if round == 1 { // of one that runs
			h.Docker(t, "start", "two")
		}
		statuses, _ = together(t, h, "DELETE", "/containers/two?force=1&v=1", nil)
		assert.Assert(t, count(t, statuses, 204, 404, 409) >= 1, "it is removed: %v", statuses)
		assert.Equal(t, h.Docker(t, "ps", "-aq"), "")
	}
	h.Docker(t, "run", "-d", "--name", "busy", "busybox", "sleep", "600")
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() { h.Try(t, "exec", "busy", "sh", "-c", "sleep 0.2") })
	}
	h.Docker(t, "rm", "-f", "busy")
	all.Wait()
	eventually(t, 30*time.Second, func() error { return differ(before, inventory(t, h)) })
}
