package engine

import (
	"context"
	"slices"

	imagetypes "github.com/docker/docker/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// History lists the steps an image was made in, the last first. Steps that left a layer have its size; those whose
// image is in the catalogue too, as parents are, have its id and tags.
func (i *Images) History(ctx context.Context, ref string, platform *ocispec.Platform) ([]*imagetypes.HistoryResponseItem, error) {
	img, err := i.find(nereid.AccountFrom(ctx), ref, platform)
	if err != nil {
		return nil, err
	}
	cfg, err := image.DecodeConfig(img.Config)
	if err != nil {
		return nil, err
	}
	steps := []*imagetypes.HistoryResponseItem{}
	filled := 0
	for _, h := range cfg.History {
		s := &imagetypes.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			s.Created = h.Created.Unix()
		}
		if !h.EmptyLayer {
			if filled < len(img.Sizes) {
				s.Size = img.Sizes[filled]
			}
			filled++
		}
		steps = append(steps, s)
	}
	slices.Reverse(steps)
	i.nameSteps(img, steps)
	return steps, nil
}

func (i *Images) nameSteps(img *state.Image, steps []*imagetypes.HistoryResponseItem) {
	v := i.State.View()
	for _, s := range steps {
		s.ID = string(img.ID)
		s.Tags, _ = familiar(references(v, img))
		parent, ok := v.Image(img.Account, img.Parent)
		if !ok {
			return
		}
		img = parent
	}
}
