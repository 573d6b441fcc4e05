package engine

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestPullEntersTheCatalogue(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	ref := reg.Host() + "/app"
	img := oneFile(t, 1, "v1", func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{"l": "x"} })
	imagetest.Push(t, ref+":latest", img)
	manifest, err := img.Digest()
	assert.NilError(t, err)
	var out bytes.Buffer
	start := r.now()
	assert.NilError(t, r.Pull(r.ctx, ref, false, nil, nil, &out))
	lines := statuses(t, &out)
	assert.Equal(t, lines[0], "Pulling from app")
	assert.DeepEqual(t, lines[len(lines)-2:], []string{"Digest: " + manifest.String(), "Status: Downloaded newer image for " + ref + ":latest"})

	got, err := r.Resolve(r.ctx, ref)
	assert.NilError(t, err)
	assert.DeepEqual(t, got.Hosts, []nereid.Host{"h1"})
	assert.DeepEqual(t, got.Digests, []string{ref + "@" + manifest.String()})
	assert.Equal(t, got.Size, int64(2))
	told := r.told(t, start)
	assert.Equal(t, len(told), 1)
	assert.Equal(t, told[0].Action, events.ActionPull)
	assert.Equal(t, told[0].Actor.ID, ref+":latest")
	assert.DeepEqual(t, told[0].Actor.Attributes, map[string]string{"name": ref, "l": "x"})

	// The same again changes nothing, and tells of it all the same.
	start = r.now()
	assert.NilError(t, r.Pull(r.ctx, ref, false, nil, nil, &out))
	lines = statuses(t, &out)
	assert.DeepEqual(t, lines, []string{"Pulling from app", "Digest: " + manifest.String(), "Status: Image is up to date for " + ref + ":latest"})
	assert.DeepEqual(t, r.actions(t, start), []string{"pull"})

	// A newer one takes the name; the old one stays, by its digest.
	newer := oneFile(t, 2, "v2")
	imagetest.Push(t, ref+":latest", newer)
	assert.NilError(t, r.Pull(r.ctx, ref, false, nil, nil, &out))
	old, err := r.Inspect(r.ctx, string(got.ID), backend.ImageInspectOpts{})
	assert.NilError(t, err)
	assert.Equal(t, len(old.RepoTags), 0)
	assert.DeepEqual(t, old.RepoDigests, []string{ref + "@" + manifest.String()})
	byDigest, err := r.Resolve(r.ctx, ref+"@"+manifest.String())
	assert.NilError(t, err)
	assert.Equal(t, byDigest.ID, got.ID)
	now, err := r.Resolve(r.ctx, ref)
	assert.NilError(t, err)
	assert.Check(t, now.ID != got.ID)
}

func TestPullErrorsBeforeAndAfterTheFirstLine(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	imagetest.Push(t, reg.Host()+"/app:1", oneFile(t, 1, "x"))
	var out bytes.Buffer
	cases := []struct {
		ref   string
		all   bool
		err   string
		class func(error) bool
	}{
		{"App", false, "invalid reference format: repository name (library/App) must be lowercase", errdefs.IsInvalidArgument},
		{"scratch", false, "'scratch' is a reserved name", errdefs.IsPermissionDenied},
		{reg.Host() + "/app:1", true, "tag can't be used with --all-tags/-a", errdefs.IsInvalidArgument},
		{reg.Host() + "/app:2", false, "manifest for " + reg.Host() + "/app:2 not found: manifest unknown: ", errdefs.IsNotFound},
	}
	for _, c := range cases {
		err := r.Pull(r.ctx, c.ref, c.all, nil, nil, &out)
		assert.ErrorContains(t, err, c.err)
		assert.Check(t, c.class(err), "%v", err)
		assert.Equal(t, out.Len(), 0)
	}
	reg.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if strings.Contains(req.URL.Path, "/blobs/") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		next.ServeHTTP(w, req)
	})
	assert.NilError(t, r.Pull(r.ctx, reg.Host()+"/app:1", false, nil, nil, &out))
	assert.DeepEqual(t, statuses(t, &out), []string{"Pulling from app", "error: error pulling image configuration: blob unknown: unknown blob"})
	list, err := r.List(r.ctx, imagetypes.ListOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 0)
}

func TestPullAllTags(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	for n, tag := range []string{"1", "2", "latest"} {
		imagetest.Push(t, reg.Host()+"/app:"+tag, oneFile(t, int64(n%2), fmt.Sprint(n%2)))
	}
	var out bytes.Buffer
	start := r.now()
	assert.NilError(t, r.Pull(r.ctx, reg.Host()+"/app", true, nil, nil, &out))
	lines := statuses(t, &out)
	assert.Equal(t, lines[len(lines)-1], "Status: Downloaded newer image for "+reg.Host()+"/app")
	assert.DeepEqual(t, r.actions(t, start), []string{"pull"})
	assert.Equal(t, r.told(t, start)[0].Actor.ID, reg.Host()+"/app")
	img, err := r.Inspect(r.ctx, reg.Host()+"/app", backend.ImageInspectOpts{})
	assert.NilError(t, err)
	assert.DeepEqual(t, img.RepoTags, []string{reg.Host() + "/app:1", reg.Host() + "/app:latest"})
}

