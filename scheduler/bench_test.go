package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/scheduler"
	"github.com/nereid-paas/nereid/scheduler/expr"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// The fleet of the benchmarks: 10,000 hosts of 100 racks, half full with 1,000,000 containers of 1,000 accounts, each with
// 100 services of ten.
const (
	benchHosts      = 10_000
	benchContainers = 1_000_000
	benchAccounts   = 1_000
)

var benchFleet = sync.OnceValue(func() *snapshot.Snapshot { return fleetOf(benchHosts, benchContainers) })

func fleetOf(hosts, containers int) *snapshot.Snapshot {
	s := snapshot.New()
	for i := range hosts {
		s.PutHost(snapshot.Host{
			Name:     nereid.Host(fmt.Sprintf("h%05d", i)),
			Labels:   map[string]string{"rack": fmt.Sprintf("r%03d", i/100), "disk": []string{"ssd", "hdd"}[i%2], "zone": fmt.Sprintf("z%d", i%3)},
			Platform: "linux/amd64", Capacity: snapshot.Resources{Memory: 256 << 30, CPUs: 64e9}, OvercommitMemory: 1, OvercommitCPUs: 1,
		})
	}
	for i := range 100 {
		at := nereid.Host(fmt.Sprintf("h%05d", i*7%hosts))
		s.PutImage(snapshot.Image{Account: benchAccount(0), ID: nereid.ImageID(fmt.Sprintf("sha256:%d", i)), Names: []string{fmt.Sprintf("app%d", i)}, Hosts: []nereid.Host{at}})
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	tiers := []map[string]string{{"tier": "front"}, {"tier": "back"}, {"tier": "db"}}
	for i := range containers {
		s.PutContainer(snapshot.Container{
			Account: benchAccount(i), ID: nereid.ContainerID(fmt.Sprintf("%064x", i)), Host: nereid.Host(fmt.Sprintf("h%05d", rnd.IntN(hosts))),
			Name: fmt.Sprintf("app%d-web-%d", i/benchAccounts%100, i/benchAccounts/100), Service: fmt.Sprintf("app%d/web", i/benchAccounts%100),
			Labels: tiers[i%3], Resources: snapshot.Resources{Memory: int64(rnd.IntN(2<<30) + 1<<28), CPUs: int64(rnd.IntN(1e9))}, Holds: i%50 != 0,
		})
	}
	return s
}

func benchAccount(i int) nereid.Account { return nereid.Account(fmt.Sprintf("a%d", i%benchAccounts)) }

// BenchmarkPlace places containers one after the other: each is entered before the next is placed, and taken out again
// when some thousands are in, so that the fleet stays as it was.
func BenchmarkPlace(b *testing.B) {
	list := func(texts ...string) []*expr.Expr {
		var l []*expr.Expr
		for _, t := range texts {
			l = append(l, must(expr.Parse(t)))
		}
		return l
	}
	for _, c := range []struct {
		name string
		r    snapshot.Request
	}{
		{"spread", snapshot.Request{}},
		{"binpack", snapshot.Request{Strategy: snapshot.Binpack}},
		{"byrack", snapshot.Request{Spread: snapshot.ByRack}},
		{"constraint", snapshot.Request{Constraints: list("disk==ssd", "zone!=z1", "rack==r0*")}},
		{"affinity", snapshot.Request{Affinities: list("container==app7-web-3")}},
		{"antiaffinity", snapshot.Request{Affinities: list("container!=app7-web-*")}},
		{"labels", snapshot.Request{Affinities: list("tier==front", "tier!=~db", "image==~app*")}},
		{"mixed", snapshot.Request{Platform: "linux/amd64", Constraints: list("disk==ssd"), Affinities: list("container!=/^app7-web-[0-9]+$/", "tier==~front")}},
		{"nofit", snapshot.Request{Resources: snapshot.Resources{Memory: 300 << 30}}},
	} {
		b.Run(c.name, func(b *testing.B) { benchPlace(b, benchFleet(), c.r) })
	}
}

// BenchmarkPlaceByHosts places beside containers of a label where there are some, in fleets of more and more hosts with a
// hundred containers each. Every account has placed one before, which looks at all its containers.
func BenchmarkPlaceByHosts(b *testing.B) {
	for _, hosts := range []int{10, 100, 1_000, 10_000} {
		b.Run(fmt.Sprint(hosts), func(b *testing.B) {
			s, r := fleetOf(hosts, hosts*100), snapshot.Request{Affinities: []*expr.Expr{must(expr.Parse("tier==~front"))}}
			for i := range benchAccounts {
				before := r
				before.Account = benchAccount(i)
				scheduler.Place(s, &before, uint64(i))
			}
			benchPlace(b, s, r)
		})
	}
}

func benchPlace(b *testing.B, s *snapshot.Snapshot, r snapshot.Request) {
	b.Helper()
	if r.Memory == 0 {
		r.Resources = snapshot.Resources{Memory: 512 << 20, CPUs: 1e8}
	}
	r.Service, r.Image = "app7/web", "sha256:7"
	var placed []snapshot.Container
	drop := func() {
		for _, c := range placed {
			s.RemoveContainer(c.Account, c.ID)
		}
		placed = placed[:0]
	}
	defer drop()
	took := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Account = benchAccount(i)
		begin := time.Now() //nolint:forbidigo // what is measured is time
		d := scheduler.Place(s, &r, uint64(i))
		if d.Host != "" {
			c := snapshot.Container{Account: r.Account, ID: nereid.ContainerID(fmt.Sprintf("new%061x", i)), Host: d.Host, Service: r.Service, Resources: r.Resources, Holds: true}
			s.PutContainer(c)
			placed = append(placed, c)
		}
		took = append(took, time.Since(begin))
		if len(placed) == 5000 {
			drop()
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "placements/s")
}
