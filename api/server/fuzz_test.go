package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
)

// FuzzCreateOfAllVersions has a server take any body, query and version for a container: it is refused as the client's fault, or
// reaches the backend whole.
func FuzzCreateOfAllVersions(f *testing.F) {
	for _, seed := range []string{
		`{"Image":"busybox"}`,
		`{"Image":"busybox","Cmd":"sh","Entrypoint":["a"],"Env":["A=1"],"Healthcheck":{"Test":["CMD","true"],"Interval":1}}`,
		`{"Image":"x","HostConfig":{"Ulimits":[null],"Mounts":[null,{"Type":"volume","VolumeOptions":null}],"PortBindings":{"80/tcp":null},"Devices":[null]}}`,
		`{"Image":"x","MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"x","Sysctls":{"net.ipv4.conf.eth0.forwarding":"1"},"KernelMemory":5}}`,
		`{"Image":"x","NetworkingConfig":{"EndpointsConfig":{"x":null,"y":{"IPAMConfig":null}}},"HostConfig":null}`,
		`{"HostConfig":{"Memory":1e99}}`, `null`, `[]`, `{`, "{\"Image\":\"\xff\"}", `{"Image":"x"} x`,
	} {
		f.Add(seed, "name=x&platform=linux/arm64", uint8(51))
		f.Add(seed, "", uint8(24))
	}
	fakes := newFakes()
	fakes.containers.create = func(cfg backend.ContainerCreateConfig) (container.CreateResponse, error) {
		return container.CreateResponse{ID: "x"}, nil
	}
	s := New(fakes.config())
	f.Fuzz(func(t *testing.T, body, query string, minor uint8) {
		r := httptest.NewRequest(http.MethodPost, "/v1."+versionOf(minor)+"/containers/create", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", "application/json")
		w := newRecorder()
		s.ServeHTTP(w, r)
		if strings.Contains(w.Body.String(), "must be supplied using driver option") {
			return // Docker has no class for this refusal, so it is a 500 there as well
		}
		if w.Code != http.StatusCreated && w.Code != http.StatusBadRequest {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}

// versionOf maps any number to a version that is served.
func versionOf(n uint8) string {
	minor := 24 + int(n)%28
	return string([]byte{byte('0' + minor/10), byte('0' + minor%10)})
}