func TestPullWarnsOfAnotherPlatform(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	ref := reg.Host() + "/app:1"
	imagetest.Push(t, ref, oneFile(t, 1, "x"))
	arm := &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	var out bytes.Buffer
	assert.NilError(t, r.Pull(r.ctx, ref, false, arm, nil, &out))
	lines := statuses(t, &out)
	assert.Equal(t, lines[len(lines)-1], "WARNING: image with reference "+ref+
		" was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)")
	_, err := r.ResolvePlatform(r.ctx, ref, arm)
	assert.Check(t, errdefs.IsNotFound(err), "%v", err)
}

func TestResolve(t *testing.T) {
	r := newImageRig(t)
	id := r.put(t, oneFile(t, 1, "x"), "busybox:latest", "other:2", "localhost:5000/a/b:3")
	hex := strings.TrimPrefix(string(id), "sha256:")
	for _, ref := range []string{
		"busybox", "busybox:latest", "library/busybox", "docker.io/library/busybox:latest", "other:2", "localhost:5000/a/b:3",
		hex, "sha256:" + hex, hex[:12], hex[:4], "sha256:" + hex[:7],
	} {
		img, err := r.Resolve(r.ctx, ref)
		assert.NilError(t, err, ref)
		assert.Equal(t, img.ID, id)
	}
	missing := strings.Repeat("0", 64)
	for ref, words := range map[string]string{
		"busybox:1":                 "No such image: busybox:1",
		"nothing":                   "No such image: nothing:latest",
		"other":                     "No such image: other:latest",
		"localhost:5000/x":          "No such image: localhost:5000/x:latest",
		missing:                     "No such image: sha256:" + missing,
		"sha256:" + missing:         "No such image: sha256:" + missing,
		"busybox@sha256:" + missing: "No such image: busybox@sha256:" + missing,
	} {
		_, err := r.Resolve(r.ctx, ref)
		assert.Error(t, err, words)
		assert.Check(t, errdefs.IsNotFound(err))
	}
	for _, ref := range []string{"", "UPPER", "a//b", "a:b:c", "-x"} {
		_, err := r.Resolve(r.ctx, ref)
		assert.Check(t, errdefs.IsInvalidArgument(err), "%q: %v", ref, err)
	}
	other := nereid.WithAccount(r.ctx, "somebody")
	_, err := r.Resolve(other, "busybox")
	assert.Check(t, errdefs.IsNotFound(err), "another account's images are not there")
}

func TestContainerConfigOfAnImage(t *testing.T) {
	r := newImageRig(t)
	r.put(t, oneFile(t, 1, "x", func(c *v1.ConfigFile) {
		c.Config = v1.Config{
			Cmd: []string{"run"}, OnBuild: []string{"RUN x"}, ArgsEscaped: true, StopSignal: "SIGUSR1",
			Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Second}, ExposedPorts: map[string]struct{}{"80/tcp": {}},
		}
	}), "a:1")
	img, err := r.Resolve(r.ctx, "a:1")
	assert.NilError(t, err)
	cfg, err := r.ContainerConfig(img)
	assert.NilError(t, err)
	assert.DeepEqual(t, []string(cfg.Cmd), []string{"run"})
	assert.DeepEqual(t, cfg.OnBuild, []string{"RUN x"})
	assert.Equal(t, cfg.Healthcheck.Interval, time.Second)
	assert.Equal(t, cfg.StopSignal, "SIGUSR1")
	assert.Check(t, cfg.ArgsEscaped)
	_, ok := cfg.ExposedPorts["80/tcp"]
	assert.Check(t, ok)
	cfg.Cmd[0] = "changed"
	again, err := r.ContainerConfig(img)
	assert.NilError(t, err)
	assert.Equal(t, again.Cmd[0], "run")
}

func TestLoadSaysWhatItLoaded(t *testing.T) {
	r := newImageRig(t)
	a, b := oneFile(t, 1, "a"), oneFile(t, 2, "b")
	var out bytes.Buffer
	start := r.now()
	assert.NilError(t, r.Load(r.ctx, bytes.NewReader(imagetest.DockerArchive(t, map[string]v1.Image{"app:1": a})), nil, true, &out))
	assert.DeepEqual(t, statuses(t, &out), []string{"Loaded image: app:1"})
	told := r.told(t, start)
	id, _ := a.ConfigName()
	assert.Equal(t, len(told), 1)
	assert.Equal(t, told[0].Action, events.ActionLoad)
	assert.Equal(t, told[0].Actor.ID, id.String())
	assert.Equal(t, told[0].Actor.Attributes["name"], id.String())

	// Another image of that name takes it.
	assert.NilError(t, r.Load(r.ctx, bytes.NewReader(imagetest.DockerArchive(t, map[string]v1.Image{"app:1": b})), nil, true, &out))
	assert.DeepEqual(t, statuses(t, &out), []string{
		"The image app:1 already exists, renaming the old one with ID " + id.String() + " to empty string", "Loaded image: app:1",
	})
	assert.ErrorContains(t, r.Load(r.ctx, strings.NewReader("no archive"), nil, true, &out), "Error processing tar file")
	assert.Equal(t, out.Len(), 0)
}

