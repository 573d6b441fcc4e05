package network

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/api/compat"
)

// two networks, of which "gone" is removed between list and inspect. Anything else panics.
type two struct{ Backend }

func (two) List(context.Context, filters.Args) ([]network.Inspect, error) {
	return []network.Inspect{{ID: "blue"}, {ID: "gone"}}, nil
}

func (two) Inspect(_ context.Context, ref, _ string, _ bool) (*network.Inspect, error) {
	if ref == "gone" {
		return nil, errdefs.ErrNotFound
	}
	return &network.Inspect{ID: ref, Containers: map[string]network.EndpointResource{"c": {Name: "web"}}}, nil
}

func TestListOfOldVersionsHasTheContainers(t *testing.T) {
	for _, v := range []compat.Version{24, 27, 28, 51} {
		r := httptest.NewRequest(http.MethodGet, "/networks", nil)
		w := httptest.NewRecorder()
		assert.NilError(t, handlers{two{}}.list(w, r.WithContext(compat.With(r.Context(), v))))
		var list []network.Inspect
		assert.NilError(t, json.Unmarshal(w.Body.Bytes(), &list))
		assert.Equal(t, len(list), 2)
		assert.Equal(t, list[0].Containers["c"].Name == "web", v < 28)
		assert.Equal(t, list[1].ID, "gone")
	}
}
