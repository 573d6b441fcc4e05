package scheduler_test

import (
	"fmt"
	"testing"

	"github.com/nereid-paas/nereid/integration/allocs"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/scheduler"
	"github.com/nereid-paas/nereid/scheduler/expr"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

func TestAllocations(t *testing.T) {
	s := snapshot.New()
	for i := range 100 {
		s.PutHost(snapshot.Host{
			Name: nereid.Host(fmt.Sprintf("h%d", i)), Labels: map[string]string{"disk": []string{"ssd", "hdd"}[i%2]},
			Capacity: snapshot.Resources{Memory: 256 << 30, CPUs: 64e9}, OvercommitMemory: 1, OvercommitCPUs: 1,
		})
	}
	place := func(constraints ...string) func() {
		r := &snapshot.Request{Account: "admin", Resources: snapshot.Resources{Memory: 512 << 20, CPUs: 1e8}}
		for _, c := range constraints {
			r.Constraints = append(r.Constraints, must(expr.Parse(c)))
		}
		return func() { scheduler.Place(s, r, 1) }
	}
	allocs.Check(t,
		allocs.Path{Name: "placement among 100 hosts", Do: place()},
		allocs.Path{Name: "placement with a constraint", Do: place("disk==ssd")},
		allocs.Path{Name: "placement that nothing fits", Do: place("disk==tape")},
	)
}
