package logs

import (
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
)

func TestValidateSpeaksAsDocker(t *testing.T) {
	for _, tc := range []struct {
		driver string
		opts   map[string]string
		err    string
	}{
		{JSONFile, nil, ""},
		{JSONFile, map[string]string{"max-size": "10m", "max-file": "3", "compress": "true", "labels": "a", "tag": "{{.ID}}"}, ""},
		{JSONFile, map[string]string{"max-size": "bad"}, ""}, // found when the log is opened, as Docker does
		{JSONFile, map[string]string{"mode": "non-blocking", "max-buffer-size": "4m"}, ""},
		{None, map[string]string{"anything": "goes"}, ""},
		{"x", nil, `error looking up logging plugin x: plugin "x" not found`},
		{JSONFile, map[string]string{"max-sized": "1"}, "unknown log opt 'max-sized' for json-file log driver"},
		{JSONFile, map[string]string{"mode": "fast"}, "logger: logging mode not supported: fast"},
		{JSONFile, map[string]string{"max-buffer-size": "4m"}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{JSONFile, map[string]string{"mode": "non-blocking", "max-buffer-size": "z"}, "error parsing option max-buffer-size: invalid size: 'z'"},
	} {
		err := Validate(tc.driver, tc.opts)
		if tc.err == "" {
			assert.NilError(t, err)
			continue
		}
		assert.Error(t, err, tc.err)
		assert.Assert(t, errdefs.IsInvalidArgument(err))
	}
}

func TestOpenRefusesBadValues(t *testing.T) {
	for _, tc := range []struct {
		opts map[string]string
		err  string
	}{
		{map[string]string{"max-size": "foo"}, "invalid size: 'foo'"},
		{map[string]string{"max-size": "0"}, "max-size must be a positive number"},
		{map[string]string{"max-file": "0"}, "max-file cannot be less than 1"},
		{map[string]string{"max-file": "many"}, `strconv.Atoi: parsing "many": invalid syntax`},
		{map[string]string{"compress": "maybe"}, `strconv.ParseBool: parsing "maybe": invalid syntax`},
		{map[string]string{"compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set"},
		{map[string]string{"labels-regex": "("}, "error parsing regexp: missing closing ): `(`"},
		{map[string]string{"tag": "{{.Nope}}"}, `template: log-tag:1:2: executing "log-tag" at <.Nope>: can't evaluate field Nope in type *logs.Info`},
		{map[string]string{"tag": `{{pad "x" 70000 0}}`}, `template: log-tag:1:2: executing "log-tag" at <pad "x" 70000 0>: error calling pad: the tag is longer than 65536 bytes`},
		{map[string]string{"tag": `{{range 70000}}x{{end}}`}, "the tag is longer than 65536 bytes"},
	} {
		_, err := Open(JSONFile, filepath.Join(t.TempDir(), "log"), tc.opts)
		assert.Error(t, err, tc.err)
		assert.Assert(t, errdefs.IsInvalidArgument(err))
	}
	w, err := Open(None, "", nil)
	assert.NilError(t, err)
	assert.Assert(t, w == nil)
}

func TestAttributes(t *testing.T) {
	info := Info{
		ContainerID: "0123456789abcdef", ContainerName: "/web", ContainerImageName: "busybox",
		ContainerLabels: map[string]string{"a": "1", "b": "2", "app.x": "3"},
		ContainerEnv:    []string{"A=from env", "PATH=/bin", "E=e=e", "novalue"},
	}
	for _, tc := range []struct {
		opts map[string]string
		want string
	}{
		{nil, ""},
		{map[string]string{"labels": "a,zz"}, `{"a":"1"}`},
		{map[string]string{"labels-regex": "^app", "env": "E,Q"}, `{"E":"e=e","app.x":"3"}`},
		{map[string]string{"env-regex": "^(A|PATH)$"}, `{"A":"from env","PATH":"/bin"}`},
		{map[string]string{"tag": "{{.Name}}/{{.ID}}/{{upper .ImageName}}"}, `{"tag":"web/0123456789ab/BUSYBOX"}`},
	} {
		got, err := attributes(info, tc.opts)
		assert.NilError(t, err)
		assert.Equal(t, string(got), tc.want)
	}
}
