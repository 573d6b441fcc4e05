package image_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/image/imagetest"
)

// pushed is an image in the rig's registry.
func (r *rig) pushed(repo string, img v1.Image) string {
	r.t.Helper()
	ref := r.registry.Host() + "/" + repo
	imagetest.Push(r.t, ref, img)
	return ref
}

func twoLayers(t *testing.T) v1.Image {
	t.Helper()
	return imagetest.Image(t, 1, nil, [2]string{"a", strings.Repeat("one", 3000)}, [2]string{"b", "two!"})
}

func layerIDs(t *testing.T, img v1.Image) []string {
	t.Helper()
	layers, err := img.Layers()
	assert.NilError(t, err)
	var ids []string
	for _, l := range layers {
		d, err := l.Digest()
		assert.NilError(t, err)
		ids = append(ids, d.Hex[:12])
	}
	return ids
}

func digestOf(t *testing.T, img interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := img.Digest()
	assert.NilError(t, err)
	return d.String()
}

func TestPullTellsEachLayersStory(t *testing.T) {
	r := newRig(t)
	img := twoLayers(t)
	ref := r.pushed("library/app:1", img)
	_, err := r.pull(ref)
	assert.NilError(t, err)
	lines := r.lines()
	ids := layerIDs(t, img)
	assert.Equal(t, lines[0], "1: Pulling from library/app")
	assert.DeepEqual(t, lines[1:3], []string{ids[0] + ": Pulling fs layer", ids[1] + ": Pulling fs layer"})
	assert.Equal(t, lines[len(lines)-1], "Digest: "+digestOf(t, img))
	for _, id := range ids {
		var story []string
		for _, l := range lines {
			if s, ok := strings.CutPrefix(l, id+": "); ok && (len(story) == 0 || story[len(story)-1] != s) {
				story = append(story, s)
			}
		}
		assert.DeepEqual(t, story, []string{
			"Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete",
		})
	}

	// What is here whole is not talked about layer by layer, as Docker does not.
	_, err = r.pull(ref)
	assert.NilError(t, err)
	assert.DeepEqual(t, r.lines(), []string{"1: Pulling from library/app", "Digest: " + digestOf(t, img)})
	assert.Equal(t, r.leases(), 0)
}

func TestPullSaysWhichLayersItHas(t *testing.T) {
	r := newRig(t)
	base := twoLayers(t)
	_, err := r.pull(r.pushed("base", base))
	assert.NilError(t, err)
	r.lines()
	more, err := mutate.AppendLayers(base, imagetest.Layer(t, imagetest.Tar(t, [2]string{"c", "three"})))
	assert.NilError(t, err)
	_, err = r.pull(r.pushed("more", more))
	assert.NilError(t, err)
	ids := layerIDs(t, more)
	assert.DeepEqual(t, r.lines()[1:4], []string{
		ids[0] + ": Already exists", ids[1] + ": Already exists", ids[2] + ": Pulling fs layer",
	})
	assert.Equal(t, r.registry.Requests("GET /v2/more/blobs/"+digestOf(t, mustLayers(t, more)[0])), 0)
}

func mustLayers(t *testing.T, img v1.Image) []v1.Layer {
	t.Helper()
	layers, err := img.Layers()
	assert.NilError(t, err)
	return layers
}

func TestPullWaitsForItsTurn(t *testing.T) {
	r := newRig(t, func(c *image.Config) { c.Concurrency = 1 })
	img := twoLayers(t)
	ref := r.pushed("app", img)
	var once sync.Once
	release := make(chan struct{})
	r.registry.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if strings.Contains(req.URL.Path, "/blobs/") && !strings.Contains(req.URL.Path, configDigest(t, img)) {
			once.Do(func() { <-release })
		}
		next.ServeHTTP(w, req)
	})
	waits := writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), `"Waiting"`) {
			close(release) // the first layer may only end once the second waits
		}
		return len(b), nil
	})
	_, err := r.pullTo(r.ctx, ref, image.NewProgress(waits, nil))
	assert.NilError(t, err)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func configDigest(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.ConfigName()
	assert.NilError(t, err)
	return d.String()
}

