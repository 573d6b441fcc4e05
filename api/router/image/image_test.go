package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/gorilla/mux"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/api/compat"
)

// recorder writes down how it is called, and does what the test says. Anything else panics.
type recorder struct {
	Backend
	call   string
	during func(out io.Writer) error
}

func name(p *ocispec.Platform) string {
	if p == nil {
		return "any"
	}
	return p.OS + "/" + p.Architecture
}

func (r *recorder) did(out io.Writer, format string, args ...any) error {
	r.call = fmt.Sprintf(format, args...)
	if r.during == nil {
		return nil
	}
	return r.during(out)
}

func (r *recorder) Pull(_ context.Context, ref string, all bool, p *ocispec.Platform, auth *registry.AuthConfig, out io.Writer) error {
	return r.did(out, "pull %s all=%v %s %q", ref, all, name(p), auth.Username)
}

func (r *recorder) Push(_ context.Context, ref string, p *ocispec.Platform, auth *registry.AuthConfig, out io.Writer) error {
	return r.did(out, "push %s %s %q", ref, name(p), auth.Username)
}

func (r *recorder) Import(_ context.Context, ref string, p *ocispec.Platform, message string, changes []string, in io.Reader, out io.Writer) error {
	content, err := io.ReadAll(in)
	return errors.Join(err, r.did(out, "import %q %s %q %v %s", ref, name(p), message, changes, content))
}

func (r *recorder) Load(_ context.Context, _ io.Reader, p []ocispec.Platform, quiet bool, out io.Writer) error {
	return r.did(out, "load %d quiet=%v", len(p), quiet)
}

func (r *recorder) Save(_ context.Context, refs []string, p []ocispec.Platform, out io.Writer) error {
	return r.did(out, "save %v %d", refs, len(p))
}

func (r *recorder) Tag(_ context.Context, ref, newRef string) error {
	return r.did(nil, "tag %s %s", ref, newRef)
}

func (r *recorder) Remove(_ context.Context, ref string, opts image.RemoveOptions) ([]image.DeleteResponse, error) {
	return nil, r.did(nil, "remove %s %+v", ref, opts)
}

func (r *recorder) List(_ context.Context, opts image.ListOptions) ([]*image.Summary, error) {
	return nil, r.did(nil, "list all=%v shared=%v manifests=%v %v", opts.All, opts.SharedSize, opts.Manifests, opts.Filters.Get("reference"))
}

func (r *recorder) Distribution(_ context.Context, ref string, _ *registry.AuthConfig) (*registry.DistributionInspect, error) {
	return &registry.DistributionInspect{}, r.did(nil, "distribution %s", ref)
}

// ask serves one request as the server would, but for its middleware.
func ask(t *testing.T, b *recorder, v compat.Version, method, path, body string, auth string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	m, failed := mux.NewRouter(), error(nil)
	for _, rt := range Routes(b) {
		m.Path(rt.Path).Methods(rt.Method).HandlerFunc(func(w http.ResponseWriter, r *http.Request) { failed = rt.Handler(w, r) })
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-Registry-Auth", auth)
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r.WithContext(compat.With(r.Context(), v)))
	return w, failed
}

const someAuth = "eyJ1c2VybmFtZSI6ImEifQ==" // {"username":"a"}

