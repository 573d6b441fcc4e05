package server

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/api/router"
)

// table is every operation of the Engine API that is served, with the owner kind where it may be forwarded and "live"
// where it lasts; "some" says that only some requests may be.
const table = `
GET /containers/{name:.*}/checkpoints
POST /containers/{name:.*}/checkpoints
DELETE /containers/{name}/checkpoints/{checkpoint}
HEAD /containers/{name:.*}/archive container
GET /containers/json
GET /containers/{name:.*}/export container
GET /containers/{name:.*}/changes container
GET /containers/{name:.*}/json container some
GET /containers/{name:.*}/top container
GET /containers/{name:.*}/logs container live
GET /containers/{name:.*}/stats container live
GET /containers/{name:.*}/attach/ws container
GET /containers/{name:.*}/archive container
POST /containers/create
POST /containers/{name:.*}/kill container
POST /containers/{name:.*}/pause container
POST /containers/{name:.*}/unpause container
POST /containers/{name:.*}/restart container
POST /containers/{name:.*}/start container
POST /containers/{name:.*}/stop container
POST /containers/{name:.*}/wait live
POST /containers/{name:.*}/resize container
POST /containers/{name:.*}/attach container
POST /containers/{name:.*}/rename container
POST /containers/{name:.*}/update container
POST /containers/prune
POST /commit container
PUT /containers/{name:.*}/archive container
DELETE /containers/{name:.*} container
GET /exec/{name:.*}/json exec
POST /containers/{name:.*}/exec container
POST /exec/{name:.*}/start exec
POST /exec/{name:.*}/resize exec
GET /images/json
GET /images/search
GET /images/get
GET /images/{name:.*}/get
GET /images/{name:.*}/history
GET /images/{name:.*}/json
GET /distribution/{name:.*}/json
POST /images/load
POST /images/create
POST /images/{name:.*}/push
POST /images/{name:.*}/tag
POST /images/prune
DELETE /images/{name:.*}
OPTIONS /{anyroute:.*}
GET /_ping
HEAD /_ping
GET /events live
GET /info
GET /version
GET /system/df
POST /auth
GET /volumes
GET /volumes/{name:.*}
POST /volumes/create
POST /volumes/prune
PUT /volumes/{name:.*}
DELETE /volumes/{name:.*} volume
POST /build build
POST /build/prune
POST /build/cancel build
POST /session build
POST /grpc build
POST /swarm/init
POST /swarm/join
POST /swarm/leave
GET /swarm
GET /swarm/unlockkey
POST /swarm/update
POST /swarm/unlock
GET /services
GET /services/{name}
POST /services/create
POST /services/{name}/update
DELETE /services/{name}
GET /services/{name}/logs
GET /nodes
GET /nodes/{name}
DELETE /nodes/{name}
POST /nodes/{name}/update
GET /tasks
GET /tasks/{name}
GET /tasks/{name}/logs
GET /secrets
POST /secrets/create
DELETE /secrets/{name}
GET /secrets/{name}
POST /secrets/{name}/update
GET /configs
POST /configs/create
DELETE /configs/{name}
GET /configs/{name}
POST /configs/{name}/update
GET /plugins
GET /plugins/{name:.*}/json
GET /plugins/privileges
DELETE /plugins/{name:.*}
POST /plugins/{name:.*}/enable
POST /plugins/{name:.*}/disable
POST /plugins/pull
POST /plugins/{name:.*}/push
POST /plugins/{name:.*}/upgrade
POST /plugins/{name:.*}/set
POST /plugins/create
GET /networks
GET /networks/
GET /networks/{name:.+}
POST /networks/create
POST /networks/{name:.*}/connect container
POST /networks/{name:.*}/disconnect container
POST /networks/prune
DELETE /networks/{name:.*}
GET /nereid/v1/version
GET /nereid/v1/hosts
GET /nereid/v1/hosts/{name}
POST /nereid/v1/hosts/{name}/label
POST /nereid/v1/hosts/{name}/drain
POST /nereid/v1/hosts/{name}/resume
DELETE /nereid/v1/hosts/{name}
POST /nereid/v1/tokens
GET /nereid/v1/cns/status
GET /nereid/v1/cns/explain
POST /nereid/v1/cns/containers/{ref}
GET /nereid/v1/cns/zones
POST /nereid/v1/cns/zones/{zone}
PUT /nereid/v1/cns/zones/{zone}
DELETE /nereid/v1/cns/zones/{zone}
GET /nereid/v1/cns/zones/{zone}/dump
GET /nereid/v1/cns/zones/{zone}/keys
POST /nereid/v1/cns/zones/{zone}/keys
DELETE /nereid/v1/cns/zones/{zone}/keys/{tag}
GET /nereid/v1/cns/tsig
POST /nereid/v1/cns/tsig/{key}
DELETE /nereid/v1/cns/tsig/{key}
`

func TestRouteTable(t *testing.T) {
	var got []string
	for _, rt := range Routes(Config{}) {
		assert.Assert(t, rt.Handler != nil, rt.Path)
		got = append(got, row(rt))
	}
	assert.DeepEqual(t, got, strings.Split(strings.TrimSpace(table), "\n"))
}

func row(rt router.Route) string {
	s := rt.Method + " " + rt.Path
	if rt.Owned != "" {
		s += " " + string(rt.Owned)
	}
	if rt.When != nil {
		s += " some"
	}
	if rt.Live {
		s += " live"
	}
	return s
}

// Every operation of the engine's own documentation has a route of ours.
func TestEveryDocumentedOperationIsServed(t *testing.T) {
	v, err := loadSchema()
	assert.NilError(t, err)
	s := New(newFakes().config())
	for _, op := range v.Operations() {
		method, path, _ := strings.Cut(op, " ")
		path = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "x")
		for _, p := range []string{path, "/v1.51" + path} {
			w := newRecorder()
			s.ServeHTTP(w, newRequest(method, p)) // what the fakes do not do becomes a 500, which is a route too
			assert.Check(t, w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "page not found"), "%s %s", method, p)
			assert.Check(t, w.Code != http.StatusMovedPermanently, "%s %s", method, p)
		}
	}
}

// Every operation of the engine's own documentation is in ours, once, with its state.
func TestEveryDocumentedOperationIsInTheCompatibilityTable(t *testing.T) {
	v, err := loadSchema()
	assert.NilError(t, err)
	page, err := os.ReadFile("../../docs/compatibility.md")
	assert.NilError(t, err)
	_, table, found := strings.Cut(string(page), "## Every operation\n")
	assert.Assert(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	told := map[string]int{}
	for _, m := range regexp.MustCompile("`([A-Z]+ /[^`]*)`").FindAllStringSubmatch(table, -1) {
		told[m[1]]++
	}
	delete(told, "POST /grpc") // BuildKit's, and not in the documentation
	for _, op := range v.Operations() {
		assert.Check(t, told[op] == 1, "%s is told of %d times", op, told[op])
		delete(told, op)
	}
	assert.Check(t, len(told) == 0, "there is no %v", told)
}
