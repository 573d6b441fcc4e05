package image

import (
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wanted is the platform asked for, with what was left out taken from this host's.
func wanted(p *ocispec.Platform) ocispec.Platform {
	def := platforms.DefaultSpec()
	if p == nil {
		return def
	}
	w := *p
	if w.OS == "" {
		w.OS = def.OS
	}
	if w.Architecture == "" {
		w.Architecture, w.Variant = def.Architecture, def.Variant
	}
	return platforms.Normalize(w)
}

// matches lists the manifests of an index that fit a platform, the best first. One without a platform fits all, and
// goes last.
func matches(manifests []ocispec.Descriptor, p *ocispec.Platform) []ocispec.Descriptor {
	m := platforms.Only(wanted(p))
	var fit []ocispec.Descriptor
	for _, d := range manifests {
		if d.Platform == nil || m.Match(*d.Platform) {
			fit = append(fit, d)
		}
	}
	slices.SortStableFunc(fit, func(a, b ocispec.Descriptor) int {
		switch {
		case a.Platform == nil && b.Platform == nil:
			return 0
		case a.Platform == nil:
			return 1
		case b.Platform == nil, m.Less(*a.Platform, *b.Platform):
			return -1
		case m.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	return fit
}

// noMatch is the refusal, in Docker's words. It keeps the class that Docker gives it: none.
func noMatch(p *ocispec.Platform) error {
	return &classed{
		fmt.Errorf("no matching manifest for %s in the manifest list entries", platforms.FormatAll(wanted(p))),
		errNoMatch,
	}
}

// Matches tells whether an image of one platform does for another that was asked for. An image that does not say its
// variant does for all of them.
func Matches(has, asked ocispec.Platform) bool {
	if platforms.Only(asked).Match(has) {
		return true
	}
	h, w := platforms.Normalize(has), platforms.Normalize(asked)
	return has.Variant == "" && h.OS == w.OS && h.Architecture == w.Architecture
}

// Best chooses of the platforms that images have the one that does best for another that was asked for, the first of equal
// ones; -1: none does. An image of arm/v7 does for arm64, but not where there is one of arm64.
func Best(have []ocispec.Platform, asked ocispec.Platform) int {
	m, best := platforms.Only(asked), -1
	for i, p := range have {
		if Matches(p, asked) && (best < 0 || m.Less(p, have[best])) {
			best = i
		}
	}
	return best
}
