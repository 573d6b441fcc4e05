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
	// hidden are those of hosts that cannot be reached. They count when there are no others.
	hidden []counted
	below  int
	signed *signed
}

// counted is a record and how many have added it.
type counted struct {
	record.Record
	count int
}

// unsure tells whether all that the name has is hidden.
func (n *node) unsure() bool { return len(n.records) == 0 && len(n.hidden) > 0 }

// present tells whether the name has records, hidden or not.
func (n *node) present() bool { return n != nil && len(n.records)+len(n.hidden) > 0 }

// appendTo appends the records that count: what secondaries get. A secondary cannot be unsure, so it keeps what it last
// had rather than say that the name is not there.
func (n *node) appendTo(all []record.Record) []record.Record {
	if n == nil {
		return all
	}
	from := n.records
	if len(from) == 0 {
		from = n.hidden
	}
	for _, c := range from {
		all = append(all, c.Record)
	}
	return all
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
	if !n.present() && n.below == 0 {
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

// change edits one of a name's two lists and keeps count in the names above.
func (e *tableEdit) change(name string, list func(*node) *[]counted, edit func([]counted) []counted) {
	n := e.node(name)
	before := n.present()
	l := list(&n)
	*l = edit(slices.Clone(*l))
	e.set(name, n)
	if now := n.present(); now != before {
		by := 1
		if before {
			by = -1
		}
		for above := parent(name); above != "."; above = parent(above) {
			a := e.node(above)
			a.below += by
			e.set(above, a)
		}
	}
}

func shown(n *node) *[]counted { return &n.records }

func veiled(n *node) *[]counted { return &n.hidden }

// added is a list with a record once more.
func added(r record.Record) func([]counted) []counted {
	return func(list []counted) []counted {
		if i := index(list, r); i >= 0 {
			list[i].count++
			return list
		}
		return append(list, counted{Record: r, count: 1})
	}
}

// removed is a list with a record once less.
func removed(r record.Record) func([]counted) []counted {
	return func(list []counted) []counted {
		i := index(list, r)
		if i < 0 {
			return list
		}
		if list[i].count--; list[i].count == 0 {
			list = slices.Delete(list, i, i+1)
		}
		return list
	}
}

func index(list []counted, r record.Record) int {
	return slices.IndexFunc(list, func(c counted) bool { return c.Record == r })
}
