// Package filter rules out the hosts that cannot run a container. One file per filter; each says, for the hosts it
// ruled out, why, and what would make them fit.
package filter

import (
	"fmt"
	"strings"

	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// Filter is one reason why a host will not do, for one request.
type Filter interface {
	// Name of the filter, as it is counted.
	Name() string
	// Why tells people of the hosts ruled out: how many of all they are, and what would make them fit. With OneAsked
	// for all it speaks of the one host that is ruled out.
	Why(s *snapshot.Snapshot, out snapshot.Set, all int) string
}

// OneAsked stands for the number of hosts where one is asked by itself.
const OneAsked = 0

// Cutter is a filter that rules out many hosts at once, by the snapshot's indexes.
type Cutter interface {
	Filter
	// Cut takes the hosts that will not do out of the set.
	Cut(s *snapshot.Snapshot, in snapshot.Set)
}

// Checker is a filter that must look at each host: at what changes with every container.
type Checker interface {
	Filter
	Fits(s *snapshot.Snapshot, slot int) bool
}

// Cutters for a request, in the order in which they are to be applied: a host is counted by the first that rules it
// out, so those that nobody can help stand first.
func Cutters(r *snapshot.Request) []Cutter {
	list := make([]Cutter, 0, 4+len(r.Pins)+len(r.Constraints)+len(r.Affinities))
	list = append(list, alive{}, open{})
	if len(r.Refused) > 0 {
		list = append(list, refused{r.Refused})
	}
	if r.Platform != "" {
		list = append(list, platform{r.Platform})
	}
	for _, p := range r.Pins {
		list = append(list, pinned(p))
	}
	for _, e := range r.Constraints {
		if !e.Soft {
			list = append(list, Constraint{e})
		}
	}
	for _, e := range r.Affinities {
		if !e.Soft {
			list = append(list, Affinity{r.Account, e})
		}
	}
	return list
}

// Checkers for a request and a snapshot, in the order in which they are to be applied.
func Checkers(s *snapshot.Snapshot, r *snapshot.Request) []Checker {
	list := make([]Checker, 0, 4)
	if len(r.Ports) > 0 {
		list = append(list, ports{r.Ports})
	}
	list = append(list, places{})
	if !limited(s) {
		return list
	}
	if r.Memory > 0 {
		list = append(list, memory{r.Memory})
	}
	if r.CPUs > 0 {
		list = append(list, cpus{r.CPUs})
	}
	return list
}

// of words "1 of 5 hosts lacks memory" and "2 of 5 hosts lack memory", and of one host that is asked "it lacks memory".
func of(n, all int, one, many string) string {
	if all == OneAsked {
		return "it " + one
	}
	hosts, verb := "hosts", many
	if all == 1 {
		hosts = "host"
	}
	if n == 1 {
		verb = one
	}
	return fmt.Sprintf("%d of %d %s %s", n, all, hosts, verb)
}

// maxNamed bounds how many hosts an error names: past a few nobody reads them.
const maxNamed = 3

// named lists hosts by name, the first few.
func named(s *snapshot.Snapshot, hosts snapshot.Set) string {
	var names []string
	for slot := range hosts.All() {
		if len(names) == maxNamed {
			names = append(names, "...")
			break
		}
		names = append(names, string(s.Host(slot).Name))
	}
	return strings.Join(names, ", ")
}
