package snapshot

import (
	"strings"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// maxAnswers bounds the questions of an account whose answers are kept. A question is a label's key or a pattern of
// names; an application brings a handful, and one that was dropped costs a walk over the account's containers.
const maxAnswers = 64

// answers are the questions about an account's containers that were asked of late. The first time they cost a walk over
// the containers; from then on every one that comes or goes is counted.
type answers struct {
	asked    int              // questions so far: the clock by which they age
	labels   map[string]*lens // by key
	patterns map[string]*match
}

// lens counts containers by the value of one label.
type lens struct {
	used   int
	values map[string]*Tally
}

// match counts the containers whose name or id matches a pattern.
type match struct {
	used    int
	pattern Matcher
	tally   Tally
}

// tick is the time of a question. When there are too many, the one unused for longest is dropped first.
func (q *answers) tick() int {
	q.asked++
	if len(q.labels)+len(q.patterns) <= maxAnswers {
		return q.asked
	}
	oldest, drop := q.asked, func() {}
	for k, l := range q.labels {
		if l.used < oldest {
			oldest, drop = l.used, func() { delete(q.labels, k) }
		}
	}
	for k, m := range q.patterns {
		if m.used < oldest {
			oldest, drop = m.used, func() { delete(q.patterns, k) }
		}
	}
	drop()
	return q.asked
}

// count brings a container into the account's answers, or takes it out.
func (a *account) count(e *entry, by int32) {
	for key, l := range a.labels {
		if v, ok := e.Labels[key]; ok {
			l.count(v, e.slot, by)
		}
	}
	for _, m := range a.patterns {
		if m.wants(e) {
			m.tally.change(e.slot, by)
		}
	}
}

func (l *lens) count(value string, slot, by int32) {
	if !tally(l.values, value).change(slot, by) {
		delete(l.values, value)
	}
}

func (m *match) wants(e *entry) bool {
	return e.Name != "" && m.pattern.Match(e.Name) || m.pattern.Match(string(e.ID))
}

// Keys of affinities that mean something other than a label.
const (
	KeyContainer = "container"
	KeyImage     = "image"
)

// HostsNear are the hosts with something of an account that is wanted: a container by its name or id ("container"), the
// content of an image ("image"), or a container with a label. The set is the caller's.
func (s *Snapshot) HostsNear(of nereid.Account, key string, p Matcher) Set {
	out := NewSet(len(s.slots))
	if key == KeyImage {
		s.imagesWhere(of, p, out)
		return out
	}
	a := s.accounts[of]
	if a == nil {
		return out
	}
	if key == KeyContainer {
		a.containersWhere(p, out)
		return out
	}
	l := a.lensOf(key)
	if v, ok := p.Exact(); ok {
		l.values[v].AddTo(out)
		return out
	}
	for v, t := range l.values {
		if p.Match(v) {
			t.AddTo(out)
		}
	}
	return out
}

func (a *account) containersWhere(p Matcher, out Set) {
	v, exact := p.Exact()
	if !exact {
		a.matchOf(p).tally.AddTo(out)
		return
	}
	e := a.names[v]
	if e == nil {
		e = a.containers[nereid.ContainerID(v)]
	}
	switch {
	case e != nil:
		out.Add(int(e.slot))
	case len(v) == shortID && strings.Trim(v, "0123456789abcdef") == "":
		a.matchOf(prefix(v)).tally.AddTo(out)
	}
}

// shortID is the length of ids as people see them.
const shortID = 12

// prefix matches ids by their beginning.
type prefix string

// Exact implements Matcher.
func (p prefix) Exact() (string, bool) { return "", false }

// Match implements Matcher.
func (p prefix) Match(s string) bool { return strings.HasPrefix(s, string(p)) }

// String implements Matcher. No pattern is written like that.
func (p prefix) String() string { return string(p) + "\x00" }

// lensOf finds the counts of a label, or makes them.
func (a *account) lensOf(key string) *lens {
	l := a.labels[key]
	if l == nil {
		l = &lens{values: map[string]*Tally{}}
		for _, e := range a.containers {
			if v, ok := e.Labels[key]; ok {
				l.count(v, e.slot, 1)
			}
		}
		a.labels[key] = l
	}
	l.used = a.tick()
	return l
}

// matchOf finds the count of a pattern, or makes it.
func (a *account) matchOf(p Matcher) *match {
	text := p.String()
	m := a.patterns[text]
	if m == nil {
		m = &match{pattern: p}
		for _, e := range a.containers {
			if m.wants(e) {
				m.tally.change(e.slot, 1)
			}
		}
		a.patterns[text] = m
	}
	m.used = a.tick()
	return m
}