func TestImportMakesAnImage(t *testing.T) {
	r := newImageRig(t)
	root := imagetest.Tar(t, [2]string{"f", "x"})
	var out bytes.Buffer
	start := r.now()
	assert.NilError(t, r.Import(r.ctx, "mine", nil, "hello", []string{"CMD [\"f\"]", "LABEL a=b"}, bytes.NewReader(root), &out))
	id := statuses(t, &out)[0]
	img, err := r.Inspect(r.ctx, "mine", backend.ImageInspectOpts{})
	assert.NilError(t, err)
	assert.Equal(t, img.ID, id)
	assert.Equal(t, img.Comment, "hello")
	assert.Equal(t, img.DockerVersion, "0.test")
	assert.DeepEqual(t, img.Config.Cmd, []string{"f"})
	assert.Check(t, time.Since(img.Metadata.LastTagTime) < time.Minute)
	told := r.told(t, start)
	assert.DeepEqual(t, []events.Action{told[0].Action, told[1].Action}, []events.Action{events.ActionTag, events.ActionImport})
	assert.Equal(t, told[0].Actor.Attributes["name"], "mine:latest")
	assert.Equal(t, told[1].Actor.Attributes["a"], "b")

	assert.Error(t, r.Import(r.ctx, "a@sha256:"+strings.Repeat("0", 64), nil, "", nil, nil, &out), "cannot import digest reference")
	assert.ErrorContains(t, r.Import(r.ctx, "", nil, "", []string{"RUN x"}, nil, &out), "RUN is not a valid change command")
	assert.NilError(t, r.Import(r.ctx, "", nil, "nameless", nil, bytes.NewReader(root), &out))
	nameless, err := r.Resolve(r.ctx, statuses(t, &out)[0])
	assert.NilError(t, err)
	assert.Check(t, nameless.LastTagged.IsZero())
}

func TestList(t *testing.T) {
	r := newImageRig(t)
	old := r.put(t, oneFile(t, 10, "old!", func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{"tier": "web", "x": ""} }), "old:1", "old:2")
	mid := r.put(t, oneFile(t, 20, "mid"))
	young := r.put(t, oneFile(t, 30, "young", func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{"tier": "db"} }), "localhost:5000/young:1")
	r.use(t, old, state.StatusExited)
	all := []nereid.ImageID{young, mid, old}
	cases := []struct {
		name    string
		filters []filters.KeyValuePair
		want    []nereid.ImageID
	}{
		{"all", nil, all},
		{"dangling", args("dangling", "true"), []nereid.ImageID{mid}},
		{"not dangling", args("dangling", "false"), []nereid.ImageID{young, old}},
		{"label", args("label", "tier"), []nereid.ImageID{young, old}},
		{"label with value", args("label", "tier=db"), []nereid.ImageID{young}},
		{"two labels", args("label", "tier=web", "label", "x"), []nereid.ImageID{old}},
		{"before", args("before", string(mid)), []nereid.ImageID{old}},
		{"since", args("since", string(mid)), []nereid.ImageID{young}},
		{"since by name", args("since", "old:1"), []nereid.ImageID{young, mid}},
		{"until", args("until", "1700000025"), []nereid.ImageID{mid, old}},
		{"reference", args("reference", "old"), []nereid.ImageID{old}},
		{"reference with tag", args("reference", "*:1"), []nereid.ImageID{old}},
		{"reference with registry", args("reference", "localhost:5000/*"), []nereid.ImageID{young}},
		{"two references", args("reference", "old:2", "reference", "localhost:5000/young"), []nereid.ImageID{young, old}},
		{"no reference", args("reference", "nothing"), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			list, err := r.List(r.ctx, imagetypes.ListOptions{Filters: filters.NewArgs(c.filters...)})
			assert.NilError(t, err)
			var got []nereid.ImageID
			for _, s := range list {
				got = append(got, nereid.ImageID(s.ID))
			}
			assert.DeepEqual(t, got, c.want)
		})
	}
	for name, c := range map[string]struct {
		filters []filters.KeyValuePair
		err     string
		class   func(error) bool
	}{
		"unknown filter": {args("color", "red"), "invalid filter 'color'", errdefs.IsInvalidArgument},
		"no bool":        {args("dangling", "maybe"), "invalid filter 'dangling=[maybe]'", errdefs.IsInvalidArgument},
		"no such image":  {args("before", "nothing"), "No such image: nothing:latest", errdefs.IsNotFound},
		"no time":        {args("until", "yesterday"), "", errdefs.IsInvalidArgument},
		"bad pattern":    {args("reference", "[x"), "syntax error in pattern", errdefs.IsInvalidArgument},
	} {
		_, err := r.List(r.ctx, imagetypes.ListOptions{Filters: filters.NewArgs(c.filters...)})
		assert.ErrorContains(t, err, c.err, name)
		assert.Check(t, c.class(err), "%s: %v", name, err)
	}
	list, err := r.List(r.ctx, imagetypes.ListOptions{})
	assert.NilError(t, err)
	s := list[2]
	assert.DeepEqual(t, s.RepoTags, []string{"old:1", "old:2"})
	assert.Equal(t, s.Created, int64(1_700_000_010))
	assert.Equal(t, s.Size, int64(4))
	assert.Equal(t, s.SharedSize, int64(-1))
	assert.Equal(t, s.Containers, int64(1))
	assert.Equal(t, list[1].RepoTags == nil && list[1].RepoDigests == nil, true)
	assert.Equal(t, len(s.Manifests), 0)
	list, err = r.List(r.ctx, imagetypes.ListOptions{Manifests: true})
	assert.NilError(t, err)
	assert.Equal(t, list[2].Manifests[0].ImageData.Platform.Architecture, "amd64")
	assert.Equal(t, len(list[2].Manifests[0].ImageData.Containers), 1)
}

