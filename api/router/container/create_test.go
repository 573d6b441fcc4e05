package container

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/api/compat"
)

// creator takes create requests; anything else panics.
type creator struct {
	Backend
	got      backend.ContainerCreateConfig
	warnings []string
}

func (c *creator) Create(_ context.Context, req backend.ContainerCreateConfig) (container.CreateResponse, error) {
	c.got = req
	return container.CreateResponse{ID: "x", Warnings: c.warnings}, nil
}

func create(t *testing.T, c *creator, v compat.Version, query, body string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/containers/create?"+query, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	return w, handlers{backend: c, cgroup2: true}.create(w, r.WithContext(compat.With(r.Context(), v)))
}

func TestCreate(t *testing.T) {
	c := &creator{}
	w, err := create(t, c, compat.Newest, "name=web&platform=linux/amd64", `{"Image":"busybox","Cmd":"echo hi","HostConfig":{"PidsLimit":-1,"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["a"]}}}}`)
	assert.NilError(t, err)
	assert.Equal(t, w.Code, http.StatusCreated)
	assert.Equal(t, w.Body.String(), `{"Id":"x","Warnings":[]}`+"\n")
	assert.Equal(t, c.got.Name, "web")
	assert.Equal(t, c.got.Platform.Architecture, "amd64")
	assert.DeepEqual(t, []string(c.got.Config.Cmd), []string{"echo hi"})
	assert.Assert(t, c.got.HostConfig.PidsLimit == nil)
	assert.Assert(t, c.got.Config.Volumes != nil)
	// "default" is called by its name from here on.
	assert.Equal(t, string(c.got.HostConfig.NetworkMode), "bridge")
	assert.DeepEqual(t, c.got.NetworkingConfig.EndpointsConfig["bridge"].Aliases, []string{"a"})
	assert.Equal(t, len(c.got.NetworkingConfig.EndpointsConfig), 1)
}

func TestCreateFillsInWhatIsMissing(t *testing.T) {
	c := &creator{warnings: []string{"from the engine"}}
	w, err := create(t, c, compat.Newest, "", `{"Image":"busybox","MacAddress":"02:42:ac:11:00:02"}`)
	assert.NilError(t, err)
	assert.Assert(t, c.got.HostConfig != nil && c.got.NetworkingConfig.EndpointsConfig["bridge"].MacAddress != "")
	var resp container.CreateResponse
	assert.NilError(t, json.Unmarshal(w.Body.Bytes(), &resp))
	assert.DeepEqual(t, resp.Warnings, []string{"from the engine", "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."})
}

func TestCreateRefusals(t *testing.T) {
	for body, want := range map[string]string{
		``:                  "invalid JSON: got EOF while reading request body",
		` `:                 "invalid JSON: got EOF while reading request body",
		`{}`:                "config cannot be empty in order to create a container",
		`null`:              "config cannot be empty in order to create a container",
		`{"HostConfig":{}}`: "config cannot be empty in order to create a container",
		`{"Image":1}`:       "invalid JSON: json: cannot unmarshal number into Go struct field ",
		`[]`:                "invalid JSON: json: cannot unmarshal array into Go value of type container.CreateRequest",
		`{"Image":"x"}{`:    "unexpected content after JSON",
		`{"Image":"x","HostConfig":{"Isolation":"hyperv"}}`: "invalid isolation (hyperv): linux only supports 'default'",
		`{"Image":"x","HostConfig":{"Memory":-1.5}}`:        "invalid JSON: json: cannot unmarshal number -1.5 into Go struct field ",
		`{"Image":"x","ExposedPorts":{"1":{}}}`:             "",
	} {
		_, err := create(t, &creator{}, compat.Newest, "", body)
		if want == "" {
			assert.Check(t, err, body)
			continue
		}
		assert.Check(t, cmp.ErrorContains(err, want), body)
		assert.Check(t, errdefs.IsInvalidArgument(err), body)
	}
	_, err := create(t, &creator{}, compat.Newest, "platform=a/b/c/d", `{"Image":"x"}`)
	assert.Assert(t, errdefs.IsInvalidArgument(err))
	_, err = create(t, &creator{}, 40, "platform=a/b/c/d", `{"Image":"x"}`) // meant nothing then
	assert.NilError(t, err)
}

// Ten thousand labels are many, and fine.
func TestCreateWithManyLabels(t *testing.T) {
	labels := map[string]string{}
	for i := range 10_000 {
		labels[fmt.Sprintf("label-%d", i)] = strings.Repeat("v", 100)
	}
	raw, err := json.Marshal(container.CreateRequest{Config: &container.Config{Labels: labels}})
	assert.NilError(t, err)
	c := &creator{}
	_, err = create(t, c, compat.Newest, "", string(raw))
	assert.NilError(t, err)
	assert.Equal(t, len(c.got.Config.Labels), len(labels))
}

func FuzzCreate(f *testing.F) {
	f.Add(51, `{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","BindOptions":null}]},"NetworkingConfig":{"EndpointsConfig":{"a":null}}}`)
	f.Add(24, `{"Image":"x","MacAddress":"x","HostConfig":{"NetworkMode":"host","Sysctls":{"net.ipv4.conf.eth0.x":"1"}}}`)
	f.Add(43, `{"Cmd":["a"],"Healthcheck":null,"HostConfig":{"PidsLimit":0,"PortBindings":{"80/tcp":null}}}`)
	f.Fuzz(func(t *testing.T, v int, body string) {
		c := &creator{}
		_, err := create(t, c, compat.Version(24+max(v%28, 0)), "", body)
		if err == nil && (c.got.Config == nil || c.got.HostConfig == nil || c.got.NetworkingConfig.EndpointsConfig == nil) {
			t.Fatal("the backend must get all parts")
		}
	})
}
