package request

import (
	"slices"
	"testing"
)

// FuzzPlatform wants a platform read to be whole.
func FuzzPlatform(f *testing.F) {
	for _, s := range []string{"linux/arm64/v8", "linux", "a/b/c/d", `{"os":"linux","architecture":"arm64"}`, `{"os":"x"}`, `{"variant":"v8"}`, "\xff", "null", "windows(10.0.1)/amd64"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := Platform(s); err == nil && p != nil && p.OS == "" && p.Architecture == "" {
			t.Errorf("%q is no platform: %+v", s, p)
		}
		if p, err := PlatformJSON(s); err == nil && p != nil && slices.Contains([]string{p.OS, p.Architecture}, "") {
			t.Errorf("%q is half a platform: %+v", s, p)
		}
	})
}
