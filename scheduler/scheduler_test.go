package scheduler_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/scheduler"
	"github.com/nereid-paas/nereid/scheduler/expr"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// model is a fleet kept in the simplest way, to compare with a snapshot kept up to date step by step.
type model struct {
	hosts      map[nereid.Host]snapshot.Host
	health     map[nereid.Host]snapshot.Health
	containers map[nereid.ContainerID]snapshot.Container
	images     map[nereid.ImageID]snapshot.Image
}

// built is a snapshot made of the model at once.
func (m *model) built() *snapshot.Snapshot {
	s := snapshot.New()
	for _, name := range slices.Sorted(maps.Keys(m.hosts)) {
		s.PutHost(m.hosts[name])
		s.SetHealth(name, m.health[name])
	}
	for _, id := range slices.Sorted(maps.Keys(m.containers)) {
		s.PutContainer(m.containers[id])
	}
	for _, i := range m.images {
		s.PutImage(i)
	}
	return s
}

// step makes one random change to both.
func (m *model) step(rnd *rand.Rand, s *snapshot.Snapshot) {
	host := func() nereid.Host { return nereid.Host(fmt.Sprintf("h%d", rnd.IntN(9))) }
	id := nereid.ContainerID(fmt.Sprintf("%064x", rnd.IntN(60)))
	switch n := rnd.IntN(20); {
	case n < 3:
		h := randomHost(rnd, host())
		m.hosts[h.Name] = h
		s.PutHost(h)
		s.SetHealth(h.Name, m.health[h.Name])
	case n == 3:
		h := host()
		delete(m.hosts, h)
		delete(m.health, h)
		s.RemoveHost(h)
	case n == 4:
		h := host()
		if _, ok := m.hosts[h]; ok {
			m.health[h] = snapshot.Health(rnd.IntN(3))
			s.SetHealth(h, m.health[h])
		}
	case n == 5:
		i := snapshot.Image{Account: nereid.Admin, ID: "sha256:1", Names: []string{"app", "app:1"}, Hosts: []nereid.Host{host(), host()}}
		m.images[i.ID] = i
		s.PutImage(i)
	case n < 10:
		delete(m.containers, id)
		s.RemoveContainer(nereid.Admin, id)
	default:
		c := randomContainer(rnd, id, host())
		m.containers[id] = c
		s.PutContainer(c)
	}
}

func randomHost(rnd *rand.Rand, name nereid.Host) snapshot.Host {
	return snapshot.Host{
		Name: name, Platform: []string{"linux/amd64", "linux/arm64"}[rnd.IntN(2)], Cordoned: rnd.IntN(8) == 0,
		Labels:           map[string]string{"rack": fmt.Sprintf("r%d", rnd.IntN(3)), "disk": []string{"ssd", "hdd"}[rnd.IntN(2)]},
		Capacity:         snapshot.Resources{Memory: 8 << 30, CPUs: 4e9},
		OvercommitMemory: float64(rnd.IntN(3)), OvercommitCPUs: float64(rnd.IntN(3)), MaxContainers: rnd.IntN(2) * 12,
	}
}

func randomContainer(rnd *rand.Rand, id nereid.ContainerID, on nereid.Host) snapshot.Container {
	return snapshot.Container{
		Account: nereid.Admin, ID: id, Host: on, Name: "c" + string(id[60:]), Service: fmt.Sprintf("s%d", rnd.IntN(3)),
		Labels: map[string]string{"tier": []string{"front", "back"}[rnd.IntN(2)]}, Holds: rnd.IntN(4) > 0,
		Resources: snapshot.Resources{Memory: int64(rnd.IntN(3)) << 30, CPUs: int64(rnd.IntN(3)) * 5e8},
		Ports:     []snapshot.Port{{Proto: "tcp", Port: uint16(80 + rnd.IntN(5))}}[:rnd.IntN(2)],
	}
}

