package image_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// rig is a host's content with a registry.
type rig struct {
	*image.Store
	t          *testing.T
	ctx        context.Context
	containerd *imagetest.Containerd
	registry   *imagetest.Registry
	auth       *registry.AuthConfig
	platform   *ocispec.Platform
	mounts     map[digest.Digest]string // what pushes may mount
	out        bytes.Buffer
}

func newRig(t *testing.T, change ...func(*image.Config)) *rig {
	t.Helper()
	c := imagetest.NewContainerd(t)
	cfg := image.Config{
		Client:     func() *containerd.Client { return c.Client },
		RetryDelay: time.Nanosecond, // the tries are tested, not the waiting
		Attempts:   3,
	}
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return &rig{Store: image.New(cfg), t: t, ctx: ctx, containerd: c, registry: imagetest.NewRegistry(t)}
}

// pull pulls, and on success keeps and releases.
func (r *rig) pull(ref string) (*image.Held, error) {
	r.t.Helper()
	return r.pullTo(r.ctx, ref, image.NewProgress(&r.out, nil))
}

func (r *rig) pullTo(ctx context.Context, ref string, p *image.Progress) (*image.Held, error) {
	r.t.Helper()
	named, err := reference.ParseNormalizedNamed(ref)
	assert.NilError(r.t, err)
	repo, err := r.Connect(ctx, named, r.auth, "pull")
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	held, err := r.Pull(ctx, nereid.Admin, repo, reference.TagNameOnly(named), r.platform, p)
	if err != nil {
		return nil, err
	}
	defer held.Release()
	return held, held.Keep()
}

// lines are the progress lines so far, as "id: status" with detail left out, and forgets them.
func (r *rig) lines() []string {
	r.t.Helper()
	var list []string
	for dec := json.NewDecoder(&r.out); dec.More(); {
		var m jsonmessage.JSONMessage
		assert.NilError(r.t, dec.Decode(&m))
		line := strings.TrimSuffix(m.Status+m.Stream, "\n")
		if m.ID != "" {
			line = m.ID + ": " + line
		}
		if len(list) == 0 || list[len(list)-1] != line {
			list = append(list, line)
		}
	}
	return list
}

func (r *rig) namespaced() context.Context {
	return namespaces.WithNamespace(r.ctx, string(nereid.Admin))
}

// blobs are the digests in the account's content after a garbage collection.
func (r *rig) blobs() []string {
	r.t.Helper()
	r.containerd.Collect(r.t)
	var list []string
	assert.NilError(r.t, r.containerd.Client.ContentStore().Walk(r.namespaced(), func(i content.Info) error {
		list = append(list, i.Digest.String())
		return nil
	}))
	return list
}

// snapshots are the names of the account's snapshots after a garbage collection.
func (r *rig) snapshots() []string {
	r.t.Helper()
	r.containerd.Collect(r.t)
	var list []string
	assert.NilError(r.t, r.containerd.Client.SnapshotService("overlayfs").Walk(r.namespaced(), func(_ context.Context, i snapshots.Info) error {
		list = append(list, i.Name)
		return nil
	}))
	return list
}

func (r *rig) kept() []nereid.ImageID {
	r.t.Helper()
	ids, err := r.Kept(r.ctx, nereid.Admin)
	assert.NilError(r.t, err)
	return ids
}

// endLeases does what time does: every lease ends.
func (r *rig) endLeases() {
	r.t.Helper()
	m := r.containerd.Client.LeasesService()
	all, err := m.List(r.namespaced())
	assert.NilError(r.t, err)
	for _, l := range all {
		assert.NilError(r.t, m.Delete(r.namespaced(), l))
	}
}

func (r *rig) leases() int {
	r.t.Helper()
	all, err := r.containerd.Client.LeasesService().List(r.namespaced())
	assert.NilError(r.t, err)
	for _, l := range all {
		assert.Check(r.t, l.Labels["containerd.io/gc.expire"] != "", "a lease without an end: %v", l)
	}
	return len(all)
}

// partials are the ingests that are not whole.
func (r *rig) partials() []content.Status {
	r.t.Helper()
	list, err := r.containerd.Client.ContentStore().ListStatuses(r.namespaced())
	assert.NilError(r.t, err)
	return list
}

func mustNamed(t *testing.T, ref string) reference.Named {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(ref)
	assert.NilError(t, err)
	return named
}

// viaName has the rig find a registry under the name that its test certificate has, and returns that name.
func viaName(t *testing.T, r *rig, host string) string {
	t.Helper()
	r.DialAll(host)
	return "example.com:5000"
}

var cmpLoaded = cmp.AllowUnexported(loaded{})

func mustBase64(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
