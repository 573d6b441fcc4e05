//go:build integration

package compose

import (
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

const debianPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// postgres is a database that makes its cluster when its volume is empty, as the well-known image does.
var postgres = lab.Debian{
	Ref:      "shop-postgres:latest",
	Packages: []string{"postgresql-15", "postgresql-client-15"},
	Skip:     []string{"libllvm14", "libperl5.36"}, // compiling queries; PL/Perl
	Drop:     []string{"usr/lib/postgresql/15/lib/bitcode", "usr/lib/postgresql/15/lib/llvmjit.so"},
	Files: []lab.File{
		{Name: "etc/passwd", Mode: 0o644, Body: "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh\n"},
		{Name: "etc/group", Mode: 0o644, Body: "root:x:0:\npostgres:x:999:\n"},
		{Name: "var/lib/postgresql/", Mode: 0o755, UID: 999, GID: 999},
		{Name: "var/lib/postgresql/data/", Mode: 0o700, UID: 999, GID: 999},
		{Name: "entrypoint", Mode: 0o755, Body: `#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb -D "$PGDATA" -U postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 --no-locale -E UTF8 --no-sync
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "made a new cluster"
fi
exec "$@"
`},
	},
	Config: v1.Config{
		Entrypoint: []string{"/entrypoint"},
		Cmd:        []string{"postgres", "-c", "listen_addresses=*", "-c", "unix_socket_directories=/tmp", "-c", "fsync=off"},
		Env:        []string{"PATH=/usr/lib/postgresql/15/bin:" + debianPath, "PGDATA=/var/lib/postgresql/data", "PGHOST=/tmp"},
		User:       "postgres",
		StopSignal: "SIGINT",
		Volumes:    map[string]struct{}{"/var/lib/postgresql/data": {}},
	},
}

var redis = lab.Debian{
	Ref:      "shop-redis:latest",
	Packages: []string{"redis-server", "redis-tools"},
	Files:    []lab.File{{Name: "data/", Mode: 0o755}},
	Config: v1.Config{
		Cmd:        []string{"redis-server", "--protected-mode", "no", "--dir", "/data"},
		Env:        []string{"PATH=" + debianPath},
		WorkingDir: "/data",
	},
}

var nginx = lab.Debian{
	Ref:      "shop-web:latest",
	Packages: []string{"nginx", "nginx-common"},
	Files:    []lab.File{{Name: "var/lib/nginx/", Mode: 0o755}, {Name: "var/log/nginx/", Mode: 0o755}, {Name: "run/", Mode: 0o755}},
	Config: v1.Config{
		Cmd:          []string{"nginx"},
		Env:          []string{"PATH=" + debianPath},
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
		StopSignal:   "SIGQUIT",
	},
}

// newHost is a host with the images of the applications.
func newHost(t *testing.T) *lab.Host {
	t.Helper()
	h := lab.NewWithBusybox(t)
	loadImages(t, h)
	return h
}

// loadImages gives a host the images of the applications.
func loadImages(t *testing.T, h *lab.Host) {
	t.Helper()
	for _, d := range []lab.Debian{postgres, redis, nginx} {
		h.LoadDebian(t, d)
	}
	h.Load(t, "shop-api:latest", lab.GoImageOf(t, "api", "./shop/api"))
	h.Load(t, "queue:latest", lab.GoImageOf(t, "queue", "./queue/program"))
}

// application copies an application's files to a folder that a test may change.
func application(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	assert.NilError(t, os.CopyFS(dir, os.DirFS(name)))
	return dir
}
