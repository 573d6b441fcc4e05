package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Remove removes a network that nobody is on. Containers that are not running may have been made for it; they do not
// start any more.
func (n *Networks) Remove(ctx context.Context, ref string) error {
	record, err := n.State.View().FindNetwork(nereid.AccountFrom(ctx), ref)
	if err != nil {
		return err
	}
	if record.Predefined {
		return forbidden("%s is a pre-defined network and cannot be removed", record.Name)
	}
	return n.remove(ctx, record)
}

// remove takes a network out of the state, then off this host. A container that starts at the same time either is
// first, and the network stays, or finds it gone.
func (n *Networks) remove(ctx context.Context, record *state.Network) error {
	if record.ConfigOnly {
		if err := n.checkConfigUnused(record); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		if active := n.activeEndpoints(record); len(active) > 0 {
			return forbidden("error while removing network: network %s has active endpoints (%s)", record.Name, strings.Join(active, ", "))
		}
		ops := []state.Op{
			state.Remove(record), state.Vacant(record),
			state.Delete(&state.NetworkName{Account: record.Account, Name: record.Name}),
		}
		if !record.ConfigOnly {
			ops = append(ops, state.Emit(networkEvent(n.Host, record, events.ActionDestroy, nil)))
		}
		_, err := n.State.Commit(ctx, ops...)
		if err == nil {
			break
		}
		if _, there := n.State.View().Network(record.Account, record.ID); !there {
			return errNoSuchNetwork(record.Name) // another removed it meanwhile
		}
		if !overtaken(err) || try == maxTransitTries {
			return err
		}
	}
	n.ipam.forget(record)
	ctx, cancel := work(ctx)
	defer cancel()
	if err := n.Network.RemoveNetwork(ctx, record); err != nil {
		n.Log.Error("links of a removed network remain", zap.String("network", record.Name), zap.Error(err))
	}
	return nil
}

func (n *Networks) checkConfigUnused(record *state.Network) error {
	for _, other := range n.State.View().Networks(record.Account) {
		if other.ConfigFrom == record.Name {
			return forbidden("error while removing network: configuration network %q is in use", record.Name)
		}
	}
	return nil
}

// activeEndpoints are those of running containers, as Docker lists them.
func (n *Networks) activeEndpoints(record *state.Network) []string {
	var list []string
	for _, r := range n.State.View().ContainersOnNetwork(record.ID) {
		for _, ep := range r.Networks {
			if ep.Network == record.ID && ep.ID != "" {
				list = append(list, fmt.Sprintf("name:%q id:%q", r.Name, ep.ID[:12]))
			}
		}
	}
	slices.Sort(list)
	return list
}

// Prune removes the account's networks that nobody is on. One that cannot be removed is left and logged.
func (n *Networks) Prune(ctx context.Context, f filters.Args) (*networktypes.PruneReport, error) {
	if !n.pruning.CompareAndSwap(false, true) {
		return nil, errConflict("a prune operation is already running")
	}
	defer n.pruning.Store(false)
	if err := f.Validate(map[string]bool{"label": true, "label!": true, "until": true}); err != nil {
		return nil, invalidArgument(err)
	}
	until, err := pruneUntil(f)
	if err != nil {
		return nil, err
	}
	account := nereid.AccountFrom(ctx)
	report := &networktypes.PruneReport{}
	for _, record := range n.State.View().Networks(account) {
		if ctx.Err() != nil {
			return report, nil
		}
		if !n.unused(record, f, until) {
			continue
		}
		if err := n.remove(ctx, record); err != nil {
			n.Log.Warn("network not pruned", zap.String("network", record.Name), zap.Error(err))
			continue
		}
		report.NetworksDeleted = append(report.NetworksDeleted, record.Name)
	}
	event := pruneEvent(account, n.Host, events.NetworkEventType, map[string]string{"reclaimed": "0"})
	_, err = n.State.Commit(context.WithoutCancel(ctx), state.Emit(event))
	return report, err
}

// unused tells whether a prune with these filters takes a network.
func (n *Networks) unused(record *state.Network, f filters.Args, until time.Time) bool {
	if record.Predefined || record.ConfigOnly || len(n.activeEndpoints(record)) > 0 {
		return false
	}
	if !until.IsZero() && record.Created.After(until) {
		return false
	}
	if !f.MatchKVList("label", record.Labels) {
		return false
	}
	return !f.Contains("label!") || !f.MatchKVList("label!", record.Labels)
}
