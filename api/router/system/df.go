package system

import (
	"net/http"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/build"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
)

func (h handlers) diskUsage(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	v := compat.From(r.Context())
	opts, cache, err := wanted(r, v)
	if err != nil {
		return err
	}
	used := &backend.DiskUsage{}
	if opts != (backend.DiskUsageOptions{}) {
		if used, err = h.backend.DiskUsage(r.Context(), opts); err != nil {
			return err
		}
	}
	if !cache {
		used.BuildCache = nil
	} else if used.BuildCache == nil {
		used.BuildCache = &build.CacheDiskUsage{}
	}
	du := usage(used)
	return answer.JSON(w, http.StatusOK, compat.DiskUsage(v, du))
}

// wanted reads the types asked for: all where none is named.
func wanted(r *http.Request, v compat.Version) (opts backend.DiskUsageOptions, cache bool, err error) {
	names, ok := r.Form["type"]
	if v < 42 || !ok {
		return backend.DiskUsageOptions{Containers: true, Images: true, Volumes: true}, true, nil
	}
	for _, name := range names {
		switch types.DiskUsageObject(name) {
		case types.ContainerObject:
			opts.Containers = true
		case types.ImageObject:
			opts.Images = true
		case types.VolumeObject:
			opts.Volumes = true
		case types.BuildCacheObject:
			cache = true
		default:
			return opts, false, invalid("unknown object type: %s", name)
		}
	}
	return opts, cache, nil
}

// usage gives the answer the shape it has on the wire. What was not asked for is null.
func usage(used *backend.DiskUsage) *types.DiskUsage {
	du := &types.DiskUsage{}
	if used.Images != nil {
		du.LayersSize, du.Images = used.Images.TotalSize, notNil(used.Images.Items)
	}
	if used.Containers != nil {
		du.Containers = notNil(used.Containers.Items)
	}
	if used.Volumes != nil {
		du.Volumes = notNil(used.Volumes.Items)
	}
	if used.BuildCache != nil {
		du.BuildCache = notNil(used.BuildCache.Items)
	}
	return du
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
