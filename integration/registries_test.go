//go:build integration

package integration

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// outside is a registry on the other machine: nothing about it is trusted as loopback is.
type outside struct {
	addr  string
	inner http.Handler
}

// serveOutside starts one on a port of the other machine; guard, if any, stands before it.
func serveOutside(t *testing.T, h *lab.Host, port string, secure *tls.Config, guard func(http.Handler) http.Handler) *outside {
	t.Helper()
	r := &outside{addr: net.JoinHostPort(h.Outside, port), inner: registry.New(registry.Logger(quiet()))}
	handler := r.inner
	if guard != nil {
		handler = guard(handler)
	}
	srv := httptest.NewUnstartedServer(handler)
	srv.Listener.Close()
	srv.Listener, srv.Config.ErrorLog = h.ListenOutside(t, port), quiet()
	if secure != nil {
		srv.TLS = secure
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return r
}

// put has the registry hold an image or index, whoever may push to it.
func (r *outside) put(t *testing.T, ref string, what remote.Taggable) {
	t.Helper()
	back := httptest.NewServer(r.inner)
	defer back.Close()
	to, err := name.ParseReference(strings.TrimPrefix(back.URL, "http://")+"/"+ref, name.Insecure)
	assert.NilError(t, err)
	switch w := what.(type) {
	case v1.Image:
		err = remote.Write(to, w, remote.WithContext(t.Context()))
	case v1.ImageIndex:
		err = remote.WriteIndex(to, w, remote.WithContext(t.Context()))
	}
	assert.NilError(t, err)
}

// issuer makes certificates.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	var der []byte
	der, i.key = i.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	var err error
	i.cert, err = x509.ParseCertificate(der)
	assert.NilError(t, err)
	return i
}

func (i *issuer) sign(t *testing.T, c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	assert.NilError(t, err)
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := i.cert, i.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	assert.NilError(t, err)
	return der, key
}

