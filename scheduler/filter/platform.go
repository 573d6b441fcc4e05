package filter

import "github.com/nereid-paas/nereid/scheduler/snapshot"

// platform rules out hosts that an image is not made for, where there are others that it is made for.
type platform struct{ wanted string }

// Name implements Filter.
func (platform) Name() string { return "platform" }

// Cut implements Cutter.
func (f platform) Cut(s *snapshot.Snapshot, in snapshot.Set) {
	hosts := s.PlatformHosts(f.wanted)
	if hosts.Hosts() == 0 {
		return
	}
	fit := snapshot.NewSet(s.Slots())
	hosts.AddTo(fit)
	in.Keep(fit)
}

// Why implements Filter.
func (f platform) Why(_ *snapshot.Snapshot, out snapshot.Set, all int) string {
	return of(out.Len(), all, "is", "are") + " not " + f.wanted + ", which the image is for"
}
