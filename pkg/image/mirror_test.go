package image_test

import (
	"net/http"
	"testing"

	"github.com/docker/docker/api/types/registry"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

func TestMirror(t *testing.T) {
	mirror, hub := imagetest.NewRegistry(t), imagetest.NewRegistry(t)
	imagetest.Push(t, mirror.Host()+"/library/app:1", twoLayers(t))
	imagetest.Push(t, hub.Host()+"/library/app:1", twoLayers(t))
	imagetest.Push(t, hub.Host()+"/library/app:2", twoLayers(t))
	connect := func(t *testing.T, r *rig, actions string) *image.Repository {
		t.Helper()
		repo, err := r.Connect(r.ctx, mustNamed(t, "app:1"), nil, actions)
		assert.NilError(t, err)
		t.Cleanup(repo.Close)
		return repo
	}
	get := func(r *rig, from *image.Repository, ref string) error {
		held, err := r.Pull(r.ctx, nereid.Admin, from, mustNamed(t, ref), nil, image.NewProgress(&r.out, nil))
		if err == nil {
			held.Release()
		}
		return err
	}
	mirrored := func(t *testing.T) *rig {
		r := newRig(t, func(c *image.Config) { c.Mirrors = []string{mirror.URL + "/"} })
		r.HubAt(hub.Host())
		return r
	}

	t.Run("is asked alone for what it has", func(t *testing.T) {
		r := mirrored(t)
		before := hub.Requests("")
		_, err := r.pull("app:1")
		assert.NilError(t, err)
		assert.Equal(t, hub.Requests(""), before)
	})
	t.Run("leads on to the hub for what it has not", func(t *testing.T) {
		r := mirrored(t)
		repo := connect(t, r, "pull")
		assert.Assert(t, repo.Mirror())
		assert.ErrorContains(t, get(r, repo, "app:2"), "manifest for app:2 not found")
		next, err := repo.Next(r.ctx)
		assert.NilError(t, err)
		defer next.Close()
		assert.Assert(t, !next.Mirror())
		assert.NilError(t, get(r, next, "app:2"))
	})
	t.Run("is passed over when it does not answer", func(t *testing.T) {
		r := newRig(t, func(c *image.Config) { c.Mirrors = []string{"http://127.0.0.1:1"} })
		r.HubAt(hub.Host())
		assert.Assert(t, !connect(t, r, "pull").Mirror())
	})
	t.Run("is not pushed to", func(t *testing.T) {
		assert.Assert(t, !connect(t, mirrored(t), "pull,push").Mirror())
	})
	t.Run("is none for other registries", func(t *testing.T) {
		r := mirrored(t)
		repo, err := r.Connect(r.ctx, mustNamed(t, hub.Host()+"/library/app:1"), nil, "pull")
		assert.NilError(t, err)
		defer repo.Close()
		assert.Assert(t, !repo.Mirror())
	})
	t.Run("gets no credentials", func(t *testing.T) {
		r := mirrored(t)
		mirror.Intercept(func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
			assert.Check(t, req.Header.Get("Authorization") == "")
			w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
		defer mirror.Intercept(nil)
		repo, err := r.Connect(r.ctx, mustNamed(t, "app:1"), &registry.AuthConfig{Username: "ann", Password: "secret"}, "pull")
		assert.NilError(t, err)
		defer repo.Close()
		assert.ErrorContains(t, get(r, repo, "app:1"), "no basic auth credentials")
	})
}
