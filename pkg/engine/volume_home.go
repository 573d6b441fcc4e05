package engine

import (
	"context"
	"net/http"
	"net/url"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
)

// A volume's data lies on its home, the host of the first container that used it; one that is not used yet has none. A
// volume whose device every host can mount, such as an NFS export, never has one.

// shared tells whether a volume is the same on every host.
func shared(r *state.Volume) bool {
	o, err := volume.ParseOptions(r.Options)
	return err == nil && o.Shared()
}

// homeElsewhere is the other host that has a volume's data. One that is not in the fleet any more has taken the data
// with it: what is left of the volume is its record.
func (v *Volumes) homeElsewhere(r *state.Volume) (nereid.Host, bool) {
	if !v.elsewhere(r.Home) {
		return "", false
	}
	_, member := v.State.View().Member(r.Home)
	_, alive := v.State.View().Host(r.Home)
	return r.Home, member || alive
}

// usage is a volume's size, measured where its data is.
func (v *Volumes) usage(ctx context.Context, r *state.Volume) (int64, error) {
	if home, elsewhere := v.homeElsewhere(r); elsewhere {
		if v.Fleet.State(home).Gone() {
			return 0, errHostGone(home)
		}
		var size int64
		err := v.ask(ctx, home, http.MethodGet, nereid.AdminPrefix+"/volumes/"+url.PathEscape(r.Name), &size)
		return size, err
	}
	return v.Volumes.Usage(ctx, r)
}

// UsageHere is the size of a volume of the account whose data is on this host.
func (v *Volumes) UsageHere(ctx context.Context, name string) (int64, error) {
	r, ok := v.State.View().Volume(nereid.AccountFrom(ctx), name)
	if !ok {
		return 0, errNoSuchVolume(name)
	}
	return v.Volumes.Usage(ctx, r)
}

// remove takes a volume out of the state and its data off the disk, where that is.
func (v *Volumes) remove(ctx context.Context, r *state.Volume) error {
	home, elsewhere := v.homeElsewhere(r)
	switch {
	case !elsewhere:
		return v.removeHere(ctx, r)
	case v.Fleet.State(home).Gone():
		return volumeError("remove", r.Name, errHostGone(home))
	}
	if users := v.State.View().VolumeUsers(r.Account, r.Name); len(users) > 0 {
		return errVolumeInUse(r.Name, users) // as it would say
	}
	return v.removeOn(ctx, home, r.Name)
}

// status tells in a fleet where a volume's data is, and whether it can be reached; nil: nothing to tell.
func (v *Volumes) status(r *state.Volume) map[string]any {
	if r.Home == "" || len(v.State.View().Members()) < 2 {
		return nil
	}
	s := map[string]any{"Host": string(r.Home)}
	if home, elsewhere := v.homeElsewhere(r); elsewhere && v.Fleet.State(home).Gone() {
		s["Unreachable"] = true
	} else if !elsewhere && r.Home != v.Host {
		s["Lost"] = true // with the host, which was removed from the fleet
	}
	return s
}
