package server

import (
	"net/http"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"
)

// Answers that need no backend, each as the engine's documentation has it.
func TestAnswersWithoutABackend(t *testing.T) {
	v, err := loadSchema()
	assert.NilError(t, err)
	const noManager = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`
	for _, tc := range []struct {
		method, path, body string
		code               int
		want               string // message of an error, or body
	}{
		{"GET", "/plugins", "", 200, "[]\n"},
		{"GET", `/plugins?filters={"enabled":["true"]}`, "", 200, "[]\n"},
		{"GET", `/plugins?filters={"nothing":["true"]}`, "", 400, "invalid filter 'nothing'"},
		{"GET", "/plugins/a/b/json", "", 404, `plugin "a/b" not found`},
		{"DELETE", "/plugins/x", "", 404, `plugin "x" not found`},
		{"POST", "/plugins/pull?remote=x", "[]", 403, "managed plugins are not supported"},
		{"GET", "/plugins/privileges?remote=x", "", 403, "managed plugins are not supported"},
		{"GET", "/swarm", "", 503, noManager},
		{"GET", "/nodes", "", 503, noManager},
		{"GET", "/services?status=1", "", 503, noManager},
		{"POST", "/services/create", "{}", 503, noManager},
		{"POST", "/services/create", "{", 400, "invalid JSON: unexpected EOF"},
		{"GET", "/tasks", "", 503, noManager},
		{"GET", "/tasks?filters=x", "", 400, "invalid filter"},
		{"GET", "/secrets/x", "", 503, noManager},
		{"DELETE", "/configs/x", "", 503, noManager},
		{"POST", "/swarm/leave", "", 503, "This node is not part of a swarm"},
		{"POST", "/swarm/init", "{}", 503, "swarm mode is not supported: hosts are joined to a fleet with nereid join"},
		{"PUT", "/volumes/x?version=1", "{}", 503, "volume update only valid for cluster volumes, but swarm is unavailable"},
		{"POST", "/volumes/create", `{"Name":"x","ClusterVolumeSpec":{}}`, 503, noManager},
		{"POST", "/build/prune", "", 200, `{"CachesDeleted":null,"SpaceReclaimed":0}` + "\n"},
		{"POST", "/build/prune?max-used-space=lots", "", 400, `max-used-space is in bytes and expects an integer, got lots: strconv.Atoi: parsing "lots": invalid syntax`},
		{"GET", "/system/df?type=build-cache", "", 200, `{"LayersSize":0,"Images":null,"Containers":null,"Volumes":null,"BuildCache":[]}` + "\n"},
		{"GET", "/system/df?type=weather", "", 400, "unknown object type: weather"},
		{"GET", "/events?since=now", "", 500, `strconv.ParseInt: parsing "now": invalid syntax`},
		{"GET", "/events?since=20&until=10", "", 400, "`since` time (20) cannot be after `until` time (10)"},
		{"GET", "/events?filters=x", "", 400, "invalid filter"},
		{"GET", "/containers/json?limit=x", "", 500, `strconv.Atoi: parsing "x": invalid syntax`},
		{"GET", "/containers/json?filters=x", "", 400, "invalid filter"},
		{"GET", "/networks?filters=x", "", 400, "invalid filter"},
		{"GET", `/networks?filters={"nothing":["x"]}`, "", 400, "invalid filter 'nothing'"},
		{"GET", "/networks/x?verbose=maybe", "", 400, `invalid value for verbose: maybe: strconv.ParseBool: parsing "maybe": invalid syntax`},
		{"GET", "/volumes?filters=x", "", 400, "error reading volume filters: invalid filter"},
		{"POST", "/containers/x/start", `{"Binds":[]}`, 400, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"},
		{"POST", "/containers/x/resize?h=1", "", 400, `invalid resize width "": invalid syntax`},
		{"POST", "/containers/x/exec", `{}`, 400, "No exec command specified"},
		{"POST", "/containers/x/exec", `{"Cmd":"ls"}`, 400, "invalid JSON: json: cannot unmarshal string into Go struct field ExecOptions.Cmd of type []string"},
		{"GET", "/containers/x/archive", "", 400, "bad parameter: pathcannot be empty"},
		{"POST", "/build", "", 501, "building images is not supported by this engine: build elsewhere, for example with a docker-container buildx builder, and load or pull the result"},
	} {
		w := newFakes().ask(t, tc.method, tc.path, tc.body)
		assert.Check(t, cmp.Equal(w.Code, tc.code), "%s %s", tc.method, tc.path)
		got := w.Body.String()
		if tc.code >= http.StatusBadRequest {
			got = message(t, w)
		}
		assert.Check(t, cmp.Equal(got, tc.want), "%s %s", tc.method, tc.path)
		assert.Check(t, v.Check(tc.method, tc.path, w.Code, w.Header().Get("Content-Type"), w.Body.Bytes()))
	}
}
