package engine

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestPushRecordsTheDigest(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	repo := reg.Host() + "/app"
	r.put(t, oneFile(t, 1, "x"), repo+":1", repo+":2")
	var out bytes.Buffer
	start := r.now()
	assert.NilError(t, r.Push(r.ctx, repo+":1", nil, nil, &out))
	lines := statuses(t, &out)
	assert.Equal(t, lines[0], "The push refers to repository ["+repo+"]")
	img, err := r.Inspect(r.ctx, repo+":1", backend.ImageInspectOpts{})
	assert.NilError(t, err)
	assert.Equal(t, len(img.RepoDigests), 1)
	_, digest, _ := strings.Cut(img.RepoDigests[0], "@")
	assert.Check(t, strings.HasPrefix(lines[len(lines)-1], "1: digest: "+digest+" size: "), "%q", lines)
	told := r.told(t, start)
	assert.Equal(t, told[0].Action, events.ActionPush)
	assert.Equal(t, told[0].Actor.ID, repo+":1")
	assert.Equal(t, reg.Requests("PUT /v2/app/manifests/2"), 0)

	assert.NilError(t, r.Push(r.ctx, repo, nil, nil, &out))
	assert.Equal(t, reg.Requests("PUT /v2/app/manifests/2"), 1)
	out.Reset()
	info, err := r.Distribution(r.ctx, repo+":2", nil)
	assert.NilError(t, err)
	assert.Equal(t, info.Descriptor.Digest.String(), digest)
	assert.Equal(t, info.Platforms[0].Architecture, "amd64")

	for ref, words := range map[string]string{
		repo + ":9":           "error: tag does not exist: " + repo + ":9",
		reg.Host() + "/other": "error: An image does not exist locally with the tag: " + reg.Host() + "/other",
	} {
		assert.NilError(t, r.Push(r.ctx, ref, nil, nil, &out))
		lines := statuses(t, &out)
		assert.Equal(t, lines[len(lines)-1], words)
	}
	err = r.Push(r.ctx, repo+"@sha256:"+strings.Repeat("0", 64), nil, nil, &out)
	assert.Error(t, err, "cannot push a digest reference")
	err = r.Push(r.ctx, repo+":1", &ocispec.Platform{OS: "linux", Architecture: "arm64"}, nil, &out)
	assert.Check(t, errdefs.IsNotFound(err), "%v", err)
	assert.Equal(t, out.Len(), 0)
}

// TestPushMountsWhatTheRegistryHas: a layer that was pulled from or pushed to a registry is not sent to another repository there.
func TestPushMountsWhatTheRegistryHas(t *testing.T) {
	r := newImageRig(t)
	reg, other := imagetest.NewRegistry(t), imagetest.NewRegistry(t)
	reg.KeepApart()
	other.KeepApart()
	base := reg.Host() + "/team/base:1"
	imagetest.Push(t, base, oneFile(t, 1, "x"))
	var out bytes.Buffer
	assert.NilError(t, r.Pull(r.ctx, base, false, nil, nil, &out))
	const imported = "imported:1" // kept as it is unpacked, and compressed to be sent
	assert.NilError(t, r.Import(r.ctx, imported, nil, "", nil, bytes.NewReader(imagetest.Tar(t, [2]string{"f", "x"})), &out))
	for _, c := range []struct{ image, to, want string }{
		{base, reg.Host() + "/mine:1", "Mounted from team/base"},
		{base, reg.Host() + "/mine:1", "Layer already exists"},
		{base, other.Host() + "/mine:1", "Pushed"},
		{base, other.Host() + "/yours:1", "Mounted from mine"},
		{imported, other.Host() + "/first:1", "Pushed"},
		{imported, other.Host() + "/second:1", "Mounted from first"},
	} {
		assert.NilError(t, r.Tag(r.ctx, c.image, c.to))
		out.Reset()
		assert.NilError(t, r.Push(r.ctx, c.to, nil, nil, &out))
		assert.Check(t, is.Contains(out.String(), c.want), c.to)
	}
}

