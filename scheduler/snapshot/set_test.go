package snapshot

import (
	"math/rand/v2"
	"slices"
	"testing"

	"gotest.tools/v3/assert"
)

// TestSetIsASet compares sets with maps over random operations.
func TestSetIsASet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const size = 200
	random := func() (Set, map[int]bool) {
		s, m := NewSet(size), map[int]bool{}
		for range rnd.IntN(size) {
			n := rnd.IntN(size)
			s.Add(n)
			m[n] = true
		}
		return s, m
	}
	for range 200 {
		a, am := random()
		b, bm := random()
		keep, drop, join := a.Clone(), a.Clone(), a.Clone()
		keep.Keep(b)
		drop.Drop(b)
		join.Join(b)
		for i := range size {
			assert.Equal(t, a.Has(i), am[i])
			assert.Equal(t, keep.Has(i), am[i] && bm[i])
			assert.Equal(t, drop.Has(i), am[i] && !bm[i])
			assert.Equal(t, join.Has(i), am[i] || bm[i])
		}
		all := slices.Collect(a.All())
		assert.Equal(t, len(all), len(am))
		assert.Equal(t, a.Len(), len(am))
		assert.Equal(t, a.Empty(), len(am) == 0)
		assert.Check(t, slices.IsSorted(all))
	}
}

// TestSetsOfDifferentLength: sets made before a host came are shorter.
func TestSetsOfDifferentLength(t *testing.T) {
	long, short := NewSet(200), NewSet(64)
	long.Add(10)
	long.Add(150)
	short.Add(10)
	assert.Check(t, !short.Has(150))
	short.Remove(150)
	kept := long.Clone()
	kept.Keep(short)
	assert.DeepEqual(t, slices.Collect(kept.All()), []int{10})
	dropped := long.Clone()
	dropped.Drop(short)
	assert.DeepEqual(t, slices.Collect(dropped.All()), []int{150})
}

// TestTally counts on few hosts and on many, where it keeps a set as well.
func TestTally(t *testing.T) {
	for _, hosts := range []int{3, wideTally, wideTally + 1, 500} {
		var tally Tally
		for slot := range hosts {
			assert.Check(t, tally.change(int32(slot), 1))
			assert.Check(t, tally.change(int32(slot), 1))
			tally.change(int32(slot), -1)
		}
		assert.Equal(t, tally.Hosts(), hosts)
		assert.Equal(t, tally.On(2), 1)
		set := NewSet(500)
		tally.AddTo(set)
		assert.Equal(t, set.Len(), hosts)
		tally.change(2, -1)
		set = NewSet(500)
		tally.AddTo(set)
		assert.Check(t, !set.Has(2))
		assert.Equal(t, set.Len(), hosts-1)
		rest := NewSet(500)
		rest.Add(1)
		rest.Add(2)
		tally.RemoveFrom(rest)
		assert.DeepEqual(t, slices.Collect(rest.All()), []int{2})
		left := true
		for slot := range hosts {
			if slot != 2 {
				left = tally.change(int32(slot), -1)
			}
		}
		assert.Check(t, !left)
	}
}
