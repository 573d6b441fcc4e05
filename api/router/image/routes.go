package image

import (
	"net/http"

	"github.com/nereid-paas/nereid/api/router"
)

type handlers struct {
	backend Backend
	// fetch gets what an import names by URL.
	fetch *http.Client
}

// Routes of images and registries.
func Routes(b Backend) []router.Route {
	h := handlers{backend: b, fetch: http.DefaultClient}
	return []router.Route{
		router.Get("/images/json", h.list),
		router.Get("/images/search", h.search).OfOthers(),
		router.Get("/images/get", h.save),
		router.Get("/images/{name:.*}/get", h.save),
		router.Get("/images/{name:.*}/history", h.history),
		router.Get("/images/{name:.*}/json", h.inspect),
		router.Get("/distribution/{name:.*}/json", h.distribution).OfOthers(),

		router.Post("/images/load", h.load),
		router.Post("/images/create", h.create).OfOthers(),
		router.Post("/images/{name:.*}/push", h.push),
		router.Post("/images/{name:.*}/tag", h.tag),
		router.Post("/images/prune", h.prune),

		router.Delete("/images/{name:.*}", h.remove),
	}
}