func TestPulledImageIsWhole(t *testing.T) {
	r := newRig(t)
	img := twoLayers(t)
	held, err := r.pull(r.pushed("app", img))
	assert.NilError(t, err)
	assert.Equal(t, string(held.ID), configDigest(t, img))
	assert.DeepEqual(t, held.Sizes, []int64{9000, 4})
	assert.Equal(t, held.Size(), int64(9004))
	raw, err := img.RawConfigFile()
	assert.NilError(t, err)
	assert.DeepEqual(t, held.Config, raw)

	// It outlives garbage collections, with manifest, configuration, both layers and both snapshots.
	assert.Equal(t, len(r.blobs()), 4)
	assert.Equal(t, len(r.snapshots()), 2)
	again, err := r.Open(r.ctx, "admin", held.ID)
	assert.NilError(t, err)
	assert.DeepEqual(t, *again, held.Image)

	// Dropped, nothing is left.
	assert.NilError(t, r.Drop(r.ctx, "admin", held.ID))
	assert.NilError(t, r.Drop(r.ctx, "admin", held.ID))
	assert.Equal(t, len(r.blobs()), 0)
	assert.Equal(t, len(r.snapshots()), 0)
	_, err = r.Open(r.ctx, "admin", held.ID)
	assert.Check(t, errdefs.IsNotFound(err), "%v", err)
}

// An image whose snapshots somebody removed is not whole, and pulling it again makes it so.
func TestPullHeals(t *testing.T) {
	r := newRig(t)
	ref := r.pushed("app", twoLayers(t))
	held, err := r.pull(ref)
	assert.NilError(t, err)
	sn := r.containerd.Client.SnapshotService("overlayfs")
	names := r.snapshots()
	for len(names) > 0 { // children first; whichever goes
		names = slices.DeleteFunc(names, func(n string) bool { return sn.Remove(r.namespaced(), n) == nil })
	}
	_, err = r.Open(r.ctx, "admin", held.ID)
	assert.Check(t, errdefs.IsNotFound(err), "%v", err)
	_, err = r.pull(ref)
	assert.NilError(t, err)
	_, err = r.Open(r.ctx, "admin", held.ID)
	assert.NilError(t, err)
}

func TestTwoPullsShareTheWork(t *testing.T) {
	r := newRig(t)
	img := twoLayers(t)
	ref := r.pushed("app", img)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { _, errs[i] = r.pullTo(r.ctx, ref, nil) })
	}
	wg.Wait()
	for _, err := range errs {
		assert.NilError(t, err)
	}
	for _, l := range mustLayers(t, img) {
		assert.Equal(t, r.registry.Requests("GET /v2/app/blobs/"+digestOf(t, l)), 1)
	}
	assert.Equal(t, len(r.kept()), 1)
	assert.Equal(t, r.leases(), 0)
	assert.Equal(t, len(r.blobs()), 4)
}

// answer is a registry's error.
func answer(status int, code, message string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.URL.Path == "/v2/" {
			next.ServeHTTP(w, req)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	}
}

// blobs intercepts requests for layers, not for the configuration.
func onLayers(config string, f func(w http.ResponseWriter, req *http.Request, next http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") && !strings.HasSuffix(req.URL.Path, config) {
			f(w, req, next)
			return
		}
		next.ServeHTTP(w, req)
	}
}

