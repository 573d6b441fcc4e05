package publish

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// ExplainContainer says what a container has in each zone and what it lacks, and why.
func (p *Publisher) ExplainContainer(c *state.Container) []nereid.CNSNames {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.builder.explain(c)
}

func (b *Builder) explain(c *state.Container) []nereid.CNSNames {
	var all []nereid.CNSNames
	for i, in := range instances(b.plans, c, b.surroundings(c)) {
		records, problems := record.Build(b.plans[i].Zone, in)
		n := nereid.CNSNames{Apex: b.plans[i].Apex, Container: c.Name + " " + c.ID.Short(), Records: []string{}, Lacks: []string{}}
		for _, r := range records {
			n.Records = append(n.Records, r.String())
		}
		for _, p := range problems {
			n.Lacks = append(n.Lacks, p.String())
		}
		if len(records) > 0 && b.unreachable(c.Host) {
			n.Lacks = append(n.Lacks, fmt.Sprintf("all: hidden, host %s cannot be reached", c.Host))
		}
		all = append(all, n)
	}
	return all
}

// ExplainName says how questions for a name are answered and which containers are behind that: those that have records
// at it, and those that would have if they ran and served.
func (p *Publisher) ExplainName(name string) nereid.CNSExplanation {
	p.mu.Lock()
	defer p.mu.Unlock()
	name = zone.Canonical(name)
	e := nereid.CNSExplanation{Name: name}
	set := p.builder.set
	z, ok := set.Zone(name)
	if !ok {
		e.Verdict, e.Reasons = "refused", []string{"it is in no zone of ours; nereid cns zone ls shows which there are"}
		return e
	}
	e.Verdict, e.Reasons = p.builder.answers(name, z)
	e.Zones = p.builder.behind(name)
	return e
}

// answers is how a name is answered, whatever the type asked for.
func (b *Builder) answers(name string, z *zone.Authority) (verdict string, reasons []string) {
	reasons = []string{fmt.Sprintf("zone %s, serial %d", z.Apex, z.Serial)}
	types := []record.Type{record.A, record.AAAA, record.SRV, record.TXT, record.PTR, record.CNAME, record.NS, record.SOA}
	var has []string
	var last zone.Verdict
	for _, t := range types {
		if last = b.set.Lookup(name, t).Verdict; last == zone.Answer {
			has = append(has, t.String())
		}
	}
	switch {
	case len(has) > 0:
		return "answered", append(reasons, "it has records of the types "+strings.Join(has, ", "))
	case last == zone.Unsure:
		return "SERVFAIL", append(reasons, "all who have the name are on hosts that cannot be reached")
	case last == zone.NoData:
		return "no data", append(reasons, "the name is only above others that have records")
	}
	return "NXDOMAIN", append(reasons, "nobody has the name, and nobody has one below it")
}

// behind are the containers that have a name or may come to have it.
func (b *Builder) behind(name string) []nereid.CNSNames {
	var all []nereid.CNSNames
	for _, n := range b.containers {
		c := n.container
		if c == nil || !b.concerns(c, name) {
			continue
		}
		for _, found := range b.explain(c) {
			if strings.HasSuffix(name, "."+found.Apex) || strings.HasSuffix(name, ".arpa.") {
				found.Records = slices.DeleteFunc(found.Records, func(r string) bool { return !strings.HasPrefix(r, name+" ") })
				all = append(all, found)
			}
		}
	}
	slices.SortFunc(all, func(a, b nereid.CNSNames) int { return strings.Compare(a.Container+a.Apex, b.Container+b.Apex) })
	return all
}

// concerns tells whether a container has a name or would have if it ran and served.
func (b *Builder) concerns(c *state.Container, name string) bool {
	for i, in := range instances(b.plans, c, b.surroundings(c)) {
		if records, _ := record.Build(b.plans[i].Zone, in); slices.ContainsFunc(records, func(r record.Record) bool { return r.Name == name }) {
			return true
		}
		if slices.Contains(record.Names(b.plans[i].Zone, in), name) {
			return true
		}
	}
	return false
}

// Reverse are the reverse zones that networks made, or operators added.
func (p *Publisher) Reverse(apex string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.builder.reverse[apex]
}
