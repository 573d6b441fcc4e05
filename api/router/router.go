// Package router says what a route of the Engine API is; the packages below hold the routes of one resource each.
package router

import (
	"net/http"
)

// Handler serves one operation: it parses, calls one backend method and writes. An error it returns before the first
// byte is the answer; after it, it only ends the connection.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Kind of thing that has an owner.
type Kind string

// Things with one host that must serve what is asked about them.
const (
	Container Kind = "container"
	Exec      Kind = "exec"
	Build     Kind = "build"
	Volume    Kind = "volume"
)

// Route is one operation. The variable {name} in its path is the thing it is about.
type Route struct {
	Method  string
	Path    string
	Handler Handler
	// Owned is set where only the owner of the named thing can answer: such a request may be forwarded.
	Owned Kind
	// Ref names the thing where the path does not.
	Ref func(*http.Request) string
	// When picks the requests for which only the owner can answer; nil: all.
	When func(*http.Request) bool
	// Live answers may last as long as the client wants, and end as soon as the server stops.
	Live bool
	// Foreign answers rest on what others say, a registry, and not on what this host knows.
	Foreign bool
}

// Get makes a route that any host answers.
func Get(path string, h Handler) Route { return Route{Method: http.MethodGet, Path: path, Handler: h} }

// Post makes a route that any host answers.
func Post(path string, h Handler) Route {
	return Route{Method: http.MethodPost, Path: path, Handler: h}
}

// Put makes a route that any host answers.
func Put(path string, h Handler) Route { return Route{Method: http.MethodPut, Path: path, Handler: h} }

// Head makes a route that any host answers.
func Head(path string, h Handler) Route {
	return Route{Method: http.MethodHead, Path: path, Handler: h}
}

// Delete makes a route that any host answers.
func Delete(path string, h Handler) Route {
	return Route{Method: http.MethodDelete, Path: path, Handler: h}
}

// OwnedBy returns the route as one that the owner of the named thing answers.
func (r Route) OwnedBy(k Kind) Route {
	r.Owned = k
	return r
}

// Naming returns the route with another way to find the name of the owned thing.
func (r Route) Naming(ref func(*http.Request) string) Route {
	r.Ref = ref
	return r
}

// Only returns the route as one that any host answers but for some requests.
func (r Route) Only(when func(*http.Request) bool) Route {
	r.When = when
	return r
}

// Lasting returns the route as Live.
func (r Route) Lasting() Route {
	r.Live = true
	return r
}

// OfOthers returns the route as Foreign.
func (r Route) OfOthers() Route {
	r.Foreign = true
	return r
}

// NotASwarmManager is Docker's answer to swarm operations on an engine outside a swarm.
const NotASwarmManager = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`
