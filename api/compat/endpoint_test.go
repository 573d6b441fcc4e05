package compat

import (
	"testing"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
)

// Fields that are in an answer even when empty are not in that of a version from before them; all others are.
func TestFieldsOfNewerVersionsAreLeftOut(t *testing.T) {
	eps := func() map[string]*network.EndpointSettings {
		return map[string]*network.EndpointSettings{"bridge": {NetworkID: "n", IPAddress: "10.0.0.2", DNSNames: []string{"web"}}, "none": nil}
	}
	list := func() []*container.Summary {
		return []*container.Summary{{ID: "c", Names: []string{"/web"}, NetworkSettings: &container.NetworkSettingsSummary{Networks: eps()}}}
	}
	check := func(v Version, settings any) {
		t.Helper()
		all := settings.(map[string]any)["Networks"].(map[string]any)
		assert.Check(t, all["none"] == nil)
		ep := all["bridge"].(map[string]any)
		assert.Equal(t, ep["IPAddress"], "10.0.0.2")
		assert.Equal(t, has(ep, "GwPriority"), v >= 48, "%v", v)
		assert.Equal(t, has(ep, "DNSNames"), v >= 44, "%v", v)
	}
	for _, v := range []Version{24, 43, 44, 47, 48, 51} {
		m := asJSON(t, map[string]any{"list": ContainerList(v, list())})
		c := m["list"].([]any)[0].(map[string]any)
		assert.Equal(t, c["Id"], "c")
		check(v, c["NetworkSettings"])

		settings := &container.NetworkSettings{Networks: eps()}
		settings.SandboxID = "s"
		i := asJSON(t, ContainerInspect(v, &container.InspectResponse{
			ContainerJSONBase: &container.ContainerJSONBase{ID: "c"}, Config: &container.Config{}, NetworkSettings: settings,
		}))
		assert.Equal(t, i["Id"], "c")
		assert.Equal(t, i["NetworkSettings"].(map[string]any)["SandboxID"], "s")
		check(v, i["NetworkSettings"])

		du := asJSON(t, DiskUsage(v, &types.DiskUsage{LayersSize: 7, Containers: list(), Images: []*image.Summary{{ID: "i", Descriptor: &ocispec.Descriptor{}}}}))
		assert.Equal(t, du["LayersSize"], 7.0)
		check(v, du["Containers"].([]any)[0].(map[string]any)["NetworkSettings"])
		assert.Equal(t, has(du["Images"].([]any)[0].(map[string]any), "Descriptor"), v >= 48)

		info, err := Info(v, &system.Info{ID: "x", CDISpecDirs: []string{"/etc/cdi"}})
		assert.NilError(t, err)
		assert.Equal(t, has(asJSON(t, info), "CDISpecDirs"), v >= 44)

		n := asJSON(t, NetworkInspect(v, network.Inspect{Name: "bridge", EnableIPv4: true}))
		assert.Equal(t, n["Name"], "bridge")
		assert.Equal(t, has(n, "EnableIPv4"), v >= 48)
	}
	m := asJSON(t, map[string]any{"a": ContainerList(41, nil), "b": ContainerList(51, nil), "c": NetworkList(51, nil)})
	assert.DeepEqual(t, m, map[string]any{"a": []any{}, "b": []any{}, "c": []any{}})
}
