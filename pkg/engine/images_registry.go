package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/registry"

	"github.com/nereid-paas/nereid/pkg/image"
)

// Distribution tells what a reference names in its registry, without pulling it.
func (i *Images) Distribution(ctx context.Context, ref string, auth *registry.AuthConfig) (*registry.DistributionInspect, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return nil, invalidImage(err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return nil, errors.New("no manifest found for full image ID")
	}
	at := ""
	if c, ok := named.(reference.Canonical); ok {
		at = c.Digest().String()
	} else if t, ok := reference.TagNameOnly(named).(reference.NamedTagged); ok {
		at = t.Tag()
	}
	var found registry.DistributionInspect
	err = i.fromRegistry(ctx, named, auth, func(repo *image.Repository) (err error) {
		found.Descriptor, found.Platforms, err = repo.Distribution(ctx, at)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &found, nil
}

// fromRegistry has get read from the registry of a name. What it does not get from a mirror it is to get from the next
// one, and from the registry itself in the end.
func (i *Images) fromRegistry(ctx context.Context, named reference.Named, auth *registry.AuthConfig, get func(*image.Repository) error) error {
	repo, err := i.store.Connect(ctx, named, auth, "pull")
	for {
		if err != nil {
			return err
		}
		err = get(repo)
		repo.Close()
		if err == nil || !repo.Mirror() || ctx.Err() != nil {
			return err
		}
		i.Log.Sugar().Infow("not had from the mirror", "image", named.String(), "error", err)
		repo, err = repo.Next(ctx)
	}
}

// Login checks credentials with a registry. Nothing is kept.
func (i *Images) Login(ctx context.Context, auth *registry.AuthConfig) (status, token string, err error) {
	token, err = i.store.Login(ctx, auth)
	if err != nil {
		return "", "", err
	}
	return "Login Succeeded", token, nil
}

var imageSearchFilters = map[string]bool{"is-automated": true, "is-official": true, "stars": true}

// Search asks a registry for repositories.
func (i *Images) Search(ctx context.Context, term string, limit int, f filters.Args, auth *registry.AuthConfig) ([]registry.SearchResult, error) {
	if err := f.Validate(imageSearchFilters); err != nil {
		return nil, err
	}
	automated, err := f.GetBoolOrDefault("is-automated", false)
	if err != nil {
		return nil, err
	}
	official, err := f.GetBoolOrDefault("is-official", false)
	if err != nil {
		return nil, err
	}
	stars := 0
	for _, s := range f.Get("stars") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, invalidImage(fmt.Errorf("invalid filter 'stars=%s'", s))
		}
		stars = max(stars, n)
	}
	list := []registry.SearchResult{}
	if automated {
		return list, nil // registries say it of none any more
	}
	found, err := i.store.Search(ctx, term, limit, auth)
	if err != nil {
		return nil, err
	}
	for _, r := range found {
		r.IsAutomated = false //nolint:staticcheck // deprecated, and still answered
		if r.StarCount >= stars && (!f.Contains("is-official") || r.IsOfficial == official) {
			list = append(list, r)
		}
	}
	return list, nil
}
