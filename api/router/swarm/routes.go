// Package swarm answers what the Engine API says about swarms as an engine that is in none.
package swarm

import (
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

// Routes of swarms, nodes, services, tasks, secrets and configs.
func Routes() []router.Route {
	return []router.Route{
		router.Post("/swarm/init", refuseMembership),
		router.Post("/swarm/join", refuseMembership),
		router.Post("/swarm/leave", leave),
		router.Get("/swarm", noManager),
		router.Get("/swarm/unlockkey", noManager),
		router.Post("/swarm/update", noManager),
		router.Post("/swarm/unlock", noManager),

		router.Get("/services", noManager),
		router.Get("/services/{name}", noManager),
		router.Post("/services/create", noManager),
		router.Post("/services/{name}/update", noManager),
		router.Delete("/services/{name}", noManager),
		router.Get("/services/{name}/logs", noManager),

		router.Get("/nodes", noManager),
		router.Get("/nodes/{name}", noManager),
		router.Delete("/nodes/{name}", noManager),
		router.Post("/nodes/{name}/update", noManager),

		router.Get("/tasks", noManager),
		router.Get("/tasks/{name}", noManager),
		router.Get("/tasks/{name}/logs", noManager),

		router.Get("/secrets", noManager),
		router.Post("/secrets/create", noManager),
		router.Delete("/secrets/{name}", noManager),
		router.Get("/secrets/{name}", noManager),
		router.Post("/secrets/{name}/update", noManager),

		router.Get("/configs", noManager),
		router.Post("/configs/create", noManager),
		router.Delete("/configs/{name}", noManager),
		router.Get("/configs/{name}", noManager),
		router.Post("/configs/{name}/update", noManager),
	}
}

// noManager answers as Docker does outside a swarm, after the checks that come first there.
func noManager(_ http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if _, err := request.Filters(r); err != nil {
		return err
	}
	if r.Method == http.MethodPost {
		var body any
		if err := request.JSON(r, &body); err != nil {
			return err
		}
	}
	return errdefs.ErrUnavailable.WithMessage(router.NotASwarmManager)
}

func leave(_ http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	return errdefs.ErrUnavailable.WithMessage("This node is not part of a swarm")
}

// refuseMembership keeps a fleet from becoming a swarm: both would want to place the same containers.
func refuseMembership(_ http.ResponseWriter, r *http.Request) error {
	var body any
	if err := request.JSON(r, &body); err != nil {
		return err
	}
	return errdefs.ErrUnavailable.WithMessage("swarm mode is not supported: hosts are joined to a fleet with nereid join")
}
