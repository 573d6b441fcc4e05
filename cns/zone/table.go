package zone

import (
	"hash/maphash"
	"maps"
	"slices"

	"github.com/nereid-paas/nereid/cns/record"
)

// shardCount divides the names: a change copies the shards it touches, some hundred names each in a set of 100,000, and
// the array of all shards, 8 KiB.
const shardCount = 1024

// table finds names. It never changes; an edit makes the next one, which shares what did not change.
type table struct {
	shards [shardCount]map[string]*node
}

// node is one name: its records, and how many names with records there are below it. It never changes.
type node struct {
	records []counted
	below   int
}

// counted is a record and how many have added it.
type counted struct {
	record.Record
	count int
}

// seed makes the shards of all tables of a process alike.
var seed = maphash.MakeSeed()

func shardOf(name string) int { return int(maphash.String(seed, name) % shardCount) }

func (t *table) get(name string) *node { return t.shards[shardOf(name)][name] }

func (t *table) each(visit func(string, *node)) {
	for _, shard := range t.shards {
		for name, n := range shard {
			visit(name, n)
		}
	}
}

// tableEdit makes the next table of another.
type tableEdit struct {
	next   *table
	copied map[int]bool // shards that are the edit's own
}

func (t *table) edit() *tableEdit {
	next := *t
	return &tableEdit{next: &next, copied: map[int]bool{}}
}

func (e *tableEdit) done() *table { return e.next }

// set stores a node, or forgets it when nothing is left of it.
func (e *tableEdit) set(name string, n node) {
	i := shardOf(name)
	if !e.copied[i] {
		e.copied[i] = true
		if e.next.shards[i] == nil {
			e.next.shards[i] = map[string]*node{}
		} else {
			e.next.shards[i] = maps.Clone(e.next.shards[i])
		}
	}
	if len(n.records) == 0 && n.below == 0 {
		delete(e.next.shards[i], name)
		return
	}
	e.next.shards[i][name] = &n
}

func (e *tableEdit) node(name string) node {
	if n := e.next.get(name); n != nil {
		return *n
	}
	return node{}
}

// add enters a record and tells whether its name had none.
func (e *tableEdit) add(r record.Record) (first bool) {
	n := e.node(r.Name)
	first = len(n.records) == 0
	n.records = slices.Clone(n.records)
	if i := n.index(r); i >= 0 {
		n.records[i].count++
	} else {
		n.records = append(n.records, counted{Record: r, count: 1})
	}
	e.set(r.Name, n)
	return first
}

// remove takes one addition of a record back and tells whether its name has none left.
func (e *tableEdit) remove(r record.Record) (last bool) {
	n := e.node(r.Name)
	i := n.index(r)
	if i < 0 {
		return false
	}
	n.records = slices.Clone(n.records)
	if n.records[i].count--; n.records[i].count == 0 {
		n.records = slices.Delete(n.records, i, i+1)
	}
	e.set(r.Name, n)
	return len(n.records) == 0
}

func (n node) index(r record.Record) int {
	return slices.IndexFunc(n.records, func(c counted) bool { return c.Record == r })
}

// below counts the names below a name.
func (e *tableEdit) below(name string, by int) {
	n := e.node(name)
	n.below += by
	e.set(name, n)
}