func TestPullFailures(t *testing.T) {
	img := twoLayers(t)
	config := configDigest(t, img)
	cases := []struct {
		name      string
		intercept func(http.ResponseWriter, *http.Request, http.Handler)
		err       string // HOST stands for the registry
		class     func(error) bool
		quiet     bool // fails before the first line
		clean     bool // nothing of it is worth another try
	}{
		{
			name: "denied", quiet: true, class: errdefs.IsNotFound,
			intercept: answer(403, "DENIED", "requested access to the resource is denied"),
			err:       "pull access denied for HOST/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
		},
		{
			name: "manifest unknown", quiet: true, class: errdefs.IsNotFound,
			intercept: answer(404, "MANIFEST_UNKNOWN", "manifest unknown"),
			err:       "manifest for HOST/app:1 not found: manifest unknown: manifest unknown",
		},
		{
			name: "name unknown", quiet: true, class: errdefs.IsNotFound,
			intercept: answer(404, "NAME_UNKNOWN", "repository name not known to registry"),
			err:       "repository HOST/app not found: name unknown: repository name not known to registry",
		},
		{
			name: "too many requests", quiet: true,
			intercept: answer(429, "TOOMANYREQUESTS", "You have reached your pull rate limit."),
			err:       "toomanyrequests: You have reached your pull rate limit.",
		},
		{
			name: "unauthorized", quiet: true,
			intercept: answer(401, "UNAUTHORIZED", "authentication required"),
			err:       "unauthorized: authentication required",
		},
		{
			name: "no registry at all", quiet: true,
			intercept: func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				http.Error(w, "<html>gateway</html>", http.StatusBadGateway)
			},
			err: "received unexpected HTTP status: 502 Bad Gateway",
		},
		{
			name: "an error that is no JSON", quiet: true,
			intercept: func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(400)
				io.WriteString(w, "{nonsense")
			},
			err: `error parsing HTTP 400 response body: invalid character 'n' looking for beginning of object key string: "{nonsense"`,
		},
		{
			name: "truncated layers",
			intercept: onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				w.Header().Set("Content-Length", "90")
				w.Write([]byte("short"))
			}),
			err: "unexpected EOF",
		},
		{
			name: "fewer bytes than the manifest says", clean: true, class: errdefs.IsInvalidArgument,
			intercept: onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				w.Write([]byte("short"))
			}),
			err: "filesystem layer verification failed for digest sha256:",
		},
		{
			name: "wrong bytes of the right size", clean: true, class: errdefs.IsInvalidArgument,
			intercept: onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				rec := &recorder{ResponseWriter: w, change: func(b []byte) { b[len(b)/2] ^= 0xff }}
				next.ServeHTTP(rec, req)
			}),
			err: "filesystem layer verification failed for digest sha256:",
		},
		{
			name: "more bytes than the manifest says", clean: true, class: errdefs.IsInvalidArgument,
			intercept: onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				w.Write(make([]byte, 1<<20))
			}),
			err: "bytes its manifest says",
		},
		{
			name: "a registry that breaks on layers",
			intercept: onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				w.WriteHeader(500)
			}),
			err: "received unexpected HTTP status: 500 Internal Server Error",
		},
		{
			name: "a layer that is not there",
			intercept: onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				w.WriteHeader(404)
			}),
			err: "unknown blob",
		},
		{
			name: "a wrong configuration", class: errdefs.IsInvalidArgument,
			intercept: func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				if strings.HasSuffix(req.URL.Path, config) {
					io.WriteString(w, "{}")
					return
				}
				next.ServeHTTP(w, req)
			},
			err: "error pulling image configuration: image config verification failed for digest " + config,
		},
		{
			name: "a wrong manifest", class: errdefs.IsInvalidArgument, quiet: true,
			intercept: func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/") {
					w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
					io.WriteString(w, "{}")
					return
				}
				next.ServeHTTP(w, req)
			},
			err: "manifest verification failed for digest " + digestOf(t, img),
		},
		{
			name: "schema 1", class: errdefs.IsInvalidArgument, quiet: true,
			intercept: manifestOf("application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[]}`),
			err: "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of HOST/app:1 " +
				"to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/",
		},
		{
			name: "a manifest of two kinds", class: errdefs.IsInvalidArgument, quiet: true,
			intercept: manifestOf(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}`),
			err:       "mixes the fields of several kinds",
		},
		{
			name: "an artifact", class: errdefs.IsInvalidArgument,
			intercept: manifestOf(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json",`+
				`"digest":"`+config+`","size":2},"layers":[]}`),
			err: "unsupported media type application/vnd.cncf.helm.config.v1+json",
		},
		{
			name: "a plugin", class: errdefs.IsInvalidArgument,
			intercept: manifestOf("application/vnd.docker.distribution.manifest.v2+json", `{"schemaVersion":2,"config":{"mediaType":"application/vnd.docker.plugin.v1+json",`+
				`"digest":"`+config+`","size":2},"layers":[]}`),
			err: `Encountered remote "application/vnd.docker.plugin.v1+json"(plugin) when fetching`,
		},
		{
			name: "a digest that is none", class: errdefs.IsInvalidArgument,
			intercept: manifestOf(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"digest":"sha256:../../etc","size":2},"layers":[]}`),
			err:       `could not validate config digest "sha256:../../etc"`,
		},
		{
			name: "fewer layers than the configuration has", class: errdefs.IsInvalidArgument,
			intercept: manifestOf(ocispec.MediaTypeImageManifest, fmt.Sprintf(
				`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[]}`, ocispec.MediaTypeImageConfig, config, configSize(t, img))),
			err: "layers from manifest don't match image configuration",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			ref := r.pushed("app:1", img)
			r.registry.Intercept(c.intercept)
			_, err := r.pull(ref)
			assert.ErrorContains(t, err, strings.ReplaceAll(c.err, "HOST", r.registry.Host()))
			if c.class != nil {
				assert.Check(t, c.class(err), "class of %v", err)
			}
			lines := r.lines()
			assert.Equal(t, len(lines) == 0, c.quiet, "lines before the error")
			assert.Equal(t, len(r.kept()), 0)

			if c.clean {
				assert.Equal(t, len(r.partials()), 0)
				assert.Check(t, !strings.Contains(strings.Join(lines, "\n"), "Retrying"), "altered content is not asked for again: %q", lines)
			}

			// What is left waits for another try, and no longer than its lease.
			r.registry.Intercept(nil)
			_, err = r.pull(ref)
			assert.NilError(t, err)
			assert.Equal(t, r.leases(), 0)
			assert.NilError(t, r.Drop(r.ctx, "admin", r.kept()[0]))
			assert.Equal(t, len(r.blobs()), 0)
			assert.Equal(t, len(r.snapshots()), 0)
			assert.Equal(t, len(r.partials()), 0)
		})
	}
}

func configSize(t *testing.T, img v1.Image) int {
	t.Helper()
	raw, err := img.RawConfigFile()
	assert.NilError(t, err)
	return len(raw)
}

// manifestOf serves one document for every manifest.
func manifestOf(kind, doc string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if strings.Contains(req.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", kind)
			io.WriteString(w, doc)
			return
		}
		next.ServeHTTP(w, req)
	}
}

// recorder changes a body on its way out.
type recorder struct {
	http.ResponseWriter
	change func([]byte)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) Write(b []byte) (int, error) {
	b = slices.Clone(b)
	r.change(b)
	return r.ResponseWriter.Write(b)
}

func TestPullConnectionRefused(t *testing.T) {
	r := newRig(t)
	host := r.registry.Host()
	r.registry.Close()
	_, err := r.pull(host + "/app")
	assert.Error(t, err, fmt.Sprintf(`Get "http://%s/v2/": dial tcp %s: connect: connection refused`, host, host))
}

// Images whose layers are not what they say fail while unpacking; nothing of them may stay.
func TestPullOfWrongLayers(t *testing.T) {
	cases := []struct {
		name  string
		layer []byte
		err   string
	}{
		{"no tar", []byte(strings.Repeat("this is no tar at all ", 50)), "failed to register layer"},
		{"a tar cut short", imagetest.Tar(t, [2]string{"x", strings.Repeat("x", 4000)})[:2000], "failed to register layer"},
		{"other files than the configuration says", imagetest.Tar(t, [2]string{"x", "y"}), "layers from manifest don't match image configuration"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			wrong, err := mutate.AppendLayers(empty.Image, imagetest.Layer(t, c.layer))
			assert.NilError(t, err)
			if strings.HasPrefix(c.name, "other") {
				wrong, err = mutate.ConfigFile(wrong, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{
					Type: "layers", DiffIDs: []v1.Hash{{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}},
				}})
				assert.NilError(t, err)
			}
			_, err = r.pull(r.pushed("app", wrong))
			assert.ErrorContains(t, err, c.err)
			assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
			assert.Equal(t, len(r.kept()), 0)
			assert.Equal(t, len(r.snapshots()), 0)
			r.endLeases()
			assert.Equal(t, len(r.blobs()), 0)
		})
	}
}

func TestPullGoesOnWhereItStopped(t *testing.T) {
	big := imagetest.Image(t, 1, nil, [2]string{"a", random(1 << 20)})
	config := configDigest(t, big)
	const cut = 300_000
	dying := func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		next.ServeHTTP(&cutter{ResponseWriter: w, left: cut}, req)
	}
	t.Run("within one pull", func(t *testing.T) {
		r := newRig(t)
		ref := r.pushed("app", big)
		var from []string
		r.registry.Intercept(onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			from = append(from, req.Header.Get("Range"))
			if len(from) == 1 {
				dying(w, req, next)
				return
			}
			next.ServeHTTP(w, req)
		}))
		_, err := r.pull(ref)
		assert.NilError(t, err)
		assert.DeepEqual(t, from, []string{"", fmt.Sprintf("bytes=%d-%d", cut, layerSize(t, big)-1)})
		assert.Check(t, is.Contains(strings.Join(r.lines(), "\n"), "Retrying in 1 second"))
	})
	t.Run("in a second pull", func(t *testing.T) {
		r := newRig(t, func(c *image.Config) { c.Attempts = 1 })
		ref := r.pushed("app", big)
		r.registry.Intercept(onLayers(config, dying))
		_, err := r.pull(ref)
		assert.ErrorContains(t, err, "EOF")
		assert.Equal(t, r.leases(), 1)
		r.containerd.Collect(t)
		assert.Equal(t, r.partials()[0].Offset, int64(cut))
		var from []string
		r.registry.Intercept(onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			from = append(from, req.Header.Get("Range"))
			next.ServeHTTP(w, req)
		}))
		_, err = r.pull(ref)
		assert.NilError(t, err)
		assert.DeepEqual(t, from, []string{fmt.Sprintf("bytes=%d-%d", cut, layerSize(t, big)-1)})
		assert.Equal(t, r.leases(), 0)
	})
	t.Run("after the daemon died", func(t *testing.T) {
		r := newRig(t)
		ref := r.pushed("app", big)
		ctx, die := context.WithCancel(r.ctx)
		var once sync.Once
		r.registry.Intercept(onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			once.Do(func() { dieAfter(r, die) })
			dying(w, req, next)
		}))
		_, err := r.pullTo(ctx, ref, nil)
		assert.ErrorIs(t, err, context.Canceled)
		assert.NilError(t, r.ForgetRetries(r.ctx, "admin")) // a daemon that lived left this, a dead one did not
		assert.NilError(t, r.EndTransfers(r.ctx, "admin"))
		left, err := r.containerd.Client.LeasesService().List(r.namespaced())
		assert.NilError(t, err)
		assert.Equal(t, len(left), 1)
		end, err := time.Parse(time.RFC3339, left[0].Labels["containerd.io/gc.expire"])
		assert.NilError(t, err)
		assert.Check(t, time.Until(end) <= time.Hour)
		r.containerd.Collect(t)
		assert.Equal(t, len(r.blobs()), 2, "manifest and configuration wait for another try")
		assert.NilError(t, r.ForgetRetries(r.ctx, "admin"))
		assert.Equal(t, len(r.blobs()), 0)
	})
	t.Run("not after the lease", func(t *testing.T) {
		r := newRig(t, func(c *image.Config) { c.Attempts = 1 })
		ref := r.pushed("app", big)
		r.registry.Intercept(onLayers(config, dying))
		_, err := r.pull(ref)
		assert.ErrorContains(t, err, "EOF")
		r.endLeases()
		assert.Equal(t, len(r.blobs()), 0)
		assert.Equal(t, len(r.partials()), 0)
	})
	t.Run("from the start with a registry that cannot", func(t *testing.T) {
		r := newRig(t)
		ref := r.pushed("app", big)
		tries := 0
		r.registry.Intercept(onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			req.Header.Del("Range")
			if tries++; tries == 1 {
				dying(w, req, next)
				return
			}
			next.ServeHTTP(w, req)
		}))
		_, err := r.pull(ref)
		assert.NilError(t, err)
		assert.Equal(t, tries, 2)
	})
	t.Run("from the start when what was there is wrong", func(t *testing.T) {
		r := newRig(t)
		ref := r.pushed("app", big)
		tries := 0
		r.registry.Intercept(onLayers(config, func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			if tries++; tries == 1 {
				w = &recorder{w, func(b []byte) { b[0] ^= 0xff }}
				dying(w, req, next)
				return
			}
			next.ServeHTTP(w, req)
		}))
		_, err := r.pull(ref)
		assert.NilError(t, err)
		assert.Equal(t, tries, 3)
	})
}

// cutter ends a body after so many bytes, and the connection with it.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) >= c.left {
		c.ResponseWriter.Write(b[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

// random is text that does not compress, the same each time.
func random(n int) string {
	b, x := make([]byte, n), uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return string(b)
}

func TestPullEndsWithItsClient(t *testing.T) {
	r := newRig(t)
	img := twoLayers(t)
	ref := r.pushed("app", img)
	stuck := make(chan struct{})
	r.registry.Intercept(onLayers(configDigest(t, img), func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		<-stuck
	}))
	defer close(stuck)
	ctx, gone := context.WithCancel(r.ctx)
	broken := writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), "Pulling fs layer") {
			return 0, errors.New("broken pipe")
		}
		return len(b), nil
	})
	_, err := r.pullTo(ctx, ref, image.NewProgress(broken, gone))
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, len(r.kept()), 0)
	r.endLeases()
	assert.Equal(t, len(r.blobs()), 0)
}

func TestPullChoosesThePlatform(t *testing.T) {
	r := newRig(t)
	per := map[string]v1.Image{}
	index := v1.ImageIndex(empty.Index)
	for n, p := range []v1.Platform{{OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "amd64"}, {OS: "windows", Architecture: "amd64"}} {
		img := imagetest.Image(t, int64(n), func(c *v1.ConfigFile) { c.OS, c.Architecture, c.Variant = p.OS, p.Architecture, p.Variant }, [2]string{"f", p.Architecture})
		per[p.OS+"/"+p.Architecture] = img
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	ref := r.registry.Host() + "/multi:1"
	imagetest.Push(t, ref, index)
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})
	imagetest.Push(t, r.registry.Host()+"/nested:1", nested)
	cases := []struct {
		name, ref string
		platform  *ocispec.Platform
		want      string
		err       string
	}{
		{"arm64", ref, &ocispec.Platform{OS: "linux", Architecture: "arm64"}, "linux/arm64", ""},
		{"amd64", ref, &ocispec.Platform{OS: "linux", Architecture: "amd64"}, "linux/amd64", ""},
		{"nested", r.registry.Host() + "/nested:1", &ocispec.Platform{OS: "linux", Architecture: "arm64"}, "linux/arm64", ""},
		{"none", ref, &ocispec.Platform{OS: "linux", Architecture: "s390x"}, "", "no matching manifest for linux/s390x in the manifest list entries"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r.platform = c.platform
			held, err := r.pull(c.ref)
			if c.err != "" {
				assert.Error(t, err, c.err)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, string(held.ID), configDigest(t, per[c.want]))
			again, err := r.Open(r.ctx, "admin", held.ID)
			assert.NilError(t, err)
			assert.DeepEqual(t, again.Target, held.Target)
			assert.Check(t, is.Contains(r.blobs(), held.Target.Digest.String()), "the index is kept too")
		})
	}
	r.platform = nil
	held, err := r.pull(ref + "@" + digestOf(t, index))
	assert.NilError(t, err)
	assert.Equal(t, held.Digest.String(), digestOf(t, index))
	held, err = r.pull(r.registry.Host() + "/multi@" + digestOf(t, per["linux/arm64"]))
	assert.NilError(t, err)
	assert.Equal(t, string(held.ID), configDigest(t, per["linux/arm64"]))
}

func TestTagsPageByPage(t *testing.T) {
	r := newRig(t)
	var want []string
	img := twoLayers(t)
	for i := range 5 {
		tag := fmt.Sprintf("v%d", i)
		r.pushed("many:"+tag, img)
		want = append(want, tag)
	}
	r.registry.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if !strings.HasSuffix(req.URL.Path, "/tags/list") {
			next.ServeHTTP(w, req)
			return
		}
		switch req.URL.Query().Get("last") {
		case "":
			w.Header().Set("Link", `</v2/many/tags/list?last=v2&n=3>; rel="next"`)
			io.WriteString(w, `{"tags":["v0","v1","v2"]}`)
		case "v2":
			w.Header().Set("Link", `<http://evil.invalid/v2/many/tags/list?last=x>; rel="next"`)
			io.WriteString(w, `{"tags":["v3","v4"]}`)
		}
	})
	got, err := r.tags("many")
	assert.NilError(t, err)
	assert.DeepEqual(t, got, want, cmpopts.SortSlices(strings.Compare))
}

