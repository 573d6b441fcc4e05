// Package peer routes what hosts ask each other beside what they forward: to take a container that was placed on them,
// and for content of images, as a registry serves it (OCI Distribution Specification 1.1).
package peer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/gorilla/mux"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Containers takes containers that another host placed here.
type Containers interface {
	// CreateHere refuses with an error that has a method Refused() string.
	CreateHere(ctx context.Context, id nereid.ContainerID, req backend.ContainerCreateConfig) (container.CreateResponse, error)
	// PrepareHere makes ready for one that is to move here. It refuses likewise.
	PrepareHere(ctx context.Context, id nereid.ContainerID) error
}

// Images has content.
type Images interface {
	// Blob opens content by its digest, for a host; as a manifest it has a media type. An error with a method
	// GivenTo() []nereid.Host says that another is given it just now, and who was lately.
	Blob(ctx context.Context, to nereid.Host, digest string, manifest bool) (io.ReadSeeker, io.Closer, string, error)
}

// Volumes has data.
type Volumes interface {
	// UsageHere is the size in bytes of a volume whose data is on this host.
	UsageHere(ctx context.Context, name string) (int64, error)
}

// Paths of the routes.
const (
	CreatePath  = nereid.AdminPrefix + "/placed"
	PreparePath = nereid.AdminPrefix + "/moving/"  // ID
	UsagePath   = nereid.AdminPrefix + "/volumes/" // NAME
	contentPath = nereid.ContentPrefix + "/v2/{name:.*}/"
)

// RefusedHeader says why a host does not take a container: another may.
const RefusedHeader = "Nereid-Refused"

// Placed is a container that one host has another create.
type Placed struct {
	ID      nereid.ContainerID
	Request backend.ContainerCreateConfig
}

type handlers struct {
	containers Containers
	images     Images
	volumes    Volumes
}

// Routes between hosts. They are served to hosts only.
func Routes(c Containers, i Images, v Volumes) []router.Route {
	h := handlers{c, i, v}
	return []router.Route{
		router.Post(CreatePath, h.create),
		router.Post(PreparePath+"{id}", h.prepare),
		router.Get(UsagePath+"{name}", h.usage),
		router.Get(contentPath+"manifests/{digest}", h.manifest),
		router.Head(contentPath+"manifests/{digest}", h.manifest),
		router.Get(contentPath+"blobs/{digest}", h.blob),
		router.Head(contentPath+"blobs/{digest}", h.blob),
	}
}

func (h handlers) create(w http.ResponseWriter, r *http.Request) error {
	var p Placed
	if err := request.Decode(r.Body, &p); err != nil {
		return err
	}
	resp, err := h.containers.CreateHere(r.Context(), p.ID, p.Request)
	if err != nil {
		return refusal(w, err)
	}
	return answer.JSON(w, http.StatusCreated, resp)
}

func (h handlers) prepare(w http.ResponseWriter, r *http.Request) error {
	if err := h.containers.PrepareHere(r.Context(), nereid.ContainerID(mux.Vars(r)["id"])); err != nil {
		return refusal(w, err)
	}
	return answer.Nothing(w)
}

// refusal marks an error that is one.
func refusal(w http.ResponseWriter, err error) error {
	var no interface{ Refused() string }
	if errors.As(err, &no) {
		why, _ := json.Marshal(no.Refused()) // a header has one line; a string always encodes
		w.Header().Set(RefusedHeader, string(why))
	}
	return err
}

func (h handlers) usage(w http.ResponseWriter, r *http.Request) error {
	size, err := h.volumes.UsageHere(r.Context(), mux.Vars(r)["name"])
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, size)
}

func (h handlers) manifest(w http.ResponseWriter, r *http.Request) error { return h.serve(w, r, true) }

func (h handlers) blob(w http.ResponseWriter, r *http.Request) error { return h.serve(w, r, false) }

// tooMany says in the registry's way that others are given the same just now, and who may have it.
func tooMany(w http.ResponseWriter, given []nereid.Host, err error) error {
	w.Header().Set("Retry-After", "1")
	names := make([]string, len(given))
	for i, h := range given {
		names[i] = string(h)
	}
	w.Header().Set(nereid.GivenHeader, strings.Join(names, ","))
	said := map[string]string{"code": "TOOMANYREQUESTS", "message": err.Error()}
	return answer.JSON(w, http.StatusTooManyRequests, map[string]any{"errors": []map[string]string{said}})
}

func (h handlers) serve(w http.ResponseWriter, r *http.Request, manifest bool) error {
	d := mux.Vars(r)["digest"]
	body, closer, kind, err := h.images.Blob(r.Context(), nereid.Host(r.Header.Get(nereid.AskerHeader)), d, manifest)
	var busy interface{ GivenTo() []nereid.Host }
	if errors.As(err, &busy) {
		return tooMany(w, busy.GivenTo(), err)
	}
	if err != nil {
		return err
	}
	defer func() { _ = closer.Close() }()
	if kind == "" {
		kind = "application/octet-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", d)
	http.ServeContent(w, r, "", time.Time{}, body)
	return nil
}
