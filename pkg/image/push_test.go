package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	layertar "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

func (r *rig) push(ref string, id nereid.ImageID) (string, error) {
	r.t.Helper()
	named := mustNamed(r.t, ref)
	repo, err := r.Connect(r.ctx, named, r.auth, "pull,push")
	if err != nil {
		return "", err
	}
	defer repo.Close()
	repo.MountFrom(r.mounts)
	d, err := r.Push(r.ctx, "admin", repo, named.(reference.Tagged).Tag(), id, image.NewProgress(&r.out, nil))
	return d.String(), err
}

func TestPush(t *testing.T) {
	r := newRig(t)
	img := twoLayers(t)
	held, err := r.pull(r.pushed("app:1", img))
	assert.NilError(t, err)
	r.lines()
	other := imagetest.NewRegistry(t)
	digest, err := r.push(other.Host()+"/mine/app:2", held.ID)
	assert.NilError(t, err)
	assert.Equal(t, digest, digestOf(t, img), "what was pulled is pushed as it was")
	var diffs []string
	for _, l := range mustLayers(t, img) {
		d, err := l.DiffID()
		assert.NilError(t, err)
		diffs = append(diffs, d.Hex[:12])
	}
	lines := r.lines()
	assert.DeepEqual(t, lines[:2], []string{diffs[0] + ": Preparing", diffs[1] + ": Preparing"})
	for _, d := range diffs {
		assert.Check(t, is.Contains(lines, d+": Pushing"))
		assert.Check(t, is.Contains(lines, d+": Pushed"))
	}
	assert.Check(t, is.Contains(strings.Join(lines, "\n"), "2: digest: "+digest+" size: "))

	// Again: nothing is sent twice.
	puts := other.Requests("PUT /v2/mine/app/blobs/")
	_, err = r.push(other.Host()+"/mine/app:3", held.ID)
	assert.NilError(t, err)
	assert.Equal(t, other.Requests("PUT /v2/mine/app/blobs/"), puts)
	assert.Check(t, is.Contains(r.lines(), diffs[0]+": Layer already exists"))

	// And it can be pulled by somebody else.
	second := newRig(t)
	again, err := second.pull(other.Host() + "/mine/app:2")
	assert.NilError(t, err)
	assert.Equal(t, again.ID, held.ID)
	assert.Equal(t, r.leases(), 0)
}

// What was loaded is kept uncompressed and pushed compressed, as the same image.
func TestPushOfWhatWasLoaded(t *testing.T) {
	r := newRig(t)
	f := filesOf(t, twoLayers(t))
	_, err := r.load(bytes.NewReader(entries(t,
		regular("manifest.json", `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["0.tar","1.tar"]}]`),
		regular("c.json", f.config), regular("0.tar", f.layers[0]), regular("1.tar", f.layers[1]))))
	assert.NilError(t, err)
	id := r.kept()[0]
	first, err := r.push(r.registry.Host()+"/loaded:1", id)
	assert.NilError(t, err)
	second, err := r.push(r.registry.Host()+"/loaded:2", id)
	assert.NilError(t, err)
	assert.Equal(t, first, second)
	other := newRig(t)
	held, err := other.pull(r.registry.Host() + "/loaded:1")
	assert.NilError(t, err)
	assert.Equal(t, held.ID, id)
	for _, l := range held.Layers {
		assert.Check(t, strings.HasSuffix(l.MediaType, ".gzip"), l.MediaType)
	}
	assert.Equal(t, len(r.blobs()), 4, "the compressed form is not kept")
}