func args(pairs ...string) []filters.KeyValuePair {
	var list []filters.KeyValuePair
	for n := 0; n < len(pairs); n += 2 {
		list = append(list, filters.Arg(pairs[n], pairs[n+1]))
	}
	return list
}

func TestSharedSize(t *testing.T) {
	r := newImageRig(t)
	base := oneFile(t, 1, "12345")
	more, err := mutate.AppendLayers(base, imagetest.Layer(t, imagetest.Tar(t, [2]string{"g", "123"})))
	assert.NilError(t, err)
	r.put(t, base, "base:1")
	r.put(t, more, "more:1")
	r.put(t, oneFile(t, 9, "1"), "alone:1")
	list, err := r.List(r.ctx, imagetypes.ListOptions{SharedSize: true})
	assert.NilError(t, err)
	got := map[string][2]int64{}
	for _, s := range list {
		got[s.RepoTags[0]] = [2]int64{s.Size, s.SharedSize}
	}
	assert.DeepEqual(t, got, map[string][2]int64{"base:1": {5, 5}, "more:1": {8, 5}, "alone:1": {1, 0}})
}

func TestInspectAndHistory(t *testing.T) {
	r := newImageRig(t)
	img := imagetest.Image(t, 5, func(c *v1.ConfigFile) {
		c.Author, c.Variant = "me", "v2"
		c.Config = v1.Config{Env: []string{"A=1"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}, Shell: []string{"/bin/ash"}}
		c.History = append([]v1.History{{CreatedBy: "ENV A=1", EmptyLayer: true}}, append(c.History, v1.History{CreatedBy: "CMD", EmptyLayer: true, Comment: "last"})...)
	}, [2]string{"a", "1234"}, [2]string{"b", "12"})
	id := r.put(t, img, "app:1", "app:2")
	got, err := r.Inspect(r.ctx, "app:1", backend.ImageInspectOpts{Manifests: true})
	assert.NilError(t, err)
	assert.Equal(t, got.ID, string(id))
	assert.DeepEqual(t, got.RepoTags, []string{"app:1", "app:2"})
	assert.Equal(t, got.Created, "2023-11-14T22:13:25Z")
	assert.Equal(t, got.Author, "me")
	assert.Equal(t, got.Comment, "last")
	assert.Equal(t, got.Architecture+"/"+got.Variant+"/"+got.Os, "amd64/v2/linux")
	assert.Equal(t, got.Size, int64(6))
	assert.Equal(t, got.GraphDriver.Name, "overlayfs")
	assert.Equal(t, got.RootFS.Type, "layers")
	assert.Equal(t, len(got.RootFS.Layers), 2)
	assert.DeepEqual(t, got.Config.Env, []string{"A=1"})
	assert.DeepEqual(t, got.Config.Shell, []string{"/bin/ash"})
	assert.Check(t, is.Contains(got.Config.ExposedPorts, "80/tcp"))
	assert.Check(t, got.Metadata.LastTagTime.IsZero(), "loading is not tagging")
	assert.Equal(t, got.Manifests[0].ID, got.Descriptor.Digest.String())

	steps, err := r.History(r.ctx, "app:1", nil)
	assert.NilError(t, err)
	var lines []string
	for _, s := range steps {
		lines = append(lines, fmt.Sprintf("%s %d %v %v", s.CreatedBy, s.Size, s.ID == string(id), s.Tags))
	}
	assert.DeepEqual(t, lines, []string{
		"CMD 0 true [app:1 app:2]", "COPY b 2 false []", "COPY a 4 false []", "ENV A=1 0 false []",
	})
	assert.Equal(t, steps[1].ID, "<missing>")
	assert.Equal(t, steps[1].Created, int64(1_700_000_005))

	arm := &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	words := "image with reference app:1 was found but its platform (linux/amd64/v2) does not match the specified platform (linux/arm64)"
	_, err = r.Inspect(r.ctx, "app:1", backend.ImageInspectOpts{Platform: arm})
	assert.Error(t, err, words)
	_, err = r.History(r.ctx, "app:1", arm)
	assert.Error(t, err, words)
	_, err = r.Inspect(r.ctx, "nothing", backend.ImageInspectOpts{})
	assert.Error(t, err, "No such image: nothing:latest")
}

