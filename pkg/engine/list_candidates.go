package engine

import (
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// everyone has the lists of all containers that nobody looks at: of 50,000 one takes 400 KB, which would have to be
// collected, with all of the state looked at, after some hundred requests.
var everyone = sync.Pool{New: func() any { return new([]*state.Container) }}

// candidates are containers, newest first, among which are all that a filter shows: the fewest that an index has where
// one serves, else all of the account. What is asked for together narrows; of several values for one thing any will do.
// The list is the caller's until it is released.
func (l *containerList) candidates(f *listFilter) (list []*state.Container, release func()) {
	c := candidates{l: l}
	if f.ids != nil {
		anyOf(&c, maps.Keys(f.ids), func(id nereid.ContainerID) []*state.Container { return found(l.view.Container(l.account, id)) })
	}
	if whole := f.wholeNames(); len(whole) > 0 {
		anyOf(&c, slices.Values(whole), l.named)
	}
	if f.before == "" && f.since == "" { // those count among what id and name leave, whatever else is asked for
		c.byThings(f)
	}
	if !c.some {
		all := everyone.Get().(*[]*state.Container)
		*all = l.view.AppendContainers((*all)[:0], l.account)
		return *all, func() { everyone.Put(all) }
	}
	return c.fewest, func() {}
}

// candidates is the shortest list yet.
type candidates struct {
	l      *containerList
	fewest []*state.Container
	some   bool
}

func (c *candidates) offer(list []*state.Container) {
	if !c.some || len(list) < len(c.fewest) {
		c.fewest, c.some = list, true
	}
}

// anyOf offers what there is for all the values together.
func anyOf[T any](c *candidates, values iter.Seq[T], of func(T) []*state.Container) {
	var all []*state.Container
	for v := range values {
		all = append(all, of(v)...)
	}
	slices.SortFunc(all, state.NewestFirst)
	c.offer(slices.Compact(all))
}

func (c *candidates) byThings(f *listFilter) {
	l := c.l
	for _, w := range f.labels {
		switch {
		case w.valued && w.key == hostLabel:
			c.offer(l.onHost(w.value))
		case w.valued:
			c.offer(l.view.ContainersLabelled(l.account, w.key, w.value))
		}
	}
	if len(f.nodes) > 0 {
		anyOf(c, slices.Values(f.nodes), l.onHost)
	}
	if len(f.network) > 0 {
		anyOf(c, slices.Values(f.network), func(ref string) []*state.Container { return l.view.ContainersOfNetwork(l.account, ref) })
	}
	if f.byImage {
		anyOf(c, maps.Keys(f.images), func(id nereid.ImageID) []*state.Container { return l.view.ImageUsers(l.account, id) })
	}
}

// onHost are the account's containers on a host, newest first.
func (l *containerList) onHost(host string) []*state.Container {
	return slices.DeleteFunc(l.view.ContainersOn(nereid.Host(host)), func(r *state.Container) bool { return r.Account != l.account })
}

// named is the container of a name.
func (l *containerList) named(name string) []*state.Container {
	n, ok := l.view.Name(l.account, name)
	if !ok {
		return nil
	}
	return found(l.view.Container(l.account, n.Container))
}

func found(r *state.Container, ok bool) []*state.Container {
	if !ok {
		return nil
	}
	return []*state.Container{r}
}
