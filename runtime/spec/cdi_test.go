package spec

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

const board = `{
  "cdiVersion": "0.5.0", "kind": "vendor.com/board",
  "containerEdits": {"env": ["BOARD=yes"]},
  "devices": [{"name": "one", "containerEdits": {
    "deviceNodes": [{"path": "/dev/board", "type": "c", "major": 1, "minor": 3}],
    "mounts": [{"hostPath": "/opt", "containerPath": "/opt/board", "options": ["ro"]}]
  }}]
}`

func TestCDI(t *testing.T) {
	first, second := t.TempDir(), filepath.Join(t.TempDir(), "made later")
	h := testHost()
	h.CDI = NewCDI([]string{first, second})
	request := func(r container.DeviceRequest) (*specs.Spec, error) {
		return Build(testInput(func(in *Input) { in.Host, in.HostConfig.DeviceRequests = h, []container.DeviceRequest{r} }))
	}
	one := container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"vendor.com/board=one"}}

	_, err := request(one)
	assert.Error(t, err, "CDI device injection failed: unresolvable CDI devices vendor.com/board=one")
	names, warnings := h.CDI.Devices()
	assert.Equal(t, len(names)+len(warnings), 0)

	assert.NilError(t, os.Mkdir(second, 0o755))
	assert.NilError(t, os.WriteFile(filepath.Join(second, "board.json"), []byte(board), 0o644))
	assert.NilError(t, os.WriteFile(filepath.Join(first, "broken.json"), []byte("{"), 0o644))
	s, err := request(one)
	assert.NilError(t, err)
	assert.Assert(t, slices.Contains(s.Process.Env, "BOARD=yes"))
	assert.Assert(t, slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/board" }))
	assert.Assert(t, slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/opt/board" }))
	rules := s.Linux.Resources.Devices
	assert.Equal(t, *rules[len(rules)-1].Minor, int64(3))

	names, warnings = h.CDI.Devices()
	assert.DeepEqual(t, names, []string{"vendor.com/board=one"})
	assert.Equal(t, len(warnings), 1)
	assert.Assert(t, is.Contains(warnings[0], "broken.json"))

	_, err = request(container.DeviceRequest{Driver: "cdi", Count: 1, DeviceIDs: one.DeviceIDs})
	assert.Error(t, err, "unexpected count in CDI device request")
	_, err = request(container.DeviceRequest{Driver: "cdi", Options: map[string]string{"a": "b"}, DeviceIDs: one.DeviceIDs})
	assert.Error(t, err, "unexpected options in CDI device request")
}
