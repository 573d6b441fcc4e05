package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	timetypes "github.com/docker/docker/api/types/time"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

var imageListFilters = map[string]bool{
	"dangling":  true,
	"label":     true,
	"before":    true,
	"since":     true,
	"reference": true,
	"until":     true,
}

// List answers from the view what is in the account's catalogue, newest first.
func (i *Images) List(ctx context.Context, opts imagetypes.ListOptions) ([]*imagetypes.Summary, error) {
	a := nereid.AccountFrom(ctx)
	sel, err := i.imageSelection(a, opts)
	if err != nil {
		return nil, err
	}
	all := i.State.View().Images(a)
	sel.parents = parentsOf(all)
	list := []*imagetypes.Summary{}
	for _, img := range all {
		if namedOf(i.State.View(), img) != img {
			continue // one of the platforms of another
		}
		s, err := i.summarize(img, sel)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		if opts.Manifests {
			s.Manifests = i.manifests(ctx, img)
		}
		list = append(list, s)
	}
	if opts.SharedSize {
		shareSizes(list, all)
	}
	slices.SortStableFunc(list, func(a, b *imagetypes.Summary) int { return cmp.Compare(b.Created, a.Created) })
	return list, nil
}

// imageSelection says which images to list.
type imageSelection struct {
	all           bool
	filters       filters.Args
	dangling      bool // dangling=true
	notDangling   bool // dangling=false
	before, since time.Time
	parents       map[nereid.ImageID]bool // images that others were made from
}

func (i *Images) imageSelection(a nereid.Account, opts imagetypes.ListOptions) (*imageSelection, error) {
	f := opts.Filters
	if err := f.Validate(imageListFilters); err != nil {
		return nil, err
	}
	dangling, err := f.GetBoolOrDefault("dangling", false)
	if err != nil {
		return nil, err
	}
	s := &imageSelection{all: opts.All, filters: f, dangling: dangling, notDangling: f.Contains("dangling") && !dangling}
	earliest := func(t time.Time) {
		if s.before.IsZero() || s.before.After(t) {
			s.before = t
		}
	}
	err = f.WalkValues("before", func(ref string) error {
		img, err := findImage(i.State.View(), a, ref)
		if err == nil && !img.Created.IsZero() {
			earliest(img.Created)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = f.WalkValues("until", func(value string) error {
		t, err := filterTime(value)
		if err == nil {
			earliest(t)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, f.WalkValues("since", func(ref string) error {
		img, err := findImage(i.State.View(), a, ref)
		if err == nil && s.since.Before(img.Created) {
			s.since = img.Created
		}
		return err
	})
}

// filterTime reads a point in time as filters have it: a timestamp, a date, or how long ago.
func filterTime(value string) (time.Time, error) {
	ts, err := timetypes.GetTimestamp(value, time.Now())
	if err != nil {
		return time.Time{}, invalidImage(err)
	}
	sec, nano, err := timetypes.ParseTimestamps(ts, 0)
	if err != nil {
		return time.Time{}, invalidImage(err)
	}
	return time.Unix(sec, nano), nil
}

func parentsOf(all []*state.Image) map[nereid.ImageID]bool {
	parents := map[nereid.ImageID]bool{}
	for _, img := range all {
		if img.Parent != "" {
			parents[img.Parent] = true
		}
	}
	return parents
}

// summarize describes an image, nil when it is not selected.
func (i *Images) summarize(img *state.Image, sel *imageSelection) (*imagetypes.Summary, error) {
	if !sel.inTime(img.Created) {
		return nil, nil
	}
	cfg, err := image.DecodeConfig(img.Config)
	if err != nil {
		return nil, err
	}
	var labels map[string]string
	if cfg.Config != nil {
		labels = cfg.Config.Labels
	}
	if sel.filters.Contains("label") && !sel.filters.MatchKVList("label", labels) {
		return nil, nil
	}
	refs, err := sel.references(references(i.State.View(), img))
	if err != nil {
		return nil, err
	}
	tags, digests := familiar(refs)
	if !sel.named(img, tags, digests) {
		return nil, nil
	}
	target := img.Target
	return &imagetypes.Summary{
		ID:          string(img.ID),
		ParentID:    string(img.Parent),
		Created:     unixOrZero(img.Created),
		RepoTags:    tags,
		RepoDigests: digests,
		Size:        img.Size,
		SharedSize:  -1,
		Containers:  int64(i.State.View().CountImageUsers(img.Account, img.ID)),
		Labels:      labels,
		Descriptor:  &target,
	}, nil
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (s *imageSelection) inTime(created time.Time) bool {
	if !s.before.IsZero() && (created.IsZero() || !created.Before(s.before)) {
		return false
	}
	return s.since.IsZero() || created.After(s.since)
}

// references leaves those that a reference filter selects.
func (s *imageSelection) references(refs []reference.Named) ([]reference.Named, error) {
	patterns := s.filters.Get("reference")
	if len(patterns) == 0 {
		return refs, nil
	}
	var left []reference.Named
	for _, r := range refs {
		for _, p := range patterns {
			ok, err := reference.FamiliarMatch(p, r)
			if err != nil {
				return nil, invalidImage(err)
			}
			if ok {
				left = append(left, r)
				break
			}
		}
	}
	return left, nil
}

// named selects by what is left of an image's names: one without any is dangling, or a step on the way to another
// image, which only "all" shows.
func (s *imageSelection) named(img *state.Image, tags, digests []string) bool {
	if len(tags) == 0 && len(digests) == 0 {
		return (s.all || !s.parents[img.ID]) && !s.notDangling && !s.filters.Contains("reference")
	}
	return !s.dangling || (len(tags) == 0 && !s.parents[img.ID])
}

// chainsOf names the snapshots of an image, the lowest first.
func chainsOf(img *state.Image) []digest.Digest {
	cfg, err := image.DecodeConfig(img.Config)
	if err != nil {
		return nil
	}
	return identity.ChainIDs(slices.Clone(cfg.RootFS.DiffIDs))
}

// shareSizes fills in how much of each image others have too.
func shareSizes(list []*imagetypes.Summary, all []*state.Image) {
	users := map[digest.Digest]int{}
	byID := map[string]*state.Image{}
	for _, img := range all {
		byID[string(img.ID)] = img
		for _, c := range chainsOf(img) {
			users[c]++
		}
	}
	for _, s := range list {
		s.SharedSize = 0
		img := byID[s.ID]
		for n, c := range chainsOf(img) {
			if users[c] > 1 && n < len(img.Sizes) {
				s.SharedSize += img.Sizes[n]
			}
		}
	}
}
