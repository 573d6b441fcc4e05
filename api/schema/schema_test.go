package schema

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

func load(t *testing.T) *Validator {
	t.Helper()
	v, err := Load()
	assert.NilError(t, err)
	return v
}

func TestOperations(t *testing.T) {
	ops := load(t).Operations()
	assert.Equal(t, len(ops), 107)
	for _, op := range []string{"GET /containers/json", "HEAD /_ping", "POST /containers/{id}/attach", "DELETE /volumes/{name}"} {
		assert.Check(t, cmp.Contains(ops, op))
	}
}

func TestOperation(t *testing.T) {
	v := load(t)
	op, err := v.Operation("GET", "/v1.51/images/reg:5000/a/b:1/json?manifests=1")
	assert.NilError(t, err)
	assert.Equal(t, op, "GET /images/{name}/json")
	_, err = v.Operation("GET", "/nothing")
	assert.ErrorContains(t, err, "no such operation")
}

const errorBody = `{"message":"no"}`

// manifest is an image with one, and in it these data.
func manifest(data string) string {
	return `{"Manifests":[{"ID":"x","Descriptor":{},"Available":true,"Size":{"Content":1,"Total":3},"Kind":"image","ImageData":{"Platform":{},"Containers":[],` + data + `}}]}`
}

var id = strings.Repeat("0a", 32)

func TestWhatTheEngineSendsPasses(t *testing.T) {
	v := load(t)
	for _, tc := range []struct {
		method, path string
		status       int
		contentType  string
		body         string
	}{
		{"GET", "/_ping", 200, "text/plain; charset=utf-8", "OK"},
		{"HEAD", "/v1.51/_ping", 200, "text/plain; charset=utf-8", ""},
		{"GET", "/v1.24/containers/json?all=1", 200, "application/json", `[{"Id":"` + id + `","Names":["/a"],"Ports":[{"PrivatePort":80,"Type":"tcp"}],"Labels":null,"Mounts":null,"HostConfig":{}}]`},
		{"POST", "/containers/create", 201, "application/json", `{"Id":"x","Warnings":[]}`},
		{"POST", "/containers/create", 201, "application/json", `{"Id":"x","Warnings":null}`},
		{"POST", "/containers/x/start", 304, "", ""},
		{"POST", "/containers/x/start", 204, "", ""},
		{"POST", "/containers/x/start", 404, "application/json", errorBody},
		{"POST", "/containers/x/start", 409, "application/json", errorBody}, // not in the file
		{"GET", "/images/docker.io/library/busybox:latest/json", 404, "application/json", errorBody},
		{"GET", "/images/docker.io/library/busybox/history", 200, "application/json", `[{"Id":"x","Created":1,"CreatedBy":"","Tags":null,"Size":0,"Comment":""}]`},
		{"GET", "/containers/x/changes", 200, "application/json", "null"},
		{"GET", "/events", 200, "application/json", `{"Type":"container","Action":"start","time":1}` + "\n" + `{"Type":"image"}`},
		{"GET", "/events", 200, "application/json", ""},
		{"GET", "/exec/x/json", 200, "application/json", `{"ID":"x","Running":true,"ExitCode":null}`},
		{"GET", "/containers/x/json", 200, "application/json", `{"Id":"` + id + `","HostConfig":{"MemorySwappiness":null,"OomKillDisable":null,"PidsLimit":null}}`},
		{"POST", "/containers/x/attach", 404, "application/vnd.docker.raw-stream", "No such container: x\r\n"},
		{"POST", "/containers/x/attach", 101, "application/vnd.docker.multiplexed-stream", ""},
		{"GET", "/containers/x/logs", 200, "application/vnd.docker.multiplexed-stream", "\x01"},
		{"GET", "/containers/x/archive", 200, "application/x-tar", "tar"},
		{"GET", "/volumes", 200, "application/json", `{"Volumes":null,"Warnings":null}`},
		{"POST", "/exec/x/start", 200, "application/vnd.docker.raw-stream", ""},
		{"POST", "/exec/x/start", 101, "application/vnd.docker.multiplexed-stream", "\x01"},
		{"GET", "/images/x/json", 200, "application/json", manifest(`"Size":{"Unpacked":2}`)},
	} {
		assert.Check(t, v.Check(tc.method, tc.path, tc.status, tc.contentType, []byte(tc.body)))
	}
}

func TestWhatTheEngineNeverSendsFails(t *testing.T) {
	v := load(t)
	for _, tc := range []struct {
		method, path string
		status       int
		contentType  string
		body         string
		want         string
	}{
		{"GET", "/nothing", 200, "application/json", "{}", "no such operation"},
		{"PATCH", "/info", 200, "application/json", "{}", "no such operation"},
		{"GET", "/containers/json", 201, "application/json", "[]", "not documented"},
		{"DELETE", "/containers/x", 202, "", "", "not documented"},
		{"GET", "/containers/json", 200, "text/plain", "[]", `content type "text/plain"`},
		{"GET", "/containers/json", 200, "application/json", "", "EOF"},
		{"GET", "/containers/json", 200, "application/json", `{}`, "value must be an array"},
		{"GET", "/containers/json", 200, "application/json", `[{"Id":1}]`, "at /0/Id: value must be a string"},
		{"GET", "/containers/json", 200, "application/json", `[{"State":"asleep"}]`, "at /0/State"},
		{"GET", "/containers/json", 200, "application/json", `[{"Ports":[{"Type":"tcp"}]}]`, `"PrivatePort" is missing`},
		{"GET", "/containers/json", 200, "application/json", `[{"Ports":[{"PrivatePort":80,"Type":"icmp"}]}]`, "at /0/Ports/0/Type"},
		{"POST", "/containers/create", 201, "application/json", `{"Warnings":[]}`, `"Id" is missing`},
		{"POST", "/containers/create", 201, "application/json", `{"Id":null,"Warnings":[]}`, "at /Id"},
		{"GET", "/containers/x/json", 200, "application/json", `{"State":{"ExitCode":null}}`, "at /State/ExitCode"},
		{"GET", "/containers/x/json", 200, "application/json", `{"RestartCount":null}`, "at /RestartCount"},
		{"GET", "/images/x/json", 200, "application/json", manifest(`"Size":{}`), `"Unpacked" is missing`},
		{"POST", "/containers/x/start", 101, "", "", "not documented"},
		{"POST", "/containers/x/start", 204, "", "body", "a body where there can be none"},
		{"POST", "/containers/x/start", 500, "application/json", "{}", "without a message"},
		{"POST", "/containers/x/start", 500, "text/plain", errorBody, `content type "text/plain"`},
		{"GET", "/events", 200, "application/json", `{"Type":"container"}` + "\n" + `{"Type":"weather"}`, "value 1 of the body: at /Type"},
	} {
		err := v.Check(tc.method, tc.path, tc.status, tc.contentType, []byte(tc.body))
		assert.Check(t, cmp.ErrorContains(err, tc.want), "%s %s %s", tc.method, tc.path, tc.body)
	}
}
