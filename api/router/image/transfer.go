package image

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
)

// create pulls an image or, where none is named, imports one.
func (h handlers) create(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	var platform *ocispec.Platform
	if compat.From(r.Context()) >= 32 {
		var err error
		if platform, err = request.Platform(r.Form.Get("platform")); err != nil {
			return err
		}
	}
	if r.Form.Get("fromImage") != "" {
		return h.pull(w, r, platform)
	}
	return h.importImage(w, r, platform)
}

func (h handlers) pull(w http.ResponseWriter, r *http.Request, platform *ocispec.Platform) error {
	ref, err := request.Pulled(r.Form.Get("fromImage"), r.Form.Get("tag"))
	if err != nil {
		return err
	}
	if name := reference.FamiliarName(ref); name == "scratch" {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("'%s' is a reserved name", name))
	}
	// The CLI asks for the tag it wants, "latest" included: a bare name means all of them.
	all := reference.IsNameOnly(ref)
	return answer.Progress(w, func(out io.Writer) error {
		return h.backend.Pull(r.Context(), ref.String(), all, platform, request.Auth(r), out)
	})
}

func (h handlers) importImage(w http.ResponseWriter, r *http.Request, platform *ocispec.Platform) error {
	ref, err := request.RepoTag(r.Form.Get("repo"), r.Form.Get("tag"))
	if err != nil {
		return err
	}
	name, src, message := "", r.Form.Get("fromSrc"), r.Form.Get("message")
	if ref != nil {
		name = ref.String()
	}
	if message == "" {
		message = "Imported from " + src
	}
	return answer.Progress(w, func(out io.Writer) error {
		in, err := h.source(r, src, out)
		if err != nil {
			return err
		}
		defer in.Close()
		return h.backend.Import(r.Context(), name, platform, message, r.Form["changes"], in, out)
	})
}

// source opens what to import: the body, or what a URL names.
func (h handlers) source(r *http.Request, src string, out io.Writer) (io.ReadCloser, error) {
	if src == "-" {
		return r.Body, nil
	}
	if !strings.Contains(src, "://") {
		src = "http://" + src
	}
	u, err := url.Parse(src)
	if err != nil {
		return nil, invalid("%v", err)
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, invalid("%v", err)
	}
	resp, err := h.fetch.Do(req)
	if err != nil {
		return nil, errdefs.ErrUnknown.WithMessage(err.Error())
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, fetchError(u, resp)
	}
	_, _ = out.Write(answer.StatusLine("Downloading from %s", u))
	return resp.Body, nil
}

func fetchError(u *url.URL, resp *http.Response) error {
	const enough = 10 << 10 // of an error page
	body, _ := io.ReadAll(io.LimitReader(resp.Body, enough))
	msg := fmt.Sprintf("failed to GET %s with status %s: %s", u, resp.Status, body)
	class := errdefs.ErrUnknown.WithMessage(msg)
	switch {
	case resp.StatusCode == http.StatusNotFound:
		class = errdefs.ErrNotFound.WithMessage(msg)
	case resp.StatusCode == http.StatusUnauthorized:
		class = errdefs.ErrUnauthenticated.WithMessage(msg)
	case resp.StatusCode == http.StatusForbidden:
		class = errdefs.ErrPermissionDenied.WithMessage(msg)
	case resp.StatusCode < http.StatusInternalServerError:
		class = errdefs.ErrInvalidArgument.WithMessage(msg)
	}
	return class
}

func (h handlers) push(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	ref, err := pushed(request.Name(r), r.Form.Get("tag"))
	if err != nil {
		return err
	}
	var platform *ocispec.Platform
	if compat.From(r.Context()) >= 46 { // older clients sent one that meant nothing
		if platform, err = request.PlatformJSON(r.Form.Get("platform")); err != nil {
			return err
		}
	}
	return answer.Progress(w, func(out io.Writer) error {
		return h.backend.Push(r.Context(), ref, platform, request.Auth(r), out)
	})
}

// pushed reads what to push. Without a tag the reference has none, which means all tags.
func pushed(name, tag string) (string, error) {
	if tag != "" {
		ref, err := request.RepoTag(name, tag)
		if err != nil || ref == nil {
			return "", err
		}
		return ref.String(), nil
	}
	ref, err := request.Pulled(name, "")
	if err != nil {
		return "", err
	}
	return ref.String(), nil
}

func (h handlers) save(w http.ResponseWriter, r *http.Request) error {
	platforms, err := onePlatform(r)
	if err != nil {
		return err
	}
	names := r.Form["names"]
	if name := request.Name(r); name != "" {
		names = []string{name}
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return h.backend.Save(r.Context(), names, platforms, w)
}

func (h handlers) load(w http.ResponseWriter, r *http.Request) error {
	platforms, err := onePlatform(r)
	if err != nil {
		return err
	}
	quiet := request.BoolOr(r, "quiet", true)
	w.Header().Set("Content-Type", "application/json")
	out := answer.NewStream(w)
	if err := h.backend.Load(r.Context(), r.Body, platforms, quiet, out); err != nil {
		_, _ = out.Write(answer.ErrorLine(err)) // an image that cannot be loaded is told in the stream, always
	}
	return nil
}

func (h handlers) search(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	limit := 0
	if s := r.Form.Get("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil {
			return invalid("invalid limit specified: %v", err)
		}
		if limit < 0 {
			return invalid("invalid limit specified")
		}
	}
	f, err := request.Filters(r)
	if err != nil {
		return err
	}
	found, err := h.backend.Search(r.Context(), r.Form.Get("term"), limit, f, request.Auth(r))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, found)
}

func (h handlers) distribution(w http.ResponseWriter, r *http.Request) error {
	name := request.Name(r)
	ref, err := reference.ParseAnyReference(name)
	if err != nil {
		return invalid("%v", err)
	}
	named, ok := ref.(reference.Named)
	if _, digested := ref.(reference.Digested); !ok && digested {
		return errdefs.ErrUnknown.WithMessage("no manifest found for full image ID")
	}
	if !ok {
		return invalid("unknown image reference format: %s", name)
	}
	info, err := h.backend.Distribution(r.Context(), reference.TagNameOnly(named).String(), request.Auth(r))
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, info)
}
