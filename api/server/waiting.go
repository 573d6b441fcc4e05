package server

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/swarm"
	systemtypes "github.com/docker/docker/api/types/system"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/api/router/system"
)

// Waiting answers on listeners while there is no state to answer from: who is there and in which version, and to all else
// why nothing can be done now, with 503.
type Waiting struct {
	server *http.Server
	lent   []lent
	done   sync.WaitGroup
}

// Wait begins to answer on the listeners, which stay the caller's, until Stop. Why is a sentence for users.
func Wait(host, version, why string, log *zap.Logger, listeners ...net.Listener) *Waiting {
	s := New(Config{Version: version, Log: log})
	backend := waiting{host: host, version: version, why: why}
	answered := []string{"/_ping", "/version", "/info"}
	routes := slices.DeleteFunc(system.Routes(backend), func(r router.Route) bool { return !slices.Contains(answered, r.Path) })
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		routes = append(routes, router.Route{Method: method, Path: "/{rest:.*}", Handler: backend.refuse})
	}
	s.mux = s.newMux(routes)
	w := &Waiting{server: &http.Server{Handler: s, ReadHeaderTimeout: headerTimeout, ErrorLog: zap.NewStdLog(s.log), Protocols: protocols()}}
	for _, l := range listeners {
		if d, ok := l.(deadliner); ok {
			own := lent{d}
			w.lent = append(w.lent, own)
			w.done.Go(func() { _ = w.server.Serve(own) }) // ends with Stop
		}
	}
	return w
}

// Stop gives the listeners back. A nil Waiting has none.
func (w *Waiting) Stop() {
	if w == nil {
		return
	}
	_ = w.server.Close()
	w.done.Wait()
	for _, l := range w.lent {
		_ = l.SetDeadline(time.Time{})
	}
}

type deadliner interface {
	net.Listener
	SetDeadline(t time.Time) error
}

// lent is a listener that is not closed by the server it is lent to.
type lent struct{ deadliner }

// Close has Accept return.
func (l lent) Close() error { return l.SetDeadline(time.Unix(1, 0)) }

// waiting is the backend of what is answered without a state.
type waiting struct {
	system.Backend // nil: what else it can do is not asked for
	host           string
	version        string
	why            string
}

func (b waiting) refuse(http.ResponseWriter, *http.Request) error {
	return errdefs.ErrUnavailable.WithMessage(b.why)
}

// Version implements system.Backend.
func (b waiting) Version(context.Context) types.Version {
	v := types.Version{
		Version: b.version, APIVersion: compat.Max, MinAPIVersion: compat.Min, GoVersion: runtime.Version(),
		Os: runtime.GOOS, Arch: runtime.GOARCH, Components: []types.ComponentVersion{},
	}
	v.Platform.Name = "nereid"
	return v
}

// Info implements system.Backend.
func (b waiting) Info(context.Context) (*systemtypes.Info, error) {
	return &systemtypes.Info{
		Name: b.host, ServerVersion: b.version, OSType: runtime.GOOS, Architecture: runtime.GOARCH, NCPU: runtime.NumCPU(),
		Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}, Warnings: []string{"WARNING: " + b.why},
	}, nil
}