func TestTag(t *testing.T) {
	r := newImageRig(t)
	a, b := r.put(t, oneFile(t, 1, "a"), "a:1"), r.put(t, oneFile(t, 2, "b"), "b:1")
	start := r.now()
	assert.NilError(t, r.Tag(r.ctx, "a:1", "localhost:5000/x/y"))
	told := r.told(t, start)
	assert.Equal(t, told[0].Action, events.ActionTag)
	assert.Equal(t, told[0].Actor.ID, string(a))
	assert.Equal(t, told[0].Actor.Attributes["name"], "localhost:5000/x/y:latest")
	img, err := r.Inspect(r.ctx, "localhost:5000/x/y", backend.ImageInspectOpts{})
	assert.NilError(t, err)
	assert.DeepEqual(t, img.RepoTags, []string{"a:1", "localhost:5000/x/y:latest"})
	assert.Check(t, !img.Metadata.LastTagTime.IsZero())

	assert.NilError(t, r.Tag(r.ctx, string(b)[7:19], "a:1"), "a name can be taken from another image")
	got, err := r.Resolve(r.ctx, "a:1")
	assert.NilError(t, err)
	assert.Equal(t, got.ID, b)
	digest := "x@sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct{ from, to, err string }{
		{"nothing", "x", "No such image: nothing:latest"},
		{"a:1", "X", "invalid reference format: repository name (library/X) must be lowercase"},
		{"a:1", "x:-", "invalid reference format"},
		{"a:1", digest, "refusing to create a tag with a digest reference"},
		{"a:1", "sha256:abc", "refusing to create an ambiguous tag using digest algorithm as name"},
		{"a:1", strings.Repeat("0", 64), "invalid repository name (" + strings.Repeat("0", 64) + "), cannot specify 64-byte hexadecimal strings"},
	} {
		assert.ErrorContains(t, r.Tag(r.ctx, c.from, c.to), c.err)
	}
}

// answers is a remove's answer in short.
func answers(list []imagetypes.DeleteResponse) []string {
	var got []string
	for _, d := range list {
		if d.Untagged != "" {
			got = append(got, "untagged "+d.Untagged)
		} else {
			got = append(got, "deleted "+d.Deleted)
		}
	}
	return got
}