// TestPushMounts: what another repository of the registry has is not sent, unless the registry does not take it from there.
func TestPushMounts(t *testing.T) {
	for _, c := range []struct {
		name    string
		from    string
		mounted bool
	}{
		{"from where it is", "app", true},
		{"from where it is no more", "gone", false},
		{"from where the user may not read", "private", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.registry.KeepApart()
			held, err := r.pull(r.pushed("app:1", twoLayers(t)))
			assert.NilError(t, err)
			tokens := &imagetest.TokenServer{User: "ann", Password: "secret", Private: "private"}
			r.auth = &registry.AuthConfig{Username: "ann", Password: "secret"}
			r.registry.RequireToken(t, tokens)
			r.mounts = map[digest.Digest]string{held.Layers[0].Digest: c.from}
			r.lines()

			pushed, err := r.push(r.registry.Host()+"/mine:1", held.ID)

			assert.NilError(t, err)
			cfg, err := twoLayers(t).ConfigFile()
			assert.NilError(t, err)
			first, second := cfg.RootFS.DiffIDs[0].Hex[:12], cfg.RootFS.DiffIDs[1].Hex[:12]
			lines, sent := r.lines(), "PUT /v2/mine/blobs/uploads/"
			assert.Check(t, is.Contains(lines, second+": Pushed"))
			if c.mounted {
				assert.Check(t, is.Contains(lines, first+": Mounted from app"))
				assert.Equal(t, r.registry.Requests(sent), 2, "the configuration and one layer")
			} else {
				assert.Check(t, is.Contains(lines, first+": Pushed"))
				assert.Equal(t, r.registry.Requests(sent), 3)
			}
			asked := strings.Join(tokens.Asked, "\n")
			assert.Check(t, is.Contains(asked, "scope=repository%3Amine%3Apull%2Cpush&scope=repository%3A"+c.from+"%3Apull"), "the token is good for both")
			again := newRig(t)
			again.auth = r.auth
			got, err := again.pull(r.registry.Host() + "/mine:1")
			assert.NilError(t, err)
			assert.Equal(t, got.Digest.String(), pushed)
		})
	}
}