func (r *rig) tags(repo string) ([]string, error) {
	named := mustNamed(r.t, r.registry.Host()+"/"+repo)
	c, err := r.Connect(r.ctx, named, r.auth, "pull")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Tags(r.ctx)
}

// A layer used twice is fetched once and unpacked twice.
func TestPullOfARepeatedLayer(t *testing.T) {
	r := newRig(t)
	l := imagetest.Layer(t, imagetest.Tar(t, [2]string{"same", "same"}))
	img, err := mutate.AppendLayers(empty.Image, l, l, imagetest.Layer(t, imagetest.Tar(t, [2]string{"x", "y"})), l)
	assert.NilError(t, err)
	held, err := r.pull(r.pushed("app", mutate.MediaType(img, types.DockerManifestSchema2)))
	assert.NilError(t, err)
	assert.DeepEqual(t, held.Sizes, []int64{4, 4, 1, 4})
	assert.Equal(t, len(r.snapshots()), 4)
	assert.Equal(t, r.registry.Requests("GET /v2/app/blobs/"+digestOf(t, l)), 1)
}

func layerSize(t *testing.T, img v1.Image) int64 {
	t.Helper()
	n, err := mustLayers(t, img)[0].Size()
	assert.NilError(t, err)
	return n
}

// An image that is removed while a pull has found it here must be whole when the pull ends.
func TestPullHoldsWhatItFinds(t *testing.T) {
	t.Run("the image itself", func(t *testing.T) {
		r := newRig(t)
		ref := r.pushed("app", twoLayers(t))
		_, err := r.pull(ref)
		assert.NilError(t, err)
		named := reference.TagNameOnly(mustNamed(t, ref))
		repo, err := r.Connect(r.ctx, named, nil, "pull")
		assert.NilError(t, err)
		defer repo.Close()
		held, err := r.Pull(r.ctx, "admin", repo, named, nil, nil)
		assert.NilError(t, err)
		assert.NilError(t, r.Drop(r.ctx, "admin", held.ID))
		r.containerd.Collect(t)
		assert.NilError(t, held.Keep())
		held.Release()
		r.containerd.Collect(t)
		_, err = r.Open(r.ctx, "admin", held.ID)
		assert.NilError(t, err)
	})
	t.Run("layers of another", func(t *testing.T) {
		r := newRig(t)
		base := twoLayers(t)
		first, err := r.pull(r.pushed("base", base))
		assert.NilError(t, err)
		more, err := mutate.AppendLayers(base, imagetest.Layer(t, imagetest.Tar(t, [2]string{"c", "three"})))
		assert.NilError(t, err)
		ref := r.pushed("more", more)
		r.registry.Intercept(onLayers(configDigest(t, more), func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			assert.Check(t, r.Drop(r.ctx, "admin", first.ID))
			r.containerd.Collect(t)
			next.ServeHTTP(w, req)
		}))
		held, err := r.pull(ref)
		assert.NilError(t, err)
		r.containerd.Collect(t)
		_, err = r.Open(r.ctx, "admin", held.ID)
		assert.NilError(t, err)
	})
}

func TestPullRefusesEnormousConfigurations(t *testing.T) {
	r := newRig(t)
	img := imagetest.Image(t, 1, func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{"l": random(1 << 20)} }, [2]string{"a", "b"})
	_, err := r.pull(r.pushed("app", img))
	assert.Check(t, errdefs.IsInvalidArgument(err), "%v", err)
	assert.ErrorContains(t, err, "is over the limit of 524288")
}

// dieAfter ends a pull as a daemon's death does: nothing is cleaned up. The leases it has are put back as they were.
func dieAfter(r *rig, die func()) {
	m := r.containerd.Client.LeasesService()
	before, err := m.List(r.namespaced())
	assert.Check(r.t, err)
	for _, l := range before {
		copied, err := m.Create(r.namespaced(), leases.WithRandomID(), leases.WithLabels(l.Labels))
		assert.Check(r.t, err)
		held, err := m.ListResources(r.namespaced(), l)
		assert.Check(r.t, err)
		for _, h := range held {
			assert.Check(r.t, m.AddResource(r.namespaced(), copied, h))
		}
	}
	die()
}
