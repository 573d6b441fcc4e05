package volume_test

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/mount"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/volume"
)

func TestParseBind(t *testing.T) {
	bind := func(source string, p mount.Propagation, ro bool) mount.Mount {
		return mount.Mount{Type: mount.TypeBind, Source: source, Target: "/c", ReadOnly: ro, BindOptions: &mount.BindOptions{Propagation: p}}
	}
	named := func(ro bool, o *mount.VolumeOptions) mount.Mount {
		return mount.Mount{Type: mount.TypeVolume, Source: "name", Target: "/c", ReadOnly: ro, VolumeOptions: o}
	}
	tests := []struct {
		raw, driver string
		want        mount.Mount
		mode        string
		err         string
	}{
		{raw: "/h:/c", want: bind("/h", "rprivate", false)},
		{raw: "/h/../x/:/c/", want: bind("/x", "rprivate", false)},
		{raw: "/h:/c:ro", want: bind("/h", "rprivate", true), mode: "ro"},
		{raw: "/h:/c:rw,z", want: bind("/h", "rprivate", false), mode: "rw,z"},
		{raw: "/h:/c:Z,rslave,ro", want: bind("/h", "rslave", true), mode: "Z,rslave,ro"},
		{raw: "/h:/c:cached", want: bind("/h", "rprivate", false), mode: "cached"},
		{raw: "name:/c", want: named(false, nil)},
		{raw: "name:/c:ro", want: named(true, nil), mode: "ro"},
		{raw: "name:/c:nocopy", want: named(false, &mount.VolumeOptions{NoCopy: true}), mode: "nocopy"},
		{raw: "name:/c", driver: "local", want: named(false, &mount.VolumeOptions{DriverConfig: &mount.Driver{Name: "local"}})},
		{raw: "/c", want: mount.Mount{Type: mount.TypeVolume, Target: "/c"}},

		{raw: "", err: "invalid volume specification: ''"},
		{raw: ":/c", err: "invalid volume specification: ':/c'"},
		{raw: "/c:rw", err: "invalid volume specification: '/c:rw'"},
		{raw: "a:b:c:d", err: "invalid volume specification: 'a:b:c:d'"},
		{raw: "/h:/c:bad", err: "invalid mode: bad"},
		{raw: "/h:/c:ro,rw", err: "invalid mode: ro,rw"},
		{raw: "/h:/c:z,Z", err: "invalid mode: z,Z"},
		{raw: "/h:/", err: `invalid volume specification: '/h:/': invalid mount config for type "bind": invalid specification: destination can't be '/'`},
		{raw: "/h:c", err: `invalid volume specification: '/h:c': invalid mount config for type "bind": invalid mount path: 'c' mount path must be absolute`},
		{raw: "name:/c:rslave", err: `invalid volume specification: 'name:/c:rslave': invalid mount config for type "volume": field BindOptions must not be specified`},
		{raw: "/h:/c:nocopy", err: `invalid volume specification: '/h:/c:nocopy': invalid mount config for type "bind": field VolumeOptions must not be specified`},
		{raw: "name::ro", err: `invalid volume specification: 'name::ro': invalid mount config for type "volume": field Target must not be empty`},
	}
	for _, tc := range tests {
		t.Run(tc.raw, func(t *testing.T) {
			s, err := volume.ParseBind(tc.raw, tc.driver)
			if tc.err != "" {
				assert.Error(t, err, tc.err)
				assert.ErrorType(t, err, errdefs.IsInvalidArgument)
				return
			}
			assert.NilError(t, err)
			assert.DeepEqual(t, s.Mount, tc.want)
			assert.Equal(t, s.Mode, tc.mode)
			assert.Assert(t, !s.NoCreate)
		})
	}
}

