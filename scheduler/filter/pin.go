package filter

import "github.com/nereid-paas/nereid/scheduler/snapshot"

// pinned makes the filter of one tie to a host.
func pinned(p snapshot.Pin) Cutter {
	switch p.Kind {
	case snapshot.PinVolume:
		return volume{pin(p)}
	case snapshot.PinBind:
		return bind{pin(p)}
	case snapshot.PinAddress:
		return address{pin(p)}
	default:
		return dependency{pin(p)}
	}
}

// pin rules out all hosts but one.
type pin snapshot.Pin

// Cut implements Cutter.
func (p pin) Cut(s *snapshot.Snapshot, in snapshot.Set) {
	slot, ok := s.Find(p.Host)
	stays := ok && in.Has(slot)
	clear(in)
	if stays {
		in.Add(slot)
	}
}

// where says of the one host what else there is to say, when it is not in the fleet.
func (p pin) where(s *snapshot.Snapshot) string {
	if _, ok := s.Find(p.Host); !ok {
		return string(p.Host) + ", which is not in the fleet now"
	}
	return string(p.Host)
}