func TestRemove(t *testing.T) {
	type world struct {
		*imageRig
		id    nereid.ImageID
		layer string
	}
	short := func(w *world) string { return string(w.id)[7:19] }
	cases := []struct {
		name   string
		tags   []string
		user   string // status of a container that uses it
		ref    func(*world) string
		opts   imagetypes.RemoveOptions
		want   []string // ID and LAYER stand for the image's
		err    string   // SHORT and USER too
		events []string
	}{
		{name: "by its name", tags: []string{"app:1"}, ref: fixed[*world]("app:1"),
			want: []string{"untagged app:1", "deleted ID", "deleted LAYER"}, events: []string{"untag", "delete"}},
		{name: "by its id", tags: []string{"app:1"}, ref: short,
			want: []string{"untagged app:1", "deleted ID", "deleted LAYER"}, events: []string{"untag", "delete"}},
		{name: "by one of its names", tags: []string{"app:1", "app:2"}, ref: fixed[*world]("app:1"), want: []string{"untagged app:1"}, events: []string{"untag"}},
		{name: "by id with two names", tags: []string{"app:1", "other:1"}, ref: short,
			err: "conflict: unable to delete SHORT (must be forced) - image is referenced in multiple repositories"},
		{name: "by id with two names, forced", tags: []string{"app:1", "other:1"}, ref: short, opts: imagetypes.RemoveOptions{Force: true},
			want: []string{"untagged app:1", "untagged other:1", "deleted ID", "deleted LAYER"}, events: []string{"untag", "untag", "delete"}},
		{name: "without a name", ref: short, want: []string{"deleted ID", "deleted LAYER"}, events: []string{"delete"}},
		{name: "used by a running container, by name", tags: []string{"app:1"}, user: state.StatusRunning, ref: fixed[*world]("app:1"),
			err: `conflict: unable to remove repository reference "app:1" (must force) - container USER is using its referenced image SHORT`},
		{name: "used by a running container, by name, forced", tags: []string{"app:1"}, user: state.StatusRunning, ref: fixed[*world]("app:1"),
			opts: imagetypes.RemoveOptions{Force: true}, want: []string{"untagged app:1"}, events: []string{"untag"}},
		{name: "used by a running container, by id", tags: []string{"app:1"}, user: state.StatusRunning, ref: short,
			err: "conflict: unable to delete SHORT (cannot be forced) - image is being used by running container USER"},
		{name: "used by a paused container, by id, forced", tags: []string{"app:1"}, user: state.StatusPaused, ref: short, opts: imagetypes.RemoveOptions{Force: true},
			err: "conflict: unable to delete SHORT (cannot be forced) - image is being used by running container USER"},
		{name: "used by a stopped container, by id", tags: []string{"app:1"}, user: state.StatusExited, ref: short,
			err: "conflict: unable to delete SHORT (must be forced) - image is being used by stopped container USER"},
		{name: "used by a stopped container, by id, forced", tags: []string{"app:1"}, user: state.StatusExited, ref: short, opts: imagetypes.RemoveOptions{Force: true},
			want: []string{"untagged app:1", "deleted ID"}, events: []string{"untag", "delete"}},
		{name: "used, by one of its names", tags: []string{"app:1", "app:2"}, user: state.StatusRunning, ref: fixed[*world]("app:2"),
			want: []string{"untagged app:2"}, events: []string{"untag"}},
		{name: "not there", ref: fixed[*world]("nothing"), err: "No such image: nothing:latest"},
		{name: "two platforms", tags: []string{"app:1"}, ref: fixed[*world]("app:1"), opts: imagetypes.RemoveOptions{Platforms: make([]ocispec.Platform, 2)},
			err: "multiple platforms are not supported"},
	}
	host := newImageRig(t)
	for n, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := &world{imageRig: host.as(nereid.Account(fmt.Sprint("a", n)))}
			img := oneFile(t, 1, "x")
			w.id = w.put(t, img, c.tags...)
			layers, err := img.Layers()
			assert.NilError(t, err)
			diff, err := layers[0].DiffID()
			assert.NilError(t, err)
			w.layer = diff.String()
			user := "-"
			if c.user != "" {
				user = w.use(t, w.id, c.user).ID.Short()
			}
			fill := strings.NewReplacer("SHORT", short(w), "USER", user, "ID", string(w.id), "LAYER", w.layer).Replace
			start := w.now()
			got, err := w.Remove(w.ctx, c.ref(w), c.opts)
			if c.err != "" {
				assert.Error(t, err, fill(c.err))
				assert.Equal(t, len(w.actions(t, start)), 0)
				return
			}
			assert.NilError(t, err)
			var want []string
			for _, a := range c.want {
				want = append(want, fill(a))
			}
			assert.DeepEqual(t, answers(got), want)
			assert.DeepEqual(t, w.actions(t, start), c.events)
			_, there := w.State.View().Image(w.account(), w.id)
			kept, err := w.content.Kept(w.ctx, w.account())
			assert.NilError(t, err)
			assert.Equal(t, len(kept) == 1, there, "the host keeps what the catalogue has")
			assert.Equal(t, w.blobs(t) > 0, there, "room is free at once")
		})
	}
}

// blobs counts what is in the account's content store.
func (r *imageRig) blobs(t *testing.T) int {
	t.Helper()
	n := 0
	assert.NilError(t, r.containerd.Client.ContentStore().Walk(r.namespaced(), func(content.Info) error { n++; return nil }))
	return n
}

func fixed[W any](s string) func(W) string { return func(W) string { return s } }

func TestRemoveOfSharedLayersAndParents(t *testing.T) {
	r := newImageRig(t)
	base := oneFile(t, 1, "base")
	child, err := mutate.AppendLayers(base, imagetest.Layer(t, imagetest.Tar(t, [2]string{"g", "child"})))
	assert.NilError(t, err)
	baseID, childID := r.put(t, base, "base:1"), r.put(t, child, "child:1")
	rec, _ := r.State.View().Image(nereid.Admin, childID)
	next := *rec
	next.Parent = baseID
	_, err = r.State.Commit(r.ctx, state.Update(&next))
	assert.NilError(t, err)

	_, err = r.Remove(r.ctx, string(baseID), imagetypes.RemoveOptions{Force: true})
	assert.Error(t, err, "conflict: unable to delete "+string(baseID)[7:19]+" (cannot be forced) - image has dependent child images")
	got, err := r.Remove(r.ctx, "base:1", imagetypes.RemoveOptions{})
	assert.NilError(t, err)
	assert.DeepEqual(t, answers(got), []string{"untagged base:1"})

	list, err := r.List(r.ctx, imagetypes.ListOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 1, "a step on the way is not shown")
	list, err = r.List(r.ctx, imagetypes.ListOptions{All: true})
	assert.NilError(t, err)
	assert.Equal(t, len(list), 2)

	got, err = r.Remove(r.ctx, "child:1", imagetypes.RemoveOptions{PruneChildren: true})
	assert.NilError(t, err)
	assert.Equal(t, len(got), 5, "%v", answers(got)) // name, child, its layer, parent, its layer
	assert.Equal(t, got[3].Deleted, string(baseID))
	assert.Equal(t, len(r.State.View().Images(nereid.Admin)), 0)
}

