package engine

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// absentLook is how often the rumour is compared with what the state says of it.
const absentLook = 100 * time.Millisecond

// tellAbsences has the state say which hosts are unreachable, so that all name servers hide and show what runs there
// alike. One host at a time speaks, the first by name of the servers that answer: two that hear different things would
// contradict each other for ever. A host whose daemon was stopped is not absent: what runs there goes on.
func (h *Hosts) tellAbsences(ctx context.Context) error {
	tick := time.NewTicker(absentLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if h.speaker() != h.Host {
			continue
		}
		if ops := h.absences(time.Now().UTC()); len(ops) > 0 {
			if _, err := h.State.Commit(ctx, ops...); err != nil && ctx.Err() == nil {
				h.Log.Debug("unreachable hosts are not recorded; trying again", zap.Error(err))
			}
		}
	}
}

// speaker is the host that tells; none when no server answers.
func (h *Hosts) speaker() nereid.Host {
	for _, m := range h.State.View().Members() { // by name
		if m.Server && h.Fleet.State(m.Name) == nereid.HostAlive {
			return m.Name
		}
	}
	return ""
}

// voidTime is how long a host may take to come to a request that it did not answer: far longer than one lasts.
const voidTime = time.Hour

// absences are the changes that make the state say what is heard, and forget what was given up long ago.
func (h *Hosts) absences(now time.Time) []state.Op {
	var ops []state.Op
	told := map[nereid.Host]*state.Absence{}
	for _, a := range h.State.View().Absences() {
		told[a.Host] = a
	}
	for _, m := range h.State.View().Members() {
		a, is := told[m.Name]
		delete(told, m.Name)
		switch s := h.Fleet.State(m.Name); {
		case s == nereid.HostUnreachable && !is:
			ops = append(ops, state.Put(&state.Absence{Host: m.Name, Since: now, By: h.Host}))
		case (s == nereid.HostAlive || s == nereid.HostLeft) && is:
			ops = append(ops, state.Delete(a))
		}
	}
	for _, a := range told { // removed from the fleet
		ops = append(ops, state.Delete(a))
	}
	for _, v := range h.State.View().Voids() {
		if now.Sub(v.Since) > voidTime {
			ops = append(ops, state.Delete(v))
		}
	}
	return ops
}
