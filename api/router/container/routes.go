package container

import (
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

type handlers struct {
	backend Backend
	cgroup2 bool
}

// Routes of containers. cgroup2 tells which cgroup version the hosts have: the oldest clients expect other defaults
// where it is the first.
func Routes(b Backend, cgroup2 bool) []router.Route {
	h := handlers{backend: b, cgroup2: cgroup2}
	const of = router.Container
	return []router.Route{
		router.Get("/containers/{name:.*}/checkpoints", experimental),
		router.Post("/containers/{name:.*}/checkpoints", experimental),
		router.Delete("/containers/{name}/checkpoints/{checkpoint}", experimental),

		router.Head("/containers/{name:.*}/archive", h.archiveStat).OwnedBy(of),

		router.Get("/containers/json", h.list),
		router.Get("/containers/{name:.*}/export", h.export).OwnedBy(of),
		router.Get("/containers/{name:.*}/changes", h.changes).OwnedBy(of),
		router.Get("/containers/{name:.*}/json", h.inspect).OwnedBy(of).Only(sized),
		router.Get("/containers/{name:.*}/top", h.top).OwnedBy(of),
		router.Get("/containers/{name:.*}/logs", h.logs).OwnedBy(of).Lasting(),
		router.Get("/containers/{name:.*}/stats", h.stats).OwnedBy(of).Lasting(),
		router.Get("/containers/{name:.*}/attach/ws", h.attachWS).OwnedBy(of),
		router.Get("/containers/{name:.*}/archive", h.archiveGet).OwnedBy(of),

		router.Post("/containers/create", h.create),
		router.Post("/containers/{name:.*}/kill", h.kill).OwnedBy(of),
		router.Post("/containers/{name:.*}/pause", h.pause).OwnedBy(of),
		router.Post("/containers/{name:.*}/unpause", h.unpause).OwnedBy(of),
		router.Post("/containers/{name:.*}/restart", h.restart).OwnedBy(of),
		router.Post("/containers/{name:.*}/start", h.start).OwnedBy(of),
		router.Post("/containers/{name:.*}/stop", h.stop).OwnedBy(of),
		router.Post("/containers/{name:.*}/wait", h.wait).Lasting(),
		router.Post("/containers/{name:.*}/resize", h.resize).OwnedBy(of),
		router.Post("/containers/{name:.*}/attach", h.attach).OwnedBy(of),
		router.Post("/containers/{name:.*}/rename", h.rename).OwnedBy(of),
		router.Post("/containers/{name:.*}/update", h.update).OwnedBy(of),
		router.Post("/containers/prune", h.prune),
		router.Post("/commit", h.commit).OwnedBy(of).Naming(func(r *http.Request) string { return r.URL.Query().Get("container") }),

		router.Put("/containers/{name:.*}/archive", h.archivePut).OwnedBy(of),

		router.Delete("/containers/{name:.*}", h.remove).OwnedBy(of),
	}
}

// experimental answers as an engine that is not in experimental mode.
func experimental(http.ResponseWriter, *http.Request) error {
	return errdefs.ErrNotImplemented.WithMessage("This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.")
}

// sized picks the requests that want sizes, which only the owner can measure.
func sized(r *http.Request) bool { return request.Parse(r) == nil && request.Bool(r, "size") }