func TestParseMount(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		m    mount.Mount
		err  string
	}{
		{"bind", mount.Mount{Type: "bind", Source: dir, Target: "/c"}, ""},
		{"bind that is made", mount.Mount{Type: "bind", Source: dir + "/no", Target: "/c", BindOptions: &mount.BindOptions{CreateMountpoint: true}}, ""},
		{"bind absent", mount.Mount{Type: "bind", Source: "/no/such", Target: "/c"}, `invalid mount config for type "bind": bind source path does not exist: /no/such`},
		{"bind without source", mount.Mount{Type: "bind", Target: "/c"}, `invalid mount config for type "bind": field Source must not be empty`},
		{"bind relative", mount.Mount{Type: "bind", Source: "x", Target: "/c"}, `invalid mount config for type "bind": invalid mount path: 'x' mount path must be absolute`},
		{"bind propagation", mount.Mount{Type: "bind", Source: dir, Target: "/c", BindOptions: &mount.BindOptions{Propagation: "up"}}, `invalid mount config for type "bind": invalid propagation mode: up`},
		{"bind with volume options", mount.Mount{Type: "bind", Source: dir, Target: "/c", VolumeOptions: &mount.VolumeOptions{}}, `invalid mount config for type "bind": field VolumeOptions must not be specified`},
		{"bind read-write and not", mount.Mount{Type: "bind", Source: dir, Target: "/c", BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}}, `mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive`},
		{"volume", mount.Mount{Type: "volume", Source: "v", Target: "/c"}, ""},
		{"volume anonymous", mount.Mount{Type: "volume", Target: "/c"}, ""},
		{"volume anonymous read-only", mount.Mount{Type: "volume", Target: "/c", ReadOnly: true}, `invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes`},
		{"volume anonymous subpath", mount.Mount{Type: "volume", Target: "/c", VolumeOptions: &mount.VolumeOptions{Subpath: "a"}}, `invalid mount config for type "volume": must not set Subpath when using anonymous volumes`},
		{"volume subpath out", mount.Mount{Type: "volume", Source: "v", Target: "/c", VolumeOptions: &mount.VolumeOptions{Subpath: "../a"}}, `invalid mount config for type "volume": subpath must be a relative path within the volume`},
		{"tmpfs", mount.Mount{Type: "tmpfs", Target: "/c", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20, Mode: 0o1770}}, ""},
		{"tmpfs with source", mount.Mount{Type: "tmpfs", Source: "x", Target: "/c"}, `invalid mount config for type "tmpfs": field Source must not be specified`},
		{"tmpfs option", mount.Mount{Type: "tmpfs", Target: "/c", TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"suid"}}}}, `invalid mount config for type "tmpfs": invalid option: suid`},
		{"no target", mount.Mount{Type: "tmpfs"}, `invalid mount config for type "tmpfs": field Target must not be empty`},
		{"type unknown", mount.Mount{Type: "nfs", Target: "/c"}, `invalid mount config for type "nfs": mount type unknown`},
		{"image", mount.Mount{Type: "image", Source: "busybox", Target: "/c"}, ""},
		{"image without name", mount.Mount{Type: "image", Target: "/c"}, `invalid mount config for type "image": field Source must not be empty`},
		{"image out", mount.Mount{Type: "image", Source: "busybox", Target: "/c", ImageOptions: &mount.ImageOptions{Subpath: "../x"}},
			`invalid mount config for type "image": subpath must be a relative path within the volume`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := volume.ParseMount(tc.m)
			if tc.err == "" {
				assert.NilError(t, err)
				return
			}
			assert.Error(t, err, tc.err)
			assert.ErrorType(t, err, errdefs.IsInvalidArgument)
		})
	}
}

func TestParseFrom(t *testing.T) {
	for raw, want := range map[string]struct {
		container string
		readOnly  bool
		err       string
	}{
		"c":          {container: "c"},
		"c:ro":       {container: "c", readOnly: true},
		"c:rw":       {container: "c"},
		"c:z":        {container: "c"},
		"":           {err: "volumes-from specification cannot be an empty string"},
		"c:x":        {err: "invalid mode: x"},
		"c:rslave":   {err: "invalid mode: rslave"},
		"c:nocopy":   {err: "invalid mode: nocopy"},
		"c:ro,rw":    {err: "invalid mode: ro,rw"},
		"c:ro:extra": {err: "invalid mode: ro:extra"},
	} {
		t.Run(raw, func(t *testing.T) {
			container, readOnly, err := volume.ParseFrom(raw)
			if want.err != "" {
				assert.Error(t, err, want.err)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, container, want.container)
			assert.Equal(t, readOnly, want.readOnly)
		})
	}
}

func TestTmpfsOptions(t *testing.T) {
	tests := []struct {
		m    mount.Mount
		want []string
	}{
		{mount.Mount{}, nil},
		{mount.Mount{ReadOnly: true}, []string{"ro"}},
		{mount.Mount{TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 3 << 30, Mode: 0o700}}, []string{"mode=700", "size=3g"}},
		{mount.Mount{TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 5 << 20}}, []string{"size=5m"}},
		{mount.Mount{TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1025}}, []string{"size=1025"}},
		{mount.Mount{TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"exec"}}}}, []string{"exec"}},
	}
	for _, tc := range tests {
		got, err := volume.TmpfsOptions(&tc.m)
		assert.NilError(t, err)
		assert.DeepEqual(t, got, tc.want)
	}
}

func TestMergeTmpfs(t *testing.T) {
	got, err := volume.MergeTmpfs([]string{"", "exec", "size=64m", "mode=1777"})
	assert.NilError(t, err)
	assert.Check(t, is.Contains(got, "exec"))
	assert.Check(t, is.Contains(got, "nosuid"))
	assert.Check(t, is.Contains(got, "size=64m"))
	for _, o := range got {
		assert.Check(t, o != "noexec", got)
	}
	_, err = volume.MergeTmpfs([]string{"color=blue"})
	assert.Error(t, err, `invalid tmpfs option "color"`)
	assert.ErrorType(t, err, errdefs.IsInvalidArgument)
}
