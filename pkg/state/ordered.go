package state

import (
	"iter"
	"slices"
	"sort"
)

// blockMax is how many elements a block of an ordered set holds: an insertion moves at most 4 KiB of pointers, and
// 50,000 elements are some 150 blocks.
const blockMax = 512

// ordered is a sorted set, cheap to change anywhere and to walk in order: a list of sorted blocks.
type ordered[T comparable] struct {
	cmp    func(a, b T) int
	blocks [][]T
	size   int
}

// find returns the place of x: its block, its index there, and whether it is in the set.
func (o *ordered[T]) find(x T) (block, at int, found bool) {
	block = sort.Search(len(o.blocks), func(i int) bool {
		b := o.blocks[i]
		return o.cmp(b[len(b)-1], x) >= 0
	})
	if block == len(o.blocks) {
		return block, 0, false
	}
	at, found = slices.BinarySearchFunc(o.blocks[block], x, o.cmp)
	return block, at, found
}

// put inserts x or replaces its equal.
func (o *ordered[T]) put(x T) {
	block, at, found := o.find(x)
	if found {
		o.blocks[block][at] = x
		return
	}
	o.size++
	if block == len(o.blocks) {
		if block == 0 {
			o.blocks = append(o.blocks, []T{x})
			return
		}
		block--
		at = len(o.blocks[block])
	}
	b := slices.Insert(o.blocks[block], at, x)
	o.blocks[block] = b
	if len(b) > blockMax {
		half := len(b) / 2
		o.blocks[block] = slices.Clip(b[:half])
		o.blocks = slices.Insert(o.blocks, block+1, slices.Clone(b[half:]))
	}
}

// remove takes x out, if it is there itself and not another that is its equal.
func (o *ordered[T]) remove(x T) {
	block, at, found := o.find(x)
	if !found || o.blocks[block][at] != x {
		return
	}
	o.size--
	o.blocks[block] = slices.Delete(o.blocks[block], at, at+1)
	if len(o.blocks[block]) == 0 {
		o.blocks = slices.Delete(o.blocks, block, block+1)
	}
}

// list copies the set, in order.
func (o *ordered[T]) list() []T { return o.appendTo(make([]T, 0, o.size)) }

// appendTo appends the set to dst, in order.
func (o *ordered[T]) appendTo(dst []T) []T {
	dst = slices.Grow(dst, o.size)
	for _, b := range o.blocks {
		dst = append(dst, b...)
	}
	return dst
}

// from walks in order from the first element for which reached is true; reached must be false before it and true
// from there on.
func (o *ordered[T]) from(reached func(T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		first := sort.Search(len(o.blocks), func(i int) bool {
			b := o.blocks[i]
			return reached(b[len(b)-1])
		})
		for i := first; i < len(o.blocks); i++ {
			b, at := o.blocks[i], 0
			if i == first {
				at = sort.Search(len(b), func(j int) bool { return reached(b[j]) })
			}
			for _, x := range b[at:] {
				if !yield(x) {
					return
				}
			}
		}
	}
}
