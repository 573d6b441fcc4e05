package image

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
)

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	f, err := request.Filters(r)
	if err != nil {
		return err
	}
	v := compat.From(r.Context())
	opts := image.ListOptions{
		All:        request.Bool(r, "all"),
		Filters:    f,
		Manifests:  v >= 47 && request.Bool(r, "manifests"),
		SharedSize: v >= 42 && request.Bool(r, "shared-size"),
	}
	if name := r.Form.Get("filter"); v < 41 && name != "" {
		opts.Filters.Add("reference", name)
	}
	list, err := h.backend.List(r.Context(), opts)
	if err != nil {
		return err
	}
	compat.ImageList(v, list)
	if list == nil {
		list = []*image.Summary{}
	}
	return answer.JSON(w, http.StatusOK, list)
}

func (h handlers) inspect(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	v := compat.From(r.Context())
	opts := backend.ImageInspectOpts{Manifests: v >= 48 && request.Bool(r, "manifests")}
	if v >= 49 {
		var err error
		if opts.Platform, err = request.PlatformJSON(r.Form.Get("platform")); err != nil {
			return err
		}
	}
	if opts.Manifests && opts.Platform != nil {
		return invalid("conflicting options: manifests and platform options cannot both be set")
	}
	img, err := h.backend.Inspect(r.Context(), request.Name(r), opts)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, compat.ImageInspect(v.AsUnderstood(r.UserAgent()), img))
}

func (h handlers) history(w http.ResponseWriter, r *http.Request) error {
	platform, err := platformSince148(r)
	if err != nil {
		return err
	}
	items, err := h.backend.History(r.Context(), request.Name(r), platform)
	if err != nil {
		return err
	}
	if items == nil {
		items = []*image.HistoryResponseItem{}
	}
	return answer.JSON(w, http.StatusOK, items)
}

// platformSince148 parses the request and reads the one platform that history, save and load take since 1.48.
func platformSince148(r *http.Request) (*ocispec.Platform, error) {
	if err := request.Parse(r); err != nil {
		return nil, err
	}
	if compat.From(r.Context()) < 48 {
		return nil, nil
	}
	return request.PlatformJSON(r.Form.Get("platform"))
}

// onePlatform is platformSince148 in the form of a list, which several are refused in.
func onePlatform(r *http.Request) ([]ocispec.Platform, error) {
	p, err := platformSince148(r)
	if err == nil && compat.From(r.Context()) >= 48 && len(r.Form["platform"]) > 1 {
		err = invalid("multiple platform parameters not supported")
	}
	if err != nil || p == nil {
		return nil, err
	}
	return []ocispec.Platform{*p}, nil
}

func (h handlers) tag(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	ref, err := request.RepoTag(r.Form.Get("repo"), r.Form.Get("tag"))
	if err != nil {
		return err
	}
	if ref == nil {
		return invalid("repository name must have at least one component")
	}
	if reference.FamiliarName(ref) == string(digest.Canonical) {
		return invalid("refusing to create an ambiguous tag using digest algorithm as name")
	}
	if err := h.backend.Tag(r.Context(), request.Name(r), ref.String()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (h handlers) remove(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if strings.TrimSpace(request.Name(r)) == "" {
		return invalid("image name cannot be blank")
	}
	opts := image.RemoveOptions{Force: request.Bool(r, "force"), PruneChildren: !request.Bool(r, "noprune")}
	if compat.From(r.Context()) >= 50 {
		var err error
		if opts.Platforms, err = request.PlatformsJSON(r.Form["platforms"]); err != nil {
			return err
		}
	}
	done, err := h.backend.Remove(r.Context(), request.Name(r), opts)
	if err != nil {
		return err
	}
	if done == nil {
		done = []image.DeleteResponse{}
	}
	return answer.JSON(w, http.StatusOK, done)
}

func (h handlers) prune(w http.ResponseWriter, r *http.Request) error {
	return router.Prune(w, r, h.backend.Prune)
}
