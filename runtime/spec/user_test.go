package spec

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
)

func TestResolveUser(t *testing.T) {
	root := t.TempDir()
	assert.NilError(t, os.MkdirAll(filepath.Join(root, "real"), 0o755))
	assert.NilError(t, os.Symlink("/real", filepath.Join(root, "etc"))) // a link that would lead out
	assert.NilError(t, os.WriteFile(filepath.Join(root, "real/passwd"), []byte("root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n"), 0o644))
	assert.NilError(t, os.WriteFile(filepath.Join(root, "real/group"), []byte("root:x:0:\nwheel:x:10:root\nann:x:1001:\nstaff:x:50:ann\naudio:x:29:\n"), 0o644))
	for _, c := range []struct {
		user   string
		groups []string
		want   specs.User
		err    string
	}{
		{user: "", want: specs.User{AdditionalGids: []uint32{0, 10}}},
		{user: "root", want: specs.User{AdditionalGids: []uint32{0, 10}}},
		{user: "ann", want: specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 50}}},
		{user: "1000", want: specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 50}}},
		{user: "5", want: specs.User{UID: 5, AdditionalGids: []uint32{0}}},
		{user: "5:6", want: specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6}}},
		{user: "ann:staff", want: specs.User{UID: 1000, GID: 50, AdditionalGids: []uint32{50}}},
		{user: "ann", groups: []string{"audio", "77"}, want: specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 50, 29, 77}}},
		{user: "bob", err: "unable to find user bob: no matching entries in passwd file"},
		{user: "ann:club", err: "unable to find group club: no matching entries in group file"},
		{user: "ann", groups: []string{"audio", ""}, err: "unable to find group : no matching entries in group file"},
		{user: "ann", groups: []string{"club"}, err: "unable to find group club: no matching entries in group file"},
	} {
		t.Run(c.user, func(t *testing.T) {
			got, err := ResolveUser(root, c.user, c.groups)
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
				return
			}
			assert.NilError(t, err)
			got.AdditionalGids = sortedTail(got.AdditionalGids, c.want.AdditionalGids)
			assert.DeepEqual(t, got, c.want)
		})
	}
	empty := t.TempDir()
	got, err := ResolveUser(empty, "", nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, specs.User{AdditionalGids: []uint32{0}})
}

// sortedTail brings the groups that come from a map into the order of want.
func sortedTail(got, want []uint32) []uint32 {
	if len(got) != len(want) {
		return got
	}
	seen := map[uint32]bool{}
	for _, g := range got {
		seen[g] = true
	}
	for _, w := range want {
		if !seen[w] {
			return got
		}
	}
	return want
}
