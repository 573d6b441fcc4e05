package engine

import (
	"cmp"
	"maps"
	"slices"

	"github.com/docker/docker/api/types/events"

	"github.com/nereid-paas/nereid/pkg/state"
)

// tell is the op that emits an event of a container, with attributes as name and value in turn.
func tell(r *state.Container, action events.Action, pairs ...string) state.Op {
	attrs := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		attrs[pairs[i]] = pairs[i+1]
	}
	return state.Emit(containerEvent(r, action, attrs))
}

// tellNetworks emits the events of the networks that a starting container joins, or an ended one leaves.
func (c *Containers) tellNetworks(r *state.Container, action events.Action) []state.Op {
	var ops []state.Op
	for _, name := range endpointOrder(r) {
		n, ok := c.State.View().Network(r.Account, r.Networks[name].Network)
		if !ok {
			continue
		}
		ops = append(ops, state.Emit(networkEvent(c.Host, n, action, map[string]string{"container": string(r.ID)})))
	}
	return ops
}

// endpointOrder lists the names of a container's networks in the order of their attachment.
func endpointOrder(r *state.Container) []string {
	return slices.SortedFunc(maps.Keys(r.Networks), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Networks[a].Order, r.Networks[b].Order), cmp.Compare(a, b))
	})
}