func randomRequest(rnd *rand.Rand) *snapshot.Request {
	r := &snapshot.Request{
		Account: nereid.Admin, Service: fmt.Sprintf("s%d", rnd.IntN(3)), Strategy: snapshot.Strategy(rnd.IntN(3)), Spread: snapshot.SpreadBy(rnd.IntN(2)),
		Resources: snapshot.Resources{Memory: int64(rnd.IntN(5)) << 30, CPUs: int64(rnd.IntN(5)) * 1e9},
		Platform:  []string{"", "linux/amd64", "linux/riscv64"}[rnd.IntN(3)],
		Ports:     []snapshot.Port{{Proto: "tcp", Port: uint16(80 + rnd.IntN(5))}}[:rnd.IntN(2)],
		Image:     "sha256:1",
	}
	expressions := []string{"rack==r1", "rack!=r[0]", "disk==~ssd", "node!=h3", "node==/h[0-6]/", "rack!=~r*", "none==x"}
	near := []string{"container==c0001", "container!=c000*", "tier==front", "tier!=~b*", "image==app*", "container!=~/c00[0-2]/", "tier==x", "container==000000000000"}
	for range rnd.IntN(3) {
		r.Constraints = append(r.Constraints, must(expr.Parse(expressions[rnd.IntN(len(expressions))])))
		r.Affinities = append(r.Affinities, must(expr.Parse(near[rnd.IntN(len(near))])))
	}
	return r
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestKeptUpToDate: a snapshot that saw every change one by one decides as one made at once, whatever its caches hold.
func TestKeptUpToDate(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		m := &model{
			hosts: map[nereid.Host]snapshot.Host{}, health: map[nereid.Host]snapshot.Health{},
			containers: map[nereid.ContainerID]snapshot.Container{}, images: map[nereid.ImageID]snapshot.Image{},
		}
		s := snapshot.New()
		for range 400 {
			m.step(rnd, s)
			r := randomRequest(rnd)
			got, want := scheduler.Place(s, r, seed), scheduler.Place(m.built(), r, seed)
			// Hosts are named in the order of their slots, which is not the same.
			assert.Equal(t, got.Host, want.Host, "%s / %s", got.Reason(), want.Reason())
			assert.Equal(t, len(got.Refusals), len(want.Refusals))
			for i := range got.Refusals {
				assert.Equal(t, got.Refusals[i].Hosts, want.Refusals[i].Hosts, got.Refusals[i].Filter)
			}
		}
	}
}

// TestPlacedHostsTakeIt: what Place chooses passes Check, and when it chooses none no host does; every host is then
// counted once.
func TestPlacedHostsTakeIt(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	m := &model{
		hosts: map[nereid.Host]snapshot.Host{}, health: map[nereid.Host]snapshot.Health{},
		containers: map[nereid.ContainerID]snapshot.Container{}, images: map[nereid.ImageID]snapshot.Image{},
	}
	s := snapshot.New()
	placed := 0
	for range 5000 {
		m.step(rnd, s)
		r := randomRequest(rnd)
		d := scheduler.Place(s, r, rnd.Uint64())
		if d.Host != "" {
			placed++
			assert.Equal(t, scheduler.Check(s, r, d.Host), "")
			continue
		}
		counted := 0
		for _, f := range d.Refusals {
			counted += f.Hosts
		}
		assert.Equal(t, counted, s.Hosts(), d.Reason())
		for h := range m.hosts {
			assert.Check(t, scheduler.Check(s, r, h) != "", "%s takes it, yet: %s", h, d.Reason())
		}
	}
	assert.Check(t, placed > 500, "%d placed", placed)
}

func TestCheckOfAStranger(t *testing.T) {
	assert.Equal(t, scheduler.Check(snapshot.New(), &snapshot.Request{}, "h1"), "it is not in the fleet")
}

// TestLargeFleet: past the number of hosts that are compared, hosts from all over are chosen and nobody overcommitted.
func TestLargeFleet(t *testing.T) {
	s := snapshot.New()
	const hosts = 3000
	for i := range hosts {
		s.PutHost(snapshot.Host{
			Name: nereid.Host(fmt.Sprintf("h%04d", i)), Labels: map[string]string{"rack": fmt.Sprintf("r%02d", i/100)}, Platform: "linux/amd64",
			Capacity: snapshot.Resources{Memory: 2 << 30, CPUs: 4e9}, OvercommitMemory: 1, OvercommitCPUs: 1,
		})
	}
	r := &snapshot.Request{Account: nereid.Admin, Service: "web", Resources: snapshot.Resources{Memory: 1 << 30}}
	racks := map[string]int{}
	on := map[nereid.Host]int{}
	for i := range 2 * hosts {
		d := scheduler.Place(s, r, uint64(i))
		assert.Assert(t, d.Host != "", "%d: %s", i, d.Reason())
		slot, _ := s.Find(d.Host)
		if on[d.Host]++; i < 300 {
			racks[s.Host(slot).Labels["rack"]]++
		}
		if i == hosts-1 {
			assert.Equal(t, len(on), hosts, "one on each host first")
		}
		s.PutContainer(snapshot.Container{Account: nereid.Admin, ID: nereid.ContainerID(fmt.Sprint(i)), Host: d.Host, Service: "web", Resources: r.Resources, Holds: true})
	}
	assert.Equal(t, len(racks), 30)
	for rack, n := range racks {
		assert.Check(t, n == 10, "the first 300 are spread over racks: %s has %d", rack, n)
	}
	assert.Equal(t, scheduler.Place(s, r, 1).Host, nereid.Host(""))
}