func TestPushFailures(t *testing.T) {
	r := newRig(t)
	held, err := r.pull(r.pushed("app:1", twoLayers(t)))
	assert.NilError(t, err)
	other := imagetest.NewRegistry(t)
	ref := other.Host() + "/app:1"
	_, err = r.push(ref, "sha256:"+nereid.ImageID(strings.Repeat("0", 64)))
	assert.Check(t, errdefs.IsNotFound(err), "%v", err)
	other.RequireBasic("ann", "secret")
	_, err = r.push(ref, held.ID)
	assert.Error(t, err, "no basic auth credentials")
	r.auth = &registry.AuthConfig{Username: "ann", Password: "guess"}
	_, err = r.push(ref, held.ID)
	assert.Error(t, err, "unauthorized: authentication required")
	r.auth.Password = "secret"
	_, err = r.push(ref, held.ID)
	assert.NilError(t, err)
	other.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.Method == http.MethodPost || req.Method == http.MethodPut {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`)
			return
		}
		next.ServeHTTP(w, req)
	})
	_, err = r.push(other.Host()+"/elsewhere:1", held.ID)
	assert.Error(t, err, "denied: requested access to the resource is denied")
	assert.Equal(t, r.leases(), 0)
}

func TestDistribution(t *testing.T) {
	r := newRig(t)
	img := twoLayers(t)
	r.pushed("app:1", img)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: imagetest.Image(t, 9, nil, [2]string{"x", "y"}), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}})
	imagetest.Push(t, r.registry.Host()+"/multi:1", index)
	ask := func(repo, ref string) (string, []string, error) {
		c, err := r.Connect(r.ctx, mustNamed(t, r.registry.Host()+"/"+repo), nil, "pull")
		assert.NilError(t, err)
		defer c.Close()
		d, ps, err := c.Distribution(r.ctx, ref)
		var list []string
		for _, p := range ps {
			list = append(list, p.OS+"/"+p.Architecture+p.Variant)
		}
		return d.Digest.String(), list, err
	}
	d, ps, err := ask("app", "1")
	assert.NilError(t, err)
	assert.Equal(t, d, digestOf(t, img))
	assert.DeepEqual(t, ps, []string{"linux/amd64"})
	d, ps, err = ask("multi", digestOf(t, index))
	assert.NilError(t, err)
	assert.Equal(t, d, digestOf(t, index))
	assert.DeepEqual(t, ps, []string{"linux/amd64", "linux/arm64v8"})
	_, _, err = ask("app", "9")
	assert.Check(t, errdefs.IsNotFound(err), "%v", err)
}

func TestAskErrorKeepsTheRegistrysWords(t *testing.T) {
	for code, class := range map[string]func(error) bool{
		"UNAUTHORIZED": errdefs.IsUnauthorized, "DENIED": errdefs.IsPermissionDenied, "MANIFEST_UNKNOWN": errdefs.IsNotFound, "NAME_UNKNOWN": errdefs.IsNotFound,
	} {
		assert.Check(t, class(image.AskError(code, "as it says")), code)
	}
	assert.Error(t, image.AskError("MANIFEST_UNKNOWN", "as it says"), "manifest unknown: as it says")
	assert.Error(t, image.AskError("TOOMANYREQUESTS", ""), "toomanyrequests: too many requests")
}

func TestLogin(t *testing.T) {
	cases := []struct {
		name     string
		basic    bool
		password string
		token    string
		err      string // with URL for the registry's
		class    error
	}{
		{"basic", true, "secret", "", "", nil},
		{"basic, wrong", true, "guess", "", "login attempt to URL/v2/ failed with status: 401 Unauthorized", errdefs.ErrUnknown},
		{"basic, nobody", true, "", "", `Get "URL/v2/": no basic auth credentials`, errdefs.ErrUnknown},
		{"token", false, "secret", "identity", "", nil},
		{"token, wrong", false, "guess", "", `Get "URL/v2/": unauthorized: incorrect username or password`, errdefs.ErrUnauthenticated},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			if c.basic {
				r.registry.RequireBasic("ann", "secret")
			} else {
				r.registry.RequireToken(t, &imagetest.TokenServer{User: "ann", Password: "secret"})
			}
			token, err := r.Login(r.ctx, &registry.AuthConfig{Username: "ann", Password: c.password, ServerAddress: r.registry.URL})
			if c.err != "" {
				assert.Error(t, err, strings.ReplaceAll(c.err, "URL", r.registry.URL))
				assert.ErrorIs(t, errdefs.Resolve(err), c.class)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, token, c.token)
		})
	}
	r := newRig(t)
	_, err := r.Login(r.ctx, &registry.AuthConfig{ServerAddress: "http://"})
	assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
}

func TestSearch(t *testing.T) {
	r := newRig(t)
	r.registry.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.URL.Path != "/v1/search" {
			http.NotFound(w, req)
			return
		}
		assert.Check(t, is.Equal(req.URL.Query().Get("n"), "25"))
		json.NewEncoder(w).Encode(registry.SearchResults{Results: []registry.SearchResult{{Name: req.URL.Query().Get("q"), StarCount: 3}}})
	})
	found, err := r.Search(r.ctx, r.registry.Host()+"/busy", 0, nil)
	assert.NilError(t, err)
	assert.Equal(t, found[0].Name, "busy")
	_, err = r.Search(r.ctx, "x", 101, nil)
	assert.Error(t, err, "limit 101 is outside the range of [1, 100]")
	_, err = r.Search(r.ctx, "http://x", 0, nil)
	assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
}

func TestSaveIsWhatLoadReads(t *testing.T) {
	r := newRig(t)
	base := twoLayers(t)
	more, err := mutate.AppendLayers(base, imagetest.Layer(t, imagetest.Tar(t, [2]string{"c", random(600_000)})))
	assert.NilError(t, err)
	_, err = r.pull(r.pushed("base:1", base))
	assert.NilError(t, err)
	_, err = r.pull(r.pushed("more:1", more))
	assert.NilError(t, err)
	list := []image.Saved{
		{ID: nereid.ImageID(configDigest(t, base)), Tags: []reference.NamedTagged{tagged(t, "base:1"), tagged(t, "base:2")}},
		{ID: nereid.ImageID(configDigest(t, more)), Parent: nereid.ImageID(configDigest(t, base))},
	}
	var out, again bytes.Buffer
	assert.NilError(t, r.Save(r.ctx, "admin", list, &out))
	assert.NilError(t, r.Save(r.ctx, "admin", list, &again))
	assert.Check(t, bytes.Equal(out.Bytes(), again.Bytes()), "the same images make the same archive")
	assert.Equal(t, r.leases(), 0)

	want := []loaded{
		{configDigest(t, base), []string{"docker.io/library/base:1", "docker.io/library/base:2"}},
		{configDigest(t, more), nil},
	}
	second := newRig(t)
	got, err := second.load(bytes.NewReader(out.Bytes()))
	assert.NilError(t, err)
	assert.DeepEqual(t, got, want, cmpLoaded)

	// It is an OCI layout as well, in which each name is an entry.
	third := newRig(t)
	got, err = third.load(bytes.NewReader(without(t, out.Bytes(), "manifest.json")))
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []loaded{{want[0].id, want[0].tags[:1]}, {want[0].id, want[0].tags[1:]}, want[1]}, cmpLoaded)

	err = r.Save(r.ctx, "admin", []image.Saved{{ID: nereid.ImageID("sha256:" + strings.Repeat("0", 64))}}, &out)
	assert.Check(t, errdefs.IsNotFound(err), "%v", err)
}

// without is a tar without one of its files.
func without(t *testing.T, in []byte, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for tr := tar.NewReader(bytes.NewReader(in)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		if h.Name == name {
			continue
		}
		assert.NilError(t, w.WriteHeader(h))
		_, err = io.Copy(w, tr)
		assert.NilError(t, err)
	}
	assert.NilError(t, w.Close())
	return out.Bytes()
}

func tagged(t *testing.T, ref string) reference.NamedTagged {
	t.Helper()
	return mustNamed(t, ref).(reference.NamedTagged)
}

// writable is a container's root file system over an image, mounted.
func (r *rig) writable(parent string) string {
	r.t.Helper()
	sn := r.containerd.Client.SnapshotService("overlayfs")
	mounts, err := sn.Prepare(r.namespaced(), "container", parent, snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "x"}))
	assert.NilError(r.t, err)
	dir := r.t.TempDir()
	assert.NilError(r.t, mount.All(mounts, dir))
	r.t.Cleanup(func() { assert.Check(r.t, mount.UnmountAll(dir, 0)) })
	return dir
}

// over writes a directory as it is over another.
func over(dir string) func(ctx context.Context, lower string, w io.Writer) error {
	return func(ctx context.Context, lower string, w io.Writer) error {
		return layertar.WriteDiff(ctx, w, lower, dir)
	}
}

func TestCommit(t *testing.T) {
	r := newRig(t, func(c *image.Config) { c.Version = "1.2" })
	base := twoLayers(t)
	held, err := r.pull(r.pushed("app:1", base))
	assert.NilError(t, err)
	names := r.snapshots()
	top := ""
	for _, n := range names {
		info, err := r.containerd.Client.SnapshotService("overlayfs").Stat(r.namespaced(), n)
		assert.NilError(t, err)
		if info.Parent != "" {
			top = n
		}
	}
	dir := r.writable(top)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "new"), []byte("12345"), 0o600))
	assert.NilError(t, os.Remove(filepath.Join(dir, "b")))
	assert.NilError(t, os.Mkdir(filepath.Join(dir, "d"), 0o750))
	made, err := r.Commit(r.ctx, "admin", image.CommitOptions{
		Parent: held.ID, Write: over(dir), ContainerID: "cafe", Author: "me", Comment: "why",
		Config: &container.Config{Cmd: []string{"run"}}, ContainerConfig: &container.Config{Cmd: []string{"sh", "-c", "x"}},
	})
	assert.NilError(t, err)
	assert.NilError(t, made.Keep())
	made.Release()
	r.containerd.Collect(t)
	opened, err := r.Open(r.ctx, "admin", made.ID)
	assert.NilError(t, err)
	assert.DeepEqual(t, opened.Sizes, []int64{9000, 4, 5})
	cfg, err := image.DecodeConfig(opened.Config)
	assert.NilError(t, err)
	last := cfg.History[len(cfg.History)-1]
	assert.Equal(t, last.CreatedBy, "sh -c x")
	assert.Equal(t, last.Comment, "why")
	assert.Equal(t, cfg.Author, "me")
	assert.Equal(t, len(cfg.History), 3)
	assert.DeepEqual(t, []string(cfg.Config.Cmd), []string{"run"})
	assert.Equal(t, cfg.Container, "cafe")

	// The container is gone, and what it changed is in the image.
	sn := r.containerd.Client.SnapshotService("overlayfs")
	mounts, err := sn.View(r.namespaced(), "look", chainOf(t, cfg))
	assert.NilError(t, err)
	assert.NilError(t, mount.WithReadonlyTempMount(r.ctx, mounts, func(root string) error {
		got, err := os.ReadFile(filepath.Join(root, "new"))
		assert.NilError(t, err)
		assert.Equal(t, string(got), "12345")
		_, err = os.Stat(filepath.Join(root, "b"))
		assert.Check(t, os.IsNotExist(err))
		st, err := os.Stat(filepath.Join(root, "d"))
		assert.NilError(t, err)
		assert.Equal(t, st.Mode().Perm(), os.FileMode(0o750))
		return nil
	}))

	_, err = r.Commit(r.ctx, "admin", image.CommitOptions{Parent: "sha256:" + nereid.ImageID(strings.Repeat("0", 64)), Write: over(dir)})
	assert.Check(t, errdefs.IsNotFound(err), "%v", err)
	assert.Equal(t, r.leases(), 0)
}

func chainOf(t *testing.T, cfg *image.ImageConfig) string {
	t.Helper()
	return identity.ChainID(cfg.RootFS.DiffIDs).String()
}