func TestSave(t *testing.T) {
	r := newImageRig(t)
	a, b := r.put(t, oneFile(t, 1, "a"), "app:1", "other:1"), r.put(t, oneFile(t, 2, "b"), "app:2")
	cases := []struct {
		name string
		refs []string
		want []string
	}{
		{"a tag", []string{"app:1"}, []string{"Loaded image: app:1"}},
		{"a repository", []string{"app"}, []string{"Loaded image: app:1", "Loaded image: app:2"}},
		{"an id", []string{string(a)[7:19]}, []string{"Loaded image ID: " + string(a)}},
		{"several", []string{"other:1", "app:2", "other:1", string(b)}, []string{"Loaded image: other:1", "Loaded image: app:2"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out, told bytes.Buffer
			start := r.now()
			assert.NilError(t, r.Save(r.ctx, c.refs, nil, &out))
			assert.Equal(t, r.actions(t, start)[0], "save")
			other := r.as(nereid.Account(strings.ReplaceAll(t.Name(), "/", "-")))
			assert.NilError(t, other.Load(other.ctx, &out, nil, true, &told))
			assert.DeepEqual(t, statuses(t, &told), c.want)
		})
	}
	var out bytes.Buffer
	assert.Error(t, r.Save(r.ctx, []string{"app:1", "nothing"}, nil, &out), "No such image: nothing:latest")
	err := r.Save(r.ctx, []string{"app:1"}, []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}, &out)
	assert.Error(t, err, "no suitable export target found for platform linux/arm64")
	assert.Equal(t, out.Len(), 0)
}

func TestSearchFilters(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	reg.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		json.NewEncoder(w).Encode(registry.SearchResults{Results: []registry.SearchResult{
			{Name: "a", StarCount: 3, IsOfficial: true}, {Name: "b", StarCount: 30}, {Name: "c"},
		}})
	})
	for name, c := range map[string]struct {
		filters []filters.KeyValuePair
		want    string
	}{
		"all":          {nil, "a b c"},
		"stars":        {args("stars", "3"), "a b"},
		"official":     {args("is-official", "true"), "a"},
		"not official": {args("is-official", "false", "stars", "1"), "b"},
		"automated":    {args("is-automated", "true"), ""},
	} {
		found, err := r.Search(r.ctx, reg.Host()+"/x", 0, filters.NewArgs(c.filters...), nil)
		assert.NilError(t, err)
		var names []string
		for _, f := range found {
			names = append(names, f.Name)
		}
		assert.Equal(t, strings.Join(names, " "), c.want, name)
	}
	_, err := r.Search(r.ctx, "x", 0, filters.NewArgs(args("stars", "many")...), nil)
	assert.Error(t, err, "invalid filter 'stars=many'")
	_, err = r.Search(r.ctx, "x", 0, filters.NewArgs(args("color", "red")...), nil)
	assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
}

func TestCommitContainer(t *testing.T) {
	r := newImageRig(t)
	base := r.put(t, oneFile(t, 1, "x"), "base:1")
	rec, ok := r.State.View().Image(nereid.Admin, base)
	assert.Check(t, ok)
	dir := t.TempDir()
	mounts, err := r.containerd.Client.SnapshotService("overlayfs").Prepare(r.namespaced(), "c", chainsOf(rec)[0].String())
	assert.NilError(t, err)
	assert.NilError(t, mount.All(mounts, dir))
	defer func() { assert.Check(t, mount.UnmountAll(dir, 0)) }()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "g"), []byte("new"), 0o644))
	c := r.use(t, base, state.StatusExited)
	named, err := reference.ParseNormalizedNamed("made:1")
	assert.NilError(t, err)
	start := r.now()
	gone := errdefs.ErrNotFound.WithMessage("gone meanwhile")
	commit := CommitImage{
		Container: c, RootFS: dir, Config: &container.Config{Cmd: []string{"g"}}, Comment: "because", Tag: named.(reference.NamedTagged),
		Still: func() error { return gone },
		Tell:  func(nereid.ImageID) *state.Event { return containerEvent(c, events.ActionCommit, nil) },
	}
	_, err = r.CommitContainer(r.ctx, commit)
	assert.ErrorIs(t, err, gone)
	commit.RootFS = filepath.Join(dir, "unmounted")
	_, err = r.CommitContainer(r.ctx, commit)
	assert.ErrorIs(t, err, gone, "a container that was removed while its files were read")
	commit.RootFS = dir
	assert.DeepEqual(t, r.actions(t, start), []string(nil))
	commit.Still = func() error { return nil }
	id, err := r.CommitContainer(r.ctx, commit)
	assert.NilError(t, err)
	assert.DeepEqual(t, r.actions(t, start), []string{"create", "tag", "commit"})
	img, err := r.Inspect(r.ctx, "made:1", backend.ImageInspectOpts{})
	assert.NilError(t, err)
	assert.Equal(t, img.ID, string(id))
	assert.Equal(t, img.Parent, string(base))
	assert.Equal(t, img.Comment, "because")
	assert.Equal(t, img.Size, int64(4))
	assert.DeepEqual(t, img.Config.Cmd, []string{"g"})
	steps, err := r.History(r.ctx, "made:1", nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, steps[1].Tags, []string{"base:1"})
}
