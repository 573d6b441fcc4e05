package snapshot

import (
	"iter"
	"math/bits"
)

// Set is a set of hosts by their slots in a snapshot: one bit each.
type Set []uint64

// NewSet is an empty set for slots up to n.
func NewSet(n int) Set { return make(Set, (n+63)/64) }

// Has tells whether a slot is in the set. The set may be shorter than the slot asks for.
func (s Set) Has(slot int) bool {
	return slot>>6 < len(s) && s[slot>>6]&(1<<(slot&63)) != 0
}

// Add puts a slot in; it must be within the set.
func (s Set) Add(slot int) { s[slot>>6] |= 1 << (slot & 63) }

// Remove takes a slot out.
func (s Set) Remove(slot int) {
	if slot>>6 < len(s) {
		s[slot>>6] &^= 1 << (slot & 63)
	}
}

// grown is the set with room for a slot.
func (s Set) grown(slot int) Set {
	for len(s) <= slot>>6 {
		s = append(s, 0)
	}
	return s
}

// Len counts.
func (s Set) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Empty tells whether nothing is in it.
func (s Set) Empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// Clone is a copy.
func (s Set) Clone() Set { return append(Set(nil), s...) }

// Keep leaves what is in o too.
func (s Set) Keep(o Set) {
	for i := range s {
		if i < len(o) {
			s[i] &= o[i]
		} else {
			s[i] = 0
		}
	}
}

// Drop takes out what is in o.
func (s Set) Drop(o Set) {
	for i := range min(len(s), len(o)) {
		s[i] &^= o[i]
	}
}

// Join puts in what is in o; nothing of o may lie beyond the set.
func (s Set) Join(o Set) {
	for i := range min(len(s), len(o)) {
		s[i] |= o[i]
	}
}

// All yields the slots in order.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(i<<6 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}
