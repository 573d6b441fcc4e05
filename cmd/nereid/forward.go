package main

import (
	"context"
	"net/http"

	"github.com/nereid-paas/nereid/api/router"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/peer"
	"github.com/nereid-paas/nereid/pkg/state"
)

// owners finds owners by the state's records, and leads to them.
type owners struct {
	view *state.View
	host nereid.Host
	to   *peer.Forwarder
}

// Owner implements server.Locator.
func (r owners) Owner(ctx context.Context, kind router.Kind, ref string) (nereid.Host, bool, error) {
	owner := r.host
	switch kind {
	case router.Container:
		if c, err := r.view.FindContainer(nereid.AccountFrom(ctx), ref); err == nil {
			owner = c.Host
		}
	case router.Exec:
		owner = r.execOwner(nereid.ExecID(ref))
	case router.Volume:
		v, ok := r.view.Volume(nereid.AccountFrom(ctx), ref)
		if !ok || v.Home == "" {
			break
		}
		if _, there := r.view.Member(v.Home); there { // else its data is gone with the host, and its record may go anywhere
			owner = v.Home
		}
	case router.Build: // where it was asked for
	}
	return owner, owner == r.host, nil
}

// execOwner reads the owner from the id.
func (r owners) execOwner(id nereid.ExecID) nereid.Host {
	for _, m := range r.view.Members() {
		if id.OwnedBy(m.Name) {
			return m.Name
		}
	}
	return r.host
}

// Forward implements server.Forwarder.
func (r owners) Forward(w http.ResponseWriter, req *http.Request, to nereid.Host) error {
	return r.to.Forward(w, req, to)
}

// present lets refusals rest on what the state's servers have agreed on.
type present struct{ store *state.Store }

// Attempt implements server.Present.
func (p present) Attempt(ctx context.Context) (context.Context, func() bool) {
	began := p.store.View().Revision()
	ctx, attempt := state.WithAttempt(ctx)
	return ctx, func() bool {
		if attempt.Changed() {
			return false
		}
		p.store.Present(ctx)
		return p.store.View().Revision() > began
	}
}
