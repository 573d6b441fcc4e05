package snapshot

// wideTally is the number of hosts from which a tally keeps its hosts as a set as well: about where walking the map
// costs as much as going over the bits of 10,000 hosts.
const wideTally = 64

// Tally counts containers by the slot of their host.
type Tally struct {
	n    map[int32]int32
	wide Set // nil while few hosts are in
}

// On is the count on a host. A nil tally is empty.
func (t *Tally) On(slot int) int {
	if t == nil {
		return 0
	}
	return int(t.n[int32(slot)])
}

// Hosts is the number of hosts that are counted.
func (t *Tally) Hosts() int {
	if t == nil {
		return 0
	}
	return len(t.n)
}

// AddTo puts the hosts into a set.
func (t *Tally) AddTo(s Set) {
	switch {
	case t == nil:
	case t.wide != nil:
		s.Join(t.wide)
	default:
		for slot := range t.n {
			s.Add(int(slot))
		}
	}
}

// RemoveFrom takes the hosts out of a set.
func (t *Tally) RemoveFrom(s Set) {
	switch {
	case t == nil:
	case t.wide != nil:
		s.Drop(t.wide)
	default:
		for slot := range t.n {
			s.Remove(int(slot))
		}
	}
}

// change adds to a host's count and tells whether anything is left.
func (t *Tally) change(slot int32, by int32) bool {
	if t.n == nil {
		t.n = make(map[int32]int32, 1)
	}
	now := t.n[slot] + by
	if now > 0 {
		t.n[slot] = now
		if t.wide == nil && len(t.n) > wideTally {
			t.wide = Set{}
			for s := range t.n {
				t.wide = t.wide.grown(int(s))
				t.wide.Add(int(s))
			}
		} else if t.wide != nil {
			t.wide = t.wide.grown(int(slot))
			t.wide.Add(int(slot))
		}
		return true
	}
	delete(t.n, slot)
	t.wide.Remove(int(slot))
	return len(t.n) > 0
}