// A repository's digests go with its last tag, and not before.
func TestRemoveOfDigests(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	ref := reg.Host() + "/app"
	img := oneFile(t, 1, "x")
	imagetest.Push(t, ref+":1", img)
	d, err := img.Digest()
	assert.NilError(t, err)
	var out bytes.Buffer
	assert.NilError(t, r.Pull(r.ctx, ref+":1", false, nil, nil, &out))
	assert.NilError(t, r.Tag(r.ctx, ref+":1", ref+":2"))
	got, err := r.Remove(r.ctx, ref+":1", imagetypes.RemoveOptions{})
	assert.NilError(t, err)
	assert.DeepEqual(t, answers(got), []string{"untagged " + ref + ":1"})
	assert.NilError(t, r.Tag(r.ctx, ref+":2", "other:1"))
	got, err = r.Remove(r.ctx, ref+":2", imagetypes.RemoveOptions{})
	assert.NilError(t, err)
	assert.DeepEqual(t, answers(got), []string{"untagged " + ref + ":2", "untagged " + ref + "@" + d.String()})

	assert.NilError(t, r.Pull(r.ctx, ref+"@"+d.String(), false, nil, nil, &out))
	got, err = r.Remove(r.ctx, ref+"@"+d.String(), imagetypes.RemoveOptions{})
	assert.NilError(t, err)
	assert.DeepEqual(t, answers(got), []string{"untagged " + ref + "@" + d.String()})
	got, err = r.Remove(r.ctx, "other:1", imagetypes.RemoveOptions{})
	assert.NilError(t, err)
	assert.Equal(t, len(got), 3)
}

func TestPrune(t *testing.T) {
	host := newImageRig(t)
	setup := func(t *testing.T) (r *imageRig, ids map[string]nereid.ImageID) {
		t.Helper()
		r = host.as(nereid.Account(strings.ReplaceAll(t.Name(), "/", "-")))
		ids = map[string]nereid.ImageID{
			"nameless": r.put(t, oneFile(t, 1, "12345", func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{"keep": "no"} })),
			"named":    r.put(t, oneFile(t, 2, "123"), "named:1", "named:2"),
			"used":     r.put(t, oneFile(t, 3, "1"), "used:1"),
			"young":    r.put(t, imagetest.Image(t, time.Now().Unix()-1_700_000_000, nil, [2]string{"f", "1234567"})),
		}
		r.use(t, ids["used"], state.StatusExited)
		return r, ids
	}
	cases := []struct {
		name      string
		filters   []filters.KeyValuePair
		gone      []string
		reclaimed uint64
	}{
		{"nameless ones", nil, []string{"nameless", "young"}, 12},
		{"all", args("dangling", "false"), []string{"nameless", "named", "young"}, 15},
		{"old ones", args("until", "1h"), []string{"nameless"}, 5},
		{"with a label", args("label", "keep=no"), []string{"nameless"}, 5},
		{"without a label", args("label!", "keep"), []string{"young"}, 7},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, ids := setup(t)
			start := r.now()
			report, err := r.Prune(r.ctx, filters.NewArgs(c.filters...))
			assert.NilError(t, err)
			assert.Equal(t, report.SpaceReclaimed, c.reclaimed)
			for name, id := range ids {
				_, there := r.State.View().Image(r.account(), id)
				gone := false
				for _, g := range c.gone {
					gone = gone || g == name
				}
				assert.Equal(t, there, !gone, name)
			}
			told := r.told(t, start)
			last := told[len(told)-1]
			assert.Equal(t, last.Action, events.ActionPrune)
			assert.Equal(t, last.Actor.Attributes["reclaimed"], fmt.Sprint(c.reclaimed))
		})
	}
	r := host
	_, err := r.Prune(r.ctx, filters.NewArgs(args("color", "red")...))
	assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
	_, err = r.Prune(r.ctx, filters.NewArgs(args("until", "1h", "until", "2h")...))
	assert.Error(t, err, "more than one until filter specified")
	r.pruning.Store(true)
	_, err = r.Prune(r.ctx, filters.NewArgs())
	assert.Error(t, err, "a prune operation is already running")
}

func TestReconcile(t *testing.T) {
	r := newImageRig(t)
	lost := r.put(t, oneFile(t, 1, "lost"), "lost:1")
	orphan := r.put(t, oneFile(t, 2, "orphan"), "orphan:1")
	fine := r.put(t, oneFile(t, 3, "fine"), "fine:1")
	assert.NilError(t, r.content.Drop(r.ctx, nereid.Admin, lost))
	r.containerd.Collect(t)
	_, err := r.State.Commit(r.ctx, state.Delete(&state.Image{Account: nereid.Admin, ID: orphan}))
	assert.NilError(t, err)

	assert.NilError(t, r.Reconcile(r.ctx))
	kept, err := r.content.Kept(r.ctx, nereid.Admin)
	assert.NilError(t, err)
	assert.DeepEqual(t, kept, []nereid.ImageID{fine})
	_, err = r.Resolve(r.ctx, "lost:1")
	assert.Error(t, err, "No such image: lost:1")
	_, err = r.Resolve(r.ctx, "fine:1")
	assert.NilError(t, err)
	_, err = r.Resolve(r.ctx, "orphan:1")
	assert.Error(t, err, "No such image: orphan:1")

	// Loaded again it is back, under its name.
	assert.Equal(t, r.put(t, oneFile(t, 1, "lost"), "lost:1"), lost)
	_, err = r.Resolve(r.ctx, "lost:1")
	assert.NilError(t, err)
	assert.NilError(t, r.Reconcile(r.ctx))
	_, err = r.Resolve(r.ctx, "lost:1")
	assert.NilError(t, err)
}

