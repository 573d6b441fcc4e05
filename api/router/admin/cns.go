package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/gorilla/mux"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/request"
	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Names is what the routes of the name service need.
type Names interface {
	Status(ctx context.Context) (nereid.CNSStatus, error)
	// Explain says why a container, by name or id, or a DNS name is named as it is.
	Explain(ctx context.Context, what string) (nereid.CNSExplanation, error)
	// SetContainer says at run time how a container is named, by words KEY=VALUE.
	SetContainer(ctx context.Context, ref string, words []string) error
	Zones
	Keys
}

// Zones is what the routes of DNS zones need. Settings are words KEY=VALUE, KEY+=VALUE, KEY-=VALUE.
type Zones interface {
	Zones(ctx context.Context) ([]nereid.CNSZone, error)
	AddZone(ctx context.Context, name string, words []string) (warnings []string, err error)
	SetZone(ctx context.Context, name string, words []string) (warnings []string, err error)
	RemoveZone(ctx context.Context, name string) error
	// Dump calls begin before it writes, and not when there is nothing to write.
	Dump(ctx context.Context, name string, begin func() io.Writer) error
}

// Keys is what the routes of keys need.
type Keys interface {
	Keys(ctx context.Context, zone string) ([]nereid.CNSKey, error)
	AddKey(ctx context.Context, zone string) (nereid.CNSKey, error)
	RemoveKey(ctx context.Context, zone string, tag uint16) error
	TSIGs(ctx context.Context) ([]nereid.CNSTSIG, error)
	AddTSIG(ctx context.Context, name string, k nereid.CNSTSIG) (nereid.CNSTSIG, error)
	RemoveTSIG(ctx context.Context, name string) error
}

type names struct{ Names }

// NamesRoutes are those of the name service.
func NamesRoutes(n Names) []router.Route {
	h := names{n}
	const cns = nereid.AdminPrefix + "/cns"
	return []router.Route{
		router.Get(cns+"/status", h.status),
		router.Get(cns+"/explain", h.explain),
		router.Post(cns+"/containers/{ref}", h.setContainer),
		router.Get(cns+"/zones", h.zones),
		router.Post(cns+"/zones/{zone}", h.addZone),
		router.Put(cns+"/zones/{zone}", h.setZone),
		router.Delete(cns+"/zones/{zone}", h.removeZone),
		router.Get(cns+"/zones/{zone}/dump", h.dump),
		router.Get(cns+"/zones/{zone}/keys", h.keys),
		router.Post(cns+"/zones/{zone}/keys", h.addKey),
		router.Delete(cns+"/zones/{zone}/keys/{tag}", h.removeKey),
		router.Get(cns+"/tsig", h.tsigs),
		router.Post(cns+"/tsig/{key}", h.addTSIG),
		router.Delete(cns+"/tsig/{key}", h.removeTSIG),
	}
}

// reply answers with what a use case returned.
func reply[T any](w http.ResponseWriter, v T, err error) error {
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, v)
}

// done answers a use case that returns nothing.
func done(w http.ResponseWriter, err error) error {
	if err != nil {
		return err
	}
	return answer.Nothing(w)
}

func (h names) status(w http.ResponseWriter, r *http.Request) error {
	s, err := h.Names.Status(r.Context())
	return reply(w, s, err)
}

func (h names) explain(w http.ResponseWriter, r *http.Request) error {
	what := r.URL.Query().Get("what")
	if what == "" {
		return errdefs.ErrInvalidArgument.WithMessage("what is to be explained: a container or a DNS name?")
	}
	e, err := h.Names.Explain(r.Context(), what)
	return reply(w, e, err)
}

func (h names) setContainer(w http.ResponseWriter, r *http.Request) error {
	var s nereid.CNSSettings
	if err := request.JSON(r, &s); err != nil {
		return err
	}
	return done(w, h.Names.SetContainer(r.Context(), mux.Vars(r)["ref"], s.Settings))
}

func (h names) zones(w http.ResponseWriter, r *http.Request) error {
	all, err := h.Names.Zones(r.Context())
	return reply(w, all, err)
}

func (h names) addZone(w http.ResponseWriter, r *http.Request) error {
	return settle(w, r, h.AddZone)
}

func (h names) setZone(w http.ResponseWriter, r *http.Request) error {
	return settle(w, r, h.SetZone)
}

func settle(w http.ResponseWriter, r *http.Request, change func(context.Context, string, []string) ([]string, error)) error {
	var s nereid.CNSSettings
	if err := request.JSON(r, &s); err != nil {
		return err
	}
	warnings, err := change(r.Context(), mux.Vars(r)["zone"], s.Settings)
	return reply(w, nereid.CNSWarnings{Warnings: warnings}, err)
}

func (h names) removeZone(w http.ResponseWriter, r *http.Request) error {
	return done(w, h.RemoveZone(r.Context(), mux.Vars(r)["zone"]))
}

func (h names) dump(w http.ResponseWriter, r *http.Request) error {
	return h.Dump(r.Context(), mux.Vars(r)["zone"], func() io.Writer {
		w.Header().Set("Content-Type", "text/dns") // RFC 4027
		return w
	})
}

func (h names) keys(w http.ResponseWriter, r *http.Request) error {
	all, err := h.Keys(r.Context(), mux.Vars(r)["zone"])
	return reply(w, all, err)
}

func (h names) addKey(w http.ResponseWriter, r *http.Request) error {
	k, err := h.AddKey(r.Context(), mux.Vars(r)["zone"])
	return reply(w, k, err)
}

func (h names) removeKey(w http.ResponseWriter, r *http.Request) error {
	tag, err := strconv.ParseUint(mux.Vars(r)["tag"], 10, 16)
	if err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q is no key's tag", mux.Vars(r)["tag"]))
	}
	return done(w, h.RemoveKey(r.Context(), mux.Vars(r)["zone"], uint16(tag)))
}

func (h names) tsigs(w http.ResponseWriter, r *http.Request) error {
	all, err := h.TSIGs(r.Context())
	return reply(w, all, err)
}

func (h names) addTSIG(w http.ResponseWriter, r *http.Request) error {
	var k nereid.CNSTSIG
	if err := request.JSON(r, &k); err != nil {
		return err
	}
	made, err := h.AddTSIG(r.Context(), mux.Vars(r)["key"], k)
	return reply(w, made, err)
}

func (h names) removeTSIG(w http.ResponseWriter, r *http.Request) error {
	return done(w, h.RemoveTSIG(r.Context(), mux.Vars(r)["key"]))
}