// pair is a certificate and its key, in PEM.
func (i *issuer) pair(t *testing.T, c *x509.Certificate) (cert, key []byte) {
	t.Helper()
	der, private := i.sign(t, c)
	raw, err := x509.MarshalECPrivateKey(private)
	assert.NilError(t, err)
	return pemOf("CERTIFICATE", der), pemOf("EC PRIVATE KEY", raw)
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (i *issuer) server(t *testing.T, addr string) tls.Certificate {
	t.Helper()
	cert, key := i.pair(t, &x509.Certificate{Subject: pkix.Name{CommonName: "registry"}, IPAddresses: []net.IP{net.ParseIP(addr)}})
	pair, err := tls.X509KeyPair(cert, key)
	assert.NilError(t, err)
	return pair
}

// trust writes a registry's files where Docker looks for them, and takes them away with the test.
func trust(t *testing.T, registry string, files map[string][]byte) {
	t.Helper()
	dir := filepath.Join("/etc/docker/certs.d", registry)
	assert.NilError(t, os.MkdirAll(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, content := range files {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
}

func TestRegistryOnAnotherMachine(t *testing.T) {
	h := lab.New(t)
	ca := newIssuer(t)
	img := lab.Busybox(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	secure := &tls.Config{Certificates: []tls.Certificate{ca.server(t, h.Outside)}}
	mutual := secure.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, pool
	// The ports are the test's own, so that the certificates' folders are nobody else's.
	reg := serveOutside(t, h, "45443", secure, nil)
	strict := serveOutside(t, h, "45444", mutual, nil)
	plain := serveOutside(t, h, "45000", nil, nil)
	for _, r := range []*outside{reg, strict, plain} {
		r.put(t, "app:1", img)
	}
	caFile := pemOf("CERTIFICATE", ca.cert.Raw)

	runCases(t, h, []cliCase{
		{name: "unknown authority", args: "pull -q " + reg.addr + "/app:1", code: 1, stderr: "x509: certificate signed by unknown authority"},
		{name: "plain http", args: "pull -q " + plain.addr + "/app:1", code: 1, stderr: "http: server gave HTTP response to HTTPS client"},
	})
	trust(t, reg.addr, map[string][]byte{"ca.crt": caFile})
	trust(t, strict.addr, map[string][]byte{"ca.crt": caFile})
	runCases(t, h, []cliCase{
		{name: "known authority", args: "pull -q " + reg.addr + "/app:1", out: reg.addr + "/app:1"},
		{name: "no client certificate", args: "pull -q " + strict.addr + "/app:1", code: 1, stderr: "certificate required"},
	})
	cert, key := ca.pair(t, &x509.Certificate{Subject: pkix.Name{CommonName: "client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	trust(t, strict.addr, map[string][]byte{"ca.crt": caFile, "client.cert": cert, "client.key": key})
	runCases(t, h, []cliCase{
		{name: "client certificate", args: "pull -q " + strict.addr + "/app:1", out: strict.addr + "/app:1"},
		{name: "and it runs", args: "run --rm " + strict.addr + "/app:1 echo hi", out: "hi"},
		{name: "push", args: "push -q " + strict.addr + "/app:1", out: strict.addr + "/app:1"},
	})
}

func TestInsecureRegistryAndMirror(t *testing.T) {
	h := lab.New(t, "--insecure-registry", "198.18.0.0/24", "--registry-mirror", "http://198.18.0.2:5000")
	ca := newIssuer(t)
	plain := serveOutside(t, h, "5000", nil, nil)
	unknown := serveOutside(t, h, "5443", &tls.Config{Certificates: []tls.Certificate{ca.server(t, h.Outside)}}, nil)
	img := lab.Busybox(t)
	plain.put(t, "app:1", img)
	plain.put(t, "library/mirrored:1", img)
	plain.put(t, "someone/mirrored:1", img)
	unknown.put(t, "app:1", img)
	runCases(t, h, []cliCase{
		{name: "plain http", args: "pull -q " + plain.addr + "/app:1", out: plain.addr + "/app:1"},
		{name: "unknown certificate", args: "pull -q " + unknown.addr + "/app:1", out: unknown.addr + "/app:1"},
		{name: "mirror", args: "pull -q mirrored:1", out: "docker.io/library/mirrored:1"},
		{name: "what it mirrors runs", args: "run --rm mirrored:1 echo hi", out: "hi"},
		{name: "mirror of a user's", args: "run --rm -q someone/mirrored:1 echo hi", out: "hi", stderr: ""},
		{name: "info", args: "info --format '{{.RegistryConfig.Mirrors}} {{index .RegistryConfig.InsecureRegistryCIDRs 2}}'", out: "[http://198.18.0.2:5000/] 198.18.0.0/24"},
	})
}

// tokens is a registry's token server: a token tells whom it was given to and for what.
type tokens struct {
	addr           string
	user, password string
}

// guard lets in who brings a token for what it asks.
func (k *tokens) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			k.give(w, r)
			return
		}
		action := "pull"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			action = "push"
		}
		repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
		raw, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		user, scope, _ := strings.Cut(string(raw), " ")
		allowed := user == k.user && (repo == "" || strings.Contains(scope, "repository:"+repo+"/") && strings.Contains(scope, action))
		if !allowed {
			w.Header().Set("Content-Type", "application/json")
			challenge := fmt.Sprintf(`Bearer realm="http://%s/token",service="registry"`, k.addr)
			if repo != "" {
				challenge += fmt.Sprintf(`,scope="repository:%s/app:%s"`, repo, action)
			}
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (k *tokens) give(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	user, password, given := r.BasicAuth()
	if given && (user != k.user || password != k.password) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
		return
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(user + " " + strings.Join(r.URL.Query()["scope"], " ")))
	fmt.Fprintf(w, `{"token":%q,"expires_in":300}`, token)
}

func TestTokenRegistry(t *testing.T) {
	h := lab.New(t, "--insecure-registry", "198.18.0.0/24")
	k := &tokens{addr: "198.18.0.2:5000", user: "ann", password: "secret"}
	reg := serveOutside(t, h, "5000", nil, k.guard)
	reg.put(t, "priv/app:1", lab.Busybox(t))
	ref := reg.addr + "/priv/app"
	runCases(t, h, []cliCase{
		{name: "nobody pulls", args: "pull -q " + ref + ":1", code: 1, stderr: "unauthorized: authentication required"},
		{name: "wrong password", args: "login -u ann --password-stdin " + reg.addr, stdin: "guess", code: 1, stderr: `Error response from daemon: Get "http://` + reg.addr + `/v2/": unauthorized: incorrect username or password`},
		{name: "login", args: "login -u ann --password-stdin " + reg.addr, stdin: "secret", out: "~Login Succeeded"},
		{name: "pull", args: "pull -q " + ref + ":1", out: ref + ":1"},
		{name: "tag", args: "tag " + ref + ":1 " + ref + ":2", out: ""},
		{name: "push", args: "push " + ref + ":2", out: "~2: digest: sha256:"},
		{name: "all tags", args: "pull -a -q " + ref, out: ref},
		{name: "logout", args: "logout " + reg.addr, out: "Removing login credentials for " + reg.addr},
		{name: "nobody pushes", args: "push -q " + ref + ":2", code: 1, stderr: "unauthorized: authentication required"},
	})
	log, err := os.ReadFile(filepath.Join(h.Dir, "daemon.log"))
	assert.NilError(t, err)
	assert.Assert(t, !strings.Contains(string(log), "secret"), "the password is in the daemon's log")
}

// TestPlatforms wants an index to give each the image of its platform, and to say what else it lists.
func TestPlatforms(t *testing.T) {
	h := lab.New(t, "--insecure-registry", "198.18.0.0/24")
	reg := serveOutside(t, h, "5000", nil, nil)
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm", "arm64", "riscv64"} {
		img := lab.AddLayer(t, lab.Busybox(t), []lab.File{{Name: "arch", Mode: 0o644, Body: arch}})
		cfg, err := img.ConfigFile()
		assert.NilError(t, err)
		cfg = cfg.DeepCopy()
		cfg.OS, cfg.Architecture = "linux", arch
		img, err = mutate.ConfigFile(img, cfg)
		assert.NilError(t, err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: cfg.Platform()}})
	}
	reg.put(t, "multi:1", index)
	ref := reg.addr + "/multi:1"
	digest, err := index.Digest()
	assert.NilError(t, err)
	archive := filepath.Join(t.TempDir(), "multi.tar")
	own := "{{.Os}}/{{.Architecture}}"
	runCases(t, h, []cliCase{
		{name: "another's", args: "pull -q --platform linux/arm64 " + ref, out: ref},
		{name: "is another's", args: "image inspect -f '" + own + "' " + ref, out: "linux/arm64"},
		{name: "no such platform", args: "pull -q --platform linux/s390x " + ref, code: 1, stderr: "no matching manifest for linux/s390x in the manifest list entries"},
		{name: "one's own", args: "pull -q " + ref, out: ref},
		{name: "runs", args: "run --rm " + ref + " cat /arch", out: "amd64"},
		{name: "is one's own", args: "image inspect -f '" + own + "' " + ref, out: "linux/amd64"},
		{name: "the other is here, too", args: "image inspect --platform linux/arm64 -f '" + own + "' " + ref, out: "linux/arm64"},
		{name: "of the other platform", args: "create --name arm --pull never --platform linux/arm64 " + ref, out: "~"},
		{name: "has its files", args: "cp arm:/arch -", out: "~arm64"},
		{name: "not without force while the other platform has a container", args: "rmi " + ref, code: 1, stderr: "(must force) - container "},
		{name: "one that the other could run is here, too", args: "pull -q --platform linux/arm/v7 " + ref, out: ref},
		{name: "and not taken for it", args: "image inspect --platform linux/arm64 -f '" + own + "' " + ref, out: "linux/arm64"},
		{name: "not of a third", args: "create --pull never --platform linux/riscv64 " + ref, code: 1, stderr: "was found but its platform (linux/amd64) does not match the specified platform (linux/riscv64)"},
		{name: "listed once", args: "images --format {{.Repository}}:{{.Tag}}", out: ref},
		{name: "a tree", args: "images --tree", out: "~linux/arm64"},
		{name: "not to be pruned", args: "image prune -f", out: "Total reclaimed space: 0B"},
		{name: "save of both", args: "save -o " + archive + ".both " + ref, out: ""},
		{name: "its container goes", args: "rm arm", out: "arm"},
		{name: "the index's digest", args: "image inspect -f '{{index .RepoDigests 0}}' " + ref, out: reg.addr + "/multi@" + digest.String()},
		{name: "by digest", args: "pull -q " + reg.addr + "/multi@" + digest.String(), out: reg.addr + "/multi@" + digest.String()},
		{name: "save", args: "save --platform linux/amd64 -o " + archive + " " + ref, out: ""},
		{name: "save of what is not here", args: "save --platform linux/riscv64 -o " + archive + ".no " + ref, code: 1, stderr: "no suitable export target found for platform linux/riscv64"},
		{name: "remove of one", args: "rmi -f --platform linux/arm64 " + ref, code: 0, out: "~Deleted: "},
		{name: "not of the one that could be run in its stead", args: "rmi --platform linux/arm64 " + ref, code: 1, stderr: "does not match the specified platform (linux/arm64)"},
		{name: "remove of that", args: "rmi --platform linux/arm/v7 " + ref, out: "~Deleted: "},
		{name: "remove", args: "rmi -f " + ref, out: "~Untagged: " + ref},
		{name: "nothing is left", args: "images -aq", out: ""},
		{name: "load of both", args: "load -q -i " + archive + ".both", out: "Loaded image: " + ref},
		{name: "both are here", args: "image inspect --platform linux/arm64 -f '" + own + "' " + ref, out: "linux/arm64"},
		{name: "remove of both", args: "rmi " + ref, out: "~Untagged: " + ref},
		{name: "nothing is left again", args: "images -aq", out: ""},
		{name: "load of what is not in it", args: "load --platform linux/riscv64 -i " + archive, code: 1, stderr: "no images providing the requested platform linux/riscv64 found"},
		{name: "load", args: "load -q --platform linux/amd64 -i " + archive, out: "Loaded image: " + ref},
		{name: "runs again", args: "run --rm " + ref + " cat /arch", out: "amd64"},
	})
	h.Docker(t, "rmi", "-f", ref)
	h.Docker(t, "pull", "-q", ref)
	a := newAsker(t, h)
	var img struct {
		Manifests []struct {
			Available bool
			Kind      string
		}
	}
	a.ask(200, "GET /images/"+ref+"/json?manifests=1").into(t, &img)
	assert.Check(t, is.Equal(fmt.Sprint(img.Manifests), "[{true image} {false image} {false image} {false image}]"))
	var dist struct {
		Platforms []struct{ Architecture string }
	}
	a.ask(200, "GET /distribution/"+ref+"/json").into(t, &dist)
	assert.Check(t, is.Equal(fmt.Sprint(dist.Platforms), "[{amd64} {arm} {arm64} {riscv64}]"))
}

// TestAttestations wants an image that a builder attested to be one of its platform, and the attestation to be told of as
// what it is and never taken for an image.
func TestAttestations(t *testing.T) {
	h := lab.New(t, "--insecure-registry", "198.18.0.0/24")
	reg := serveOutside(t, h, "5000", nil, nil)
	img := lab.Busybox(t)
	of, err := img.Digest()
	assert.NilError(t, err)
	cfg, err := img.ConfigFile()
	assert.NilError(t, err)
	said := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	said, err = mutate.AppendLayers(said, static.NewLayer([]byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`), "application/vnd.in-toto+json"))
	assert.NilError(t, err)
	reg.put(t, "attested:1", mutate.AppendManifests(v1.ImageIndex(empty.Index),
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: cfg.Platform()}},
		mutate.IndexAddendum{Add: said, Descriptor: v1.Descriptor{
			Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of.String()},
		}}))
	ref, archive := reg.addr+"/attested:1", filepath.Join(t.TempDir(), "attested.tar")
	runCases(t, h, []cliCase{
		{name: "pull", args: "pull -q " + ref, out: ref},
		{name: "runs", args: "run --rm " + ref + " echo yes", out: "yes"},
		{name: "its platform's manifest", args: "image inspect --platform linux/amd64 -f '{{.Os}}/{{.Architecture}} {{.Descriptor.Digest}}' " + ref, out: "linux/amd64 " + of.String()},
		{name: "no image of no platform", args: "image inspect --platform unknown/unknown " + ref, code: 1, out: "[]", stderr: "does not match the specified platform (unknown/unknown)"},
		{name: "list", args: "images --format {{.Repository}}:{{.Tag}}", out: ref},
		{name: "save", args: "save -o " + archive + " " + ref, out: ""},
		{name: "remove", args: "rmi " + ref, out: "~Untagged: " + ref},
		{name: "load", args: "load -q -i " + archive, out: "Loaded image: " + ref},
		{name: "push", args: "push -q " + ref, out: "~" + ref},
	})
	tree := h.Docker(t, "images", "--tree")
	assert.Assert(t, strings.Contains(tree, "linux/amd64") && !strings.Contains(tree, "unknown"), "%s", tree)
}

// TestRegistryThatDies wants a pull cut in the middle to leave nothing that can be seen, to say so, and the next one to
// go on from there.
func TestRegistryThatDies(t *testing.T) {
	h := lab.New(t, "--insecure-registry", "198.18.0.0/24")
	var sent int64
	dying := true
	reg := serveOutside(t, h, "5000", nil, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && r.Header.Get("Accept") == "" {
				counted := &countingWriter{ResponseWriter: w}
				if dying {
					counted.limit = 1 << 20
				}
				next.ServeHTTP(counted, r)
				sent += counted.n
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	junk := make([]byte, 4<<20)
	_, _ = rand.Read(junk)
	reg.put(t, "big:1", lab.FromFiles(t, []lab.File{{Name: "junk", Mode: 0o644, Body: string(junk)}}))
	ref := reg.addr + "/big:1"

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cut := h.Command(ctx, "pull", ref)
	said, err := cut.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, cut.Start())
	for lines := bufio.NewScanner(said); lines.Scan() && !strings.Contains(lines.Text(), "Retrying in"); {
	}
	cancel() // the user gives up too
	_ = cut.Wait()
	assert.Equal(t, h.Docker(t, "images", "-aq"), "", "half an image is in the catalogue")
	dying, sent = false, 0
	h.Docker(t, "pull", "-q", ref)
	assert.Assert(t, sent < 4<<20, "%d bytes were sent again", sent)
}

// countingWriter counts what is sent of a blob, and hangs up at the limit, if any.
type countingWriter struct {
	http.ResponseWriter
	n, limit int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	if w.limit > 0 && w.n+int64(len(b)) > w.limit {
		_, _ = w.ResponseWriter.Write(b[:w.limit-w.n])
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	n, err := w.ResponseWriter.Write(b)
	w.n += int64(n)
	return n, err
}
