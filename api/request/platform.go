package request

import (
	"encoding/json"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform reads a platform written as text: "linux/arm64/v8". Empty is nil.
func Platform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, refused(err)
	}
	return &p, nil
}

// PlatformJSON reads a platform written as JSON, which the newer operations take. Empty is nil.
func PlatformJSON(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return nil, invalid("failed to parse platform: %v", err)
	}
	if p.OS != "" && p.Architecture != "" {
		return &p, nil
	}
	if p.OS == "" && p.Architecture == "" && (p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0) {
		return nil, invalid("optional platform fields provided, but OS and Architecture are missing")
	}
	return nil, invalid("both OS and Architecture must be provided")
}

// PlatformsJSON reads several.
func PlatformsJSON(list []string) ([]ocispec.Platform, error) {
	var all []ocispec.Platform
	for _, s := range list {
		p, err := PlatformJSON(s)
		if err != nil {
			return nil, err
		}
		if p == nil {
			return nil, invalid("failed to parse platform: unexpected end of JSON input")
		}
		all = append(all, *p)
	}
	return all, nil
}
