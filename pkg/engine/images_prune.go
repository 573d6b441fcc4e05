package engine

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

var imagePruneFilters = map[string]bool{
	"dangling": true,
	"label":    true,
	"label!":   true,
	"until":    true,
}

// Prune removes the account's images that no container uses: nameless ones, or with dangling=false all of them. What
// failed pulls left for another try goes too.
func (i *Images) Prune(ctx context.Context, f filters.Args) (*imagetypes.PruneReport, error) {
	if !i.pruning.CompareAndSwap(false, true) {
		return nil, errdefs.ErrConflict.WithMessage("a prune operation is already running")
	}
	defer i.pruning.Store(false)
	p, err := newImagePrune(f)
	if err != nil {
		return nil, err
	}
	a := nereid.AccountFrom(ctx)
	v := i.State.View()
	all := v.Images(a)
	parents := parentsOf(all)
	sizes := layerSizes(all)
	report := &imagetypes.PruneReport{}
	for _, img := range all {
		if ctx.Err() != nil {
			break // what is gone is told all the same
		}
		if namedOf(v, img) != img {
			continue // it goes with the one that has its name
		}
		if p.dangling && parents[img.ID] || !p.selects(img, i.labels(img)) {
			continue
		}
		refs := references(v, img)
		if len(refs) == 0 && parents[img.ID] {
			continue
		}
		report.ImagesDeleted = append(report.ImagesDeleted, i.pruneOne(ctx, img, refs, p.dangling)...)
	}
	if err := i.store.ForgetRetries(ctx, a); err != nil {
		i.Log.Sugar().Warnw("leftovers of failed transfers stay until they expire", "error", err)
	}
	i.collect(ctx)
	for _, d := range report.ImagesDeleted {
		report.SpaceReclaimed += uint64(sizes[d.Deleted])
	}
	told := pruneEvent(a, i.Host, events.ImageEventType, map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	_, err = i.State.Commit(context.WithoutCancel(ctx), state.Emit(told))
	return report, err
}

// imagePrune says which images to prune.
type imagePrune struct {
	dangling bool
	until    time.Time
	filters  filters.Args
}

func newImagePrune(f filters.Args) (*imagePrune, error) {
	if err := f.Validate(imagePruneFilters); err != nil {
		return nil, err
	}
	dangling, err := f.GetBoolOrDefault("dangling", true)
	if err != nil {
		return nil, err
	}
	p := &imagePrune{dangling: dangling, filters: f}
	until := f.Get("until")
	if len(until) > 1 {
		return nil, invalidImage(errors.New("more than one until filter specified"))
	}
	if len(until) == 1 {
		p.until, err = filterTime(until[0])
	}
	return p, err
}

func (p *imagePrune) selects(img *state.Image, labels map[string]string) bool {
	if !p.until.IsZero() && (img.Created.IsZero() || img.Created.After(p.until)) {
		return false
	}
	if !p.filters.MatchKVList("label", labels) {
		return false
	}
	return !p.filters.Contains("label!") || !p.filters.MatchKVList("label!", labels)
}

// pruneOne removes an image through its names, so that what keeps it keeps it. What cannot go stays silently.
func (i *Images) pruneOne(ctx context.Context, img *state.Image, refs []reference.Named, danglingOnly bool) []imagetypes.DeleteResponse {
	var gone []imagetypes.DeleteResponse
	opts := imagetypes.RemoveOptions{PruneChildren: true}
	if len(refs) == 0 {
		gone, _ = i.remove(ctx, string(img.ID), opts)
		return gone
	}
	tags, _ := familiar(refs)
	if danglingOnly && len(tags) > 0 {
		return nil
	}
	for _, r := range refs {
		if d, err := i.remove(ctx, r.String(), opts); err == nil {
			gone = append(gone, d...)
		}
	}
	return gone
}

// layerSizes maps snapshots to the bytes in them.
func layerSizes(all []*state.Image) map[string]int64 {
	sizes := map[string]int64{}
	for _, img := range all {
		for n, c := range chainsOf(img) {
			if n < len(img.Sizes) {
				sizes[c.String()] = img.Sizes[n]
			}
		}
	}
	return sizes
}