func TestWhatTheBackendIsAsked(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	for _, tc := range []struct {
		v            compat.Version
		method, path string
		want         string
	}{
		{51, "POST", "/images/create?fromImage=busybox&tag=latest", `pull docker.io/library/busybox:latest all=false any "a"`},
		{51, "POST", "/images/create?fromImage=busybox:1.36", `pull docker.io/library/busybox:1.36 all=false any "a"`},
		{51, "POST", "/images/create?fromImage=busybox", `pull docker.io/library/busybox all=true any "a"`},
		{51, "POST", "/images/create?fromImage=r.example:5000/x&tag=sha256:" + zeros + "&platform=linux/arm64", `pull r.example:5000/x@sha256:` + zeros + ` all=false linux/arm64 "a"`},
		{31, "POST", "/images/create?fromImage=busybox&tag=x&platform=nonsense/a/b/c", `pull docker.io/library/busybox:x all=false any "a"`},
		{51, "POST", "/images/create?fromSrc=-&repo=mine&tag=1&changes=ENV+A%3D1&changes=CMD+x", `import "docker.io/library/mine:1" any "Imported from -" [ENV A=1 CMD x] body`},
		{51, "POST", "/images/create?fromSrc=-&message=hello", `import "" any "hello" [] body`},
		{51, "POST", "/images/localhost:5000/mine/push?tag=1", `push localhost:5000/mine:1 any "a"`},
		{51, "POST", "/images/localhost:5000/mine/push", `push localhost:5000/mine any "a"`},
		{51, "POST", `/images/mine/push?tag=1&platform={"os":"linux","architecture":"arm64"}`, `push docker.io/library/mine:1 linux/arm64 "a"`},
		{45, "POST", `/images/mine/push?tag=1&platform=nonsense`, `push docker.io/library/mine:1 any "a"`},
		{51, "GET", "/images/get?names=a&names=b", "save [a b] 0"},
		{51, "GET", "/images/docker.io/library/busybox:latest/get", "save [docker.io/library/busybox:latest] 0"},
		{51, "POST", `/images/load?quiet=0&platform={"os":"linux","architecture":"arm64"}`, "load 1 quiet=false"},
		{47, "POST", `/images/load?platform=nonsense`, "load 0 quiet=true"},
		{51, "POST", "/images/busybox/tag?repo=mine/x&tag=2", "tag busybox docker.io/mine/x:2"},
		{51, "DELETE", "/images/a/b:c?force=1", "remove a/b:c {Platforms:[] Force:true PruneChildren:true}"},
		{51, "DELETE", "/images/x?noprune=1", "remove x {Platforms:[] Force:false PruneChildren:false}"},
		{51, "GET", "/images/json?all=1&shared-size=1&manifests=1&filter=x", "list all=true shared=true manifests=true []"},
		{40, "GET", "/images/json?shared-size=1&manifests=1&filter=x", "list all=false shared=false manifests=false [x]"},
		{51, "GET", "/distribution/busybox/json", "distribution docker.io/library/busybox:latest"},
	} {
		b := &recorder{}
		w, err := ask(t, b, tc.v, tc.method, tc.path, "body", someAuth)
		assert.Check(t, err, tc.path)
		assert.Check(t, w.Code < 300, tc.path)
		assert.Check(t, cmp.Equal(b.call, tc.want), tc.path)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		v            compat.Version
		method, path string
		want         string
	}{
		{51, "POST", "/images/create?fromImage=BUSYBOX", "invalid reference format: repository name (library/BUSYBOX) must be lowercase"},
		{51, "POST", "/images/create?fromImage=scratch", "'scratch' is a reserved name"},
		{51, "POST", "/images/create?fromImage=x&platform=a/b/c/d", `"a/b/c/d": cannot parse platform specifier: invalid argument`},
		{51, "POST", "/images/busybox/tag", "repository name must have at least one component"},
		{51, "POST", "/images/busybox/tag?repo=sha256&tag=x", "refusing to create an ambiguous tag using digest algorithm as name"},
		{51, "POST", "/images/busybox/tag?repo=x&tag=a%20b", "invalid tag format"},
		{51, "DELETE", "/images/%20", "image name cannot be blank"},
		{51, "DELETE", "/images/x?platforms=x", "failed to parse platform: invalid character 'x' looking for beginning of value"},
		{51, "GET", "/images/search?term=x&limit=y", `invalid limit specified: strconv.Atoi: parsing "y": invalid syntax`},
		{51, "GET", "/images/search?term=x&limit=-1", "invalid limit specified"},
		{51, "GET", "/images/json?filters=x", "invalid filter"},
		{51, "GET", `/images/x/json?manifests=1&platform={"os":"linux","architecture":"arm64"}`, "conflicting options: manifests and platform options cannot both be set"},
		{51, "GET", "/images/get?names=a&platform=x&platform=y", "failed to parse platform: invalid character 'x' looking for beginning of value"},
		{51, "GET", "/distribution/A/json", "invalid reference format: repository name (library/A) must be lowercase"},
	} {
		_, err := ask(t, &recorder{}, tc.v, tc.method, tc.path, "", "")
		assert.Check(t, cmp.Error(err, tc.want), tc.path)
		if !strings.Contains(tc.want, "reserved") {
			assert.Check(t, errdefs.IsInvalidArgument(err), tc.path)
		} else {
			assert.Check(t, errdefs.IsPermissionDenied(err), tc.path)
		}
	}
}

// An error before the first line is the answer; after it, it is the last line.
func TestProgressErrors(t *testing.T) {
	b := &recorder{during: func(io.Writer) error { return errdefs.ErrNotFound.WithMessage("no such manifest") }}
	_, err := ask(t, b, 51, "POST", "/images/create?fromImage=x&tag=y", "", "")
	assert.Assert(t, errdefs.IsNotFound(err))

	b.during = func(out io.Writer) error {
		_, _ = io.WriteString(out, `{"status":"Pulling"}`+"\r\n")
		return errors.New("the registry died")
	}
	w, err := ask(t, b, 51, "POST", "/images/create?fromImage=x&tag=y", "", "")
	assert.NilError(t, err)
	assert.Equal(t, w.Code, http.StatusOK)
	assert.Equal(t, w.Header().Get("Content-Type"), "application/json")
	assert.Equal(t, w.Body.String(), `{"status":"Pulling"}`+"\r\n"+`{"errorDetail":{"message":"the registry died"},"error":"the registry died"}`+"\r\n")
	assert.Assert(t, w.Flushed)

	b.during = func(io.Writer) error { return errors.New("no tar") }
	w, err = ask(t, b, 51, "POST", "/images/load", "", "")
	assert.NilError(t, err) // a load always answers in its stream
	assert.Equal(t, w.Body.String(), `{"errorDetail":{"message":"no tar"},"error":"no tar"}`+"\r\n")
}

func TestImportFromURL(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone.tar" {
			http.Error(w, "it is gone", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, "root file system")
	}))
	defer srv.Close()
	b := &recorder{}
	host := strings.TrimPrefix(srv.URL, "http://")
	w, err := ask(t, b, 51, "POST", "/images/create?fromSrc="+host+"/fs.tar", "", "")
	assert.NilError(t, err)
	assert.Equal(t, b.call, `import "" any "Imported from `+host+`/fs.tar" [] root file system`)
	assert.Equal(t, w.Body.String(), `{"status":"Downloading from `+srv.URL+`/fs.tar"}`+"\r\n")

	_, err = ask(t, b, 51, "POST", "/images/create?fromSrc="+host+"/gone.tar", "", "")
	assert.Assert(t, errdefs.IsNotFound(err))
	assert.ErrorContains(t, err, "with status 404 Not Found: it is gone")
}
