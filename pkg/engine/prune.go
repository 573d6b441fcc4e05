package engine

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	timetypes "github.com/docker/docker/api/types/time"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Prune removes the account's containers that do not run, on all hosts that answer. One that cannot be removed is left and logged.
func (c *Containers) Prune(ctx context.Context, f filters.Args) (*container.PruneReport, error) {
	if !c.pruning.CompareAndSwap(false, true) {
		return nil, errConflict("a prune operation is already running")
	}
	defer c.pruning.Store(false)
	if err := f.Validate(map[string]bool{"label": true, "label!": true, "until": true}); err != nil {
		return nil, err
	}
	until, err := pruneUntil(f)
	if err != nil {
		return nil, err
	}
	a := nereid.AccountFrom(ctx)
	report := &container.PruneReport{}
	for _, r := range c.State.View().Containers(a) {
		if ctx.Err() != nil {
			return report, nil
		}
		switch {
		case !prunable(r, f, until), r.Host != c.Host && (c.Road == nil || c.Fleet.State(r.Host).Gone()):
		case c.elsewhere(r.Host):
			c.pruneOn(ctx, r, report)
		default:
			c.pruneOne(ctx, r, report)
		}
	}
	event := pruneEvent(a, c.Host, events.ContainerEventType,
		map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	_, err = c.State.Commit(context.WithoutCancel(ctx), state.Emit(event))
	return report, err
}

func prunable(r *state.Container, f filters.Args, until time.Time) bool {
	if up(r) || (!until.IsZero() && r.Created.After(until)) {
		return false
	}
	if !f.MatchKVList("label", r.Config.Labels) {
		return false
	}
	return !f.Contains("label!") || !f.MatchKVList("label!", r.Config.Labels)
}

func (c *Containers) pruneOne(ctx context.Context, r *state.Container, report *container.PruneReport) {
	size, _, err := c.Runtime.Size(ctx, keyOf(r))
	if err != nil {
		c.logger(keyOf(r)).Warn("size of container to prune not known", zap.Error(err))
	}
	if err := c.Remove(ctx, string(r.ID), backend.ContainerRmConfig{}); err != nil {
		c.logger(keyOf(r)).Warn("container not pruned", zap.Error(err))
		return
	}
	report.SpaceReclaimed += uint64(max(size, 0))
	report.ContainersDeleted = append(report.ContainersDeleted, string(r.ID))
}

// pruneOn is pruneOne for a container of another host.
func (c *Containers) pruneOn(ctx context.Context, r *state.Container, report *container.PruneReport) {
	size, _, err := c.sizeOn(ctx, r.Host, r.ID)
	if err != nil {
		c.logger(keyOf(r)).Warn("size of container to prune not known", zap.Error(err))
	}
	if err := c.ask(ctx, r.Host, http.MethodDelete, "/containers/"+string(r.ID), nil); err != nil {
		c.logger(keyOf(r)).Warn("container not pruned", zap.Error(err))
		return
	}
	report.SpaceReclaimed += uint64(max(size, 0))
	report.ContainersDeleted = append(report.ContainersDeleted, string(r.ID))
}

// pruneUntil reads the filter until; zero when there is none.
func pruneUntil(f filters.Args) (time.Time, error) {
	given := f.Get("until")
	if len(given) == 0 {
		return time.Time{}, nil
	}
	if len(given) > 1 {
		return time.Time{}, errInvalid("more than one until filter specified")
	}
	stamp, err := timetypes.GetTimestamp(given[0], time.Now())
	if err != nil {
		return time.Time{}, asInvalid(err)
	}
	return logTime(stamp)
}
