package state

// table holds one kind's records: by identity, and in the groupings made over it. Reading and changing it needs the
// view's lock.
type table[K comparable, R held] struct {
	id        func(R) K
	byID      map[K]R
	groupings []subset[R]
}

type subset[R held] interface {
	put(R)
	remove(R)
}

// held is a record as the view holds it: by its pointer.
type held interface {
	comparable
	Record
}

// indexer is a table whatever its kind. A record that takes another's place is added before that one is dropped: it
// takes its places in the groupings, too, and most of those stay as they are.
type indexer interface {
	add(Record)
	drop(Record)
}

func newTable[K comparable, R held](id func(R) K) *table[K, R] {
	return &table[K, R]{id: id, byID: map[K]R{}}
}

// add enters a record everywhere it can be found.
func (t *table[K, R]) add(rec Record) {
	r := rec.(R)
	t.byID[t.id(r)] = r
	for _, g := range t.groupings {
		g.put(r)
	}
}

// drop takes a record out wherever no other has taken its place.
func (t *table[K, R]) drop(rec Record) {
	r := rec.(R)
	if id := t.id(r); t.byID[id] == r {
		delete(t.byID, id)
	}
	for _, g := range t.groupings {
		g.remove(r)
	}
}

// grouping is ordered sets of records by something they share; a record may be in several or none.
type grouping[G comparable, R held] struct {
	each func(r R, in func(G)) // calls in for each group of r, and twice for none
	cmp  func(a, b R) int      // by what a change of a record leaves alone, and never equal for two records
	sets map[G]*ordered[R]
}

// groupBy makes a grouping over a table that has no records yet.
func groupBy[G, K comparable, R held](t *table[K, R], cmp func(a, b R) int, each func(r R, in func(G))) *grouping[G, R] {
	g := &grouping[G, R]{each: each, cmp: cmp, sets: map[G]*ordered[R]{}}
	t.groupings = append(t.groupings, g)
	return g
}

func (g *grouping[G, R]) put(r R) {
	g.each(r, func(group G) {
		set := g.sets[group]
		if set == nil {
			set = &ordered[R]{cmp: g.cmp}
			g.sets[group] = set
		}
		set.put(r)
	})
}

func (g *grouping[G, R]) remove(r R) {
	g.each(r, func(group G) {
		set := g.sets[group]
		if set == nil {
			return
		}
		if set.remove(r); set.size == 0 {
			delete(g.sets, group)
		}
	})
}

// size of a group.
func (g *grouping[G, R]) size(group G) int {
	if set := g.sets[group]; set != nil {
		return set.size
	}
	return 0
}

// list copies a group, in order.
func (g *grouping[G, R]) list(group G) []R {
	if set := g.sets[group]; set != nil {
		return set.list()
	}
	return nil
}

// upTo returns the first n records of a group for which reached is true, see ordered.from.
func (g *grouping[G, R]) upTo(n int, group G, reached, belongs func(R) bool) []R {
	set := g.sets[group]
	if set == nil {
		return nil
	}
	var out []R
	for r := range set.from(reached) {
		if len(out) == n || !belongs(r) {
			break
		}
		out = append(out, r)
	}
	return out
}
