package zone

import (
	"slices"
	"sort"
	"strings"
)

// chunkSize is how many names a chunk of an order holds at most; half of it when it is made.
const chunkSize = 256

// order is a zone's names in the order of RFC 4034, section 6.1. It never changes; the next one shares the chunks that
// did not.
type order struct {
	chunks [][]string // none is empty
	n      int
}

// all visits the names in order.
func (o *order) all(yield func(string) bool) {
	for _, c := range o.chunks {
		for _, name := range c {
			if !yield(name) {
				return
			}
		}
	}
}

// find is where a name is, or where it would be inserted: a chunk and an index in it.
func (o *order) find(q []string) (chunk, at int, found bool) {
	chunk = sort.Search(len(o.chunks), func(i int) bool { return compare(o.chunks[i][0], q) > 0 }) - 1
	if chunk < 0 {
		return 0, 0, false
	}
	c := o.chunks[chunk]
	at = sort.Search(len(c), func(i int) bool { return compare(c[i], q) >= 0 })
	return chunk, at, at < len(c) && compare(c[at], q) == 0
}

// floor is the name itself or the one before where it would be.
func (o *order) floor(name string) (string, bool) {
	chunk, at, found := o.find(labels(name))
	switch {
	case found:
		return o.chunks[chunk][at], true
	case at > 0:
		return o.chunks[chunk][at-1], true
	}
	return "", false // before the first: the apex is always there, and nothing of the zone is before it
}

// before is the name before one that may or may not be there.
func (o *order) before(name string) (string, bool) {
	chunk, at, _ := o.find(labels(name))
	switch {
	case at > 0:
		return o.chunks[chunk][at-1], true
	case chunk > 0:
		return o.chunks[chunk-1][len(o.chunks[chunk-1])-1], true
	}
	return "", false
}

// after is the name after one that is there; the first after the last, for a chain of names is closed (RFC 4034,
// section 4.1.1).
func (o *order) after(name string) string {
	chunk, at, _ := o.find(labels(name))
	switch {
	case at+1 < len(o.chunks[chunk]):
		return o.chunks[chunk][at+1]
	case chunk+1 < len(o.chunks):
		return o.chunks[chunk+1][0]
	}
	return o.chunks[0][0]
}

// with is the order with some names more and some less.
func (o *order) with(add, remove []string) *order {
	if len(add)+len(remove) == 0 {
		return o
	}
	if len(add)+len(remove) > max(chunkSize, o.n/16) {
		return o.rebuilt(add, remove)
	}
	next := &order{chunks: slices.Clone(o.chunks), n: o.n}
	for _, name := range remove {
		next.remove(name)
	}
	for _, name := range add {
		next.insert(name)
	}
	return next
}

func (o *order) insert(name string) {
	if len(o.chunks) == 0 {
		o.chunks, o.n = [][]string{{name}}, 1
		return
	}
	chunk, at, found := o.find(labels(name))
	if found {
		return
	}
	o.n++
	c := slices.Insert(slices.Clone(o.chunks[chunk]), at, name)
	o.chunks[chunk] = c
	if len(c) > chunkSize {
		half := len(c) / 2
		o.chunks[chunk] = c[:half:half]
		o.chunks = slices.Insert(o.chunks, chunk+1, c[half:])
	}
}

func (o *order) remove(name string) {
	chunk, at, found := o.find(labels(name))
	if !found {
		return
	}
	o.n--
	c := slices.Delete(slices.Clone(o.chunks[chunk]), at, at+1)
	o.chunks[chunk] = c
	if len(c) == 0 {
		o.chunks = slices.Delete(o.chunks, chunk, chunk+1)
	}
}

// rebuilt is with for many names at once.
func (o *order) rebuilt(add, remove []string) *order {
	gone := make(map[string]bool, len(remove))
	for _, name := range remove {
		gone[name] = true
	}
	all := make([]string, 0, o.n+len(add))
	for name := range o.all {
		if !gone[name] {
			all = append(all, name)
		}
	}
	return ordered(append(all, add...))
}

// ordered makes an order of names.
func ordered(names []string) *order {
	type entry struct {
		labels []string
		name   string
	}
	entries := make([]entry, len(names))
	for i, name := range names {
		entries[i] = entry{labels(name), name}
	}
	slices.SortFunc(entries, func(a, b entry) int { return slices.Compare(a.labels, b.labels) })
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.name == b.name })
	o := &order{n: len(entries)}
	for chunk := range slices.Chunk(entries, chunkSize/2) {
		c := make([]string, len(chunk))
		for i, e := range chunk {
			c[i] = e.name
		}
		o.chunks = append(o.chunks, c)
	}
	return o
}

// labels are those of a name, the last one first, without their escapes.
func labels(name string) []string {
	if strings.Contains(name, `\`) {
		return escapedLabels(name)
	}
	all := strings.Split(strings.TrimSuffix(name, "."), ".")
	slices.Reverse(all)
	return all
}

// escapedLabels is labels for a name with \DDD or \X in it (RFC 1035, section 5.1): only questions have such.
func escapedLabels(name string) []string {
	all := []string{""}
	add := func(c byte) { all[len(all)-1] += string([]byte{c}) }
	for i := 0; i < len(name); i++ {
		switch {
		case name[i] == '.':
			all = append(all, "")
		case name[i] != '\\' || i+1 == len(name):
			add(name[i])
		case i+3 < len(name) && digits(name[i+1:i+4]):
			add((name[i+1]-'0')*100 + (name[i+2]-'0')*10 + name[i+3] - '0')
			i += 3
		default:
			i++
			add(name[i])
		}
	}
	all = all[:len(all)-1] // after the root's dot
	slices.Reverse(all)
	return all
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// compare orders a name of ours, which holds no escapes, and another, given as its labels.
func compare(name string, q []string) int {
	rest := strings.TrimSuffix(name, ".")
	for _, label := range q {
		if rest == "" {
			return -1
		}
		last := rest
		if i := strings.LastIndexByte(rest, '.'); i >= 0 {
			last, rest = rest[i+1:], rest[:i]
		} else {
			rest = ""
		}
		if c := strings.Compare(last, label); c != 0 {
			return c
		}
	}
	if rest != "" {
		return 1
	}
	return 0
}