// However pulls, tags and removals of one image meet, the host keeps what the catalogue has, and no name is left that
// leads nowhere.
func TestVerbsThatMeet(t *testing.T) {
	r := newImageRig(t)
	reg := imagetest.NewRegistry(t)
	ref := reg.Host() + "/app:1"
	imagetest.Push(t, ref, oneFile(t, 1, "x"))
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for range 5 {
				var out bytes.Buffer
				assert.Check(t, r.Pull(r.ctx, ref, false, nil, nil, &out))
				assert.Check(t, !strings.Contains(out.String(), "errorDetail"), out.String())
				if err := r.Tag(r.ctx, ref, fmt.Sprintf("t%d:1", n)); err != nil && !errdefs.IsNotFound(err) {
					t.Error(err)
				}
				if _, err := r.Remove(r.ctx, ref, imagetypes.RemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
					t.Error(err)
				}
				if _, err := r.Remove(r.ctx, fmt.Sprintf("t%d:1", n), imagetypes.RemoveOptions{}); err != nil && !errdefs.IsNotFound(err) {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 5 {
				r.containerd.Collect(t)
			}
		})
	}
	wg.Wait()
	for _, tag := range r.State.View().Tags(nereid.Admin) {
		_, ok := r.State.View().Image(nereid.Admin, tag.Image)
		assert.Check(t, ok, "%s leads nowhere", tag.Ref)
	}
	kept, err := r.content.Kept(r.ctx, nereid.Admin)
	assert.NilError(t, err)
	assert.Equal(t, len(kept), len(r.State.View().Images(nereid.Admin)))
	for _, id := range kept {
		_, err := r.content.Open(r.ctx, nereid.Admin, id)
		assert.NilError(t, err)
	}
}

// Accounts share bytes and nothing else.
func TestAccountsAreApart(t *testing.T) {
	r := newImageRig(t)
	img := oneFile(t, 1, "x")
	id := r.put(t, img, "app:1")
	r.as("other").put(t, img, "app:1")
	reg := imagetest.NewRegistry(t)
	imagetest.Push(t, reg.Host()+"/app:1", img)
	var out bytes.Buffer
	third := nereid.WithAccount(r.ctx, "third")
	assert.NilError(t, r.Pull(third, reg.Host()+"/app:1", false, nil, nil, &out))
	assert.Check(t, !strings.Contains(out.String(), "errorDetail"), out.String())
	_, err := r.Remove(r.ctx, "app:1", imagetypes.RemoveOptions{})
	assert.NilError(t, err)
	r.containerd.Collect(t)
	for _, a := range []nereid.Account{"other", "third"} {
		_, err = r.content.Open(r.ctx, a, id)
		assert.NilError(t, err, string(a))
	}
}

// Content that cannot be entered into the catalogue must not stay on the host.
func TestWhatCannotBeEnteredLeavesNothing(t *testing.T) {
	r := newImageRig(t)
	held, err := r.content.Import(r.ctx, r.account(), bytes.NewReader(imagetest.Tar(t, [2]string{"f", "x"})), image.ImportOptions{})
	assert.NilError(t, err)
	defer held.Release()
	_, _, err = r.record(r.ctx, entry{
		account: r.account(), held: held, tags: []reference.NamedTagged{unwritable{}},
		events: func(*state.Image) []*state.Event { return nil },
	})
	assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
	kept, err := r.content.Kept(r.ctx, nereid.Admin)
	assert.NilError(t, err)
	assert.Equal(t, len(kept), 0)
}

// unwritable is a reference that the state refuses.
type unwritable struct{ reference.NamedTagged }

func (unwritable) String() string { return "" }

// A name twice in an archive is one name.
func TestLoadOfANameTwice(t *testing.T) {
	r := newImageRig(t)
	img := oneFile(t, 1, "x")
	raw, err := img.RawConfigFile()
	assert.NilError(t, err)
	layers, err := img.Layers()
	assert.NilError(t, err)
	l, err := layers[0].Uncompressed()
	assert.NilError(t, err)
	body, err := io.ReadAll(l)
	assert.NilError(t, err)
	in := imagetest.Tar(t, [2]string{"c.json", string(raw)}, [2]string{"l.tar", string(body)},
		[2]string{"manifest.json", `[{"Config":"c.json","RepoTags":["a:1","library/a:1"],"Layers":["l.tar"]}]`})
	var out bytes.Buffer
	assert.NilError(t, r.Load(r.ctx, bytes.NewReader(in), nil, true, &out))
	assert.DeepEqual(t, statuses(t, &out), []string{"Loaded image: a:1"})
}
