package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

func TestMain(m *testing.M) {
	const probe = "github.com/hashicorp/memberlist.(*Memberlist).probeNode" // ends with its deadline, not with its list
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(probe), goleak.IgnoreAnyFunction(probe+".func3"))
}

// world is a fleet on a network in memory.
type world struct {
	net   *network
	hosts map[nereid.Host]*member
}

type member struct {
	*Gossip
	addr  string
	stop  func()
	count atomic.Int64 // containers it says it has
}

// part cuts hosts off from the rest; none mends it.
func (w *world) part(names ...nereid.Host) {
	var addrs []string
	for _, n := range names {
		addrs = append(addrs, w.hosts[n].addr)
	}
	w.net.part(addrs...)
}

func newWorld(t testing.TB, n int, loss float64) *world {
	t.Helper()
	w := &world{net: &network{loss: loss, side: map[string]int{}, wires: map[string]*wire{}}, hosts: map[nereid.Host]*member{}}
	seeds := map[nereid.Host]string{}
	for i := range n {
		name, end := nereid.Host(fmt.Sprintf("h%d", i)), w.net.wire()
		seeds[name] = end.addr
		m := &member{addr: end.addr}
		m.Gossip = New(Config{
			Host: name, Key: []byte("0123456789abcdef0123456789abcdef"), Log: zap.NewNop(), Transport: end,
			Capacity: func() Capacity { return Capacity{CPUs: 2, Containers: int(m.count.Load())} },
			Others:   func() map[nereid.Host]string { return seeds },
		})
		w.hosts[name] = m
	}
	for _, m := range w.hosts {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		m.stop = sync.OnceFunc(func() { cancel(); assert.Check(t, <-done) })
	}
	t.Cleanup(w.stop)
	return w
}

// stop ends all hosts. It may be called twice.
func (w *world) stop() {
	var all sync.WaitGroup
	for _, m := range w.hosts {
		all.Go(m.stop)
	}
	all.Wait()
}

// await polls until all hosts see what is wanted of every other, and returns how long that took.
func (w *world) await(t testing.TB, what string, cond func(self, other nereid.Host) bool) time.Duration {
	t.Helper()
	began := time.Now()
	defer func() { t.Logf("%s: %v", what, time.Since(began)) }()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		for self := range w.hosts {
			for other := range w.hosts {
				if self != other && !cond(self, other) {
					return poll.Continue("%s: %s does not see %s so", what, self, other)
				}
			}
		}
		return poll.Success()
	}, poll.WithTimeout(60*time.Second), poll.WithDelay(20*time.Millisecond))
	return time.Since(began)
}

func (w *world) sees(self, other nereid.Host, want nereid.HostState) bool {
	s, ok := w.hosts[self].State(other)
	return ok && s == want
}

func TestAFleetGossipsOverABadNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8, 0.1)
	w.await(t, "all are there", func(a, b nereid.Host) bool { return w.sees(a, b, nereid.HostAlive) })
	for h, m := range w.hosts {
		n, _ := strconv.Atoi(strings.TrimPrefix(string(h), "h"))
		m.count.Store(int64(100 + n))
	}
	w.await(t, "how full all are", func(a, b nereid.Host) bool {
		n, _ := strconv.Atoi(strings.TrimPrefix(string(b), "h"))
		return w.hosts[a].Capacities()[b].Containers == 100+n
	})

	// Two hosts are cut off: each side finds the other unreachable, and nobody of its own.
	lost := w.hosts["h3"].Gone("h7")
	w.part("h6", "h7")
	apart := func(h nereid.Host) bool { return h == "h6" || h == "h7" }
	w.await(t, "two halves", func(a, b nereid.Host) bool {
		if apart(a) != apart(b) {
			return w.sees(a, b, nereid.HostUnreachable)
		}
		return w.sees(a, b, nereid.HostAlive)
	})
	<-lost
	_, told := w.hosts["h3"].Capacities()["h7"]
	assert.Assert(t, !told, "nobody counts on what an unreachable host said")

	w.part()
	w.await(t, "one fleet again", func(a, b nereid.Host) bool { return w.sees(a, b, nereid.HostAlive) })
	select {
	case <-w.hosts["h3"].Gone("h7"):
		t.Error("a host that is back is gone")
	default:
	}

	// One says farewell.
	gone := w.hosts["h2"].Gone("h5")
	w.hosts["h5"].stop()
	<-gone
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if w.sees("h2", "h5", nereid.HostLeft) {
			return poll.Success()
		}
		return poll.Continue("not left yet")
	}, poll.WithTimeout(30*time.Second))
}

func TestAStrangersKeyIsNotHeard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 0)
	tr := w.net.wire()
	s := New(Config{
		Host: "stranger", Key: []byte("another key of 32 bytes exactly!"), Log: zap.NewNop(), Transport: tr,
		Others: func() map[nereid.Host]string { return map[nereid.Host]string{"h0": w.hosts["h0"].addr} },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.await(t, "the fleet is there", func(a, b nereid.Host) bool { return w.sees(a, b, nereid.HostAlive) })
	_, known := w.hosts["h0"].State("stranger")
	assert.Assert(t, !known)
	_, known = s.State("h0")
	assert.Assert(t, !known)
	cancel()
	assert.NilError(t, <-done)
}

func TestAMessageOfManyLabelsLeavesThemOut(t *testing.T) {
	c := Capacity{Version: 1, Host: "h1", CPUs: 2, Labels: map[string]string{"a": strings.Repeat("x", 2000)}}
	assert.Assert(t, len(c.encode()) < maxCapacity)
	c.Labels = map[string]string{"a": "b"}
	assert.Assert(t, strings.Contains(string(c.encode()), `"a":"b"`))
}

// TestConvergence measures, over the network in memory and on a clock that stands still while anybody computes, how long
// a fleet takes until everybody knows everybody, until a change of one host is known to all, and until a host that died
// is unreachable for all. The figures are those of the gossip, whatever the machine. NEREID_CONVERGENCE is numbers of
// hosts to measure beside the ten that are promised something: 100,1000; the last takes half an hour.
func TestConvergence(t *testing.T) {
	t.Run("10", func(t *testing.T) {
		var deaths []time.Duration
		for range 5 {
			synctest.Test(t, func(t *testing.T) {
				met, change, death := converge(t, 10)
				assert.Check(t, met <= 2*time.Second, "all know all after %v", met)
				assert.Check(t, change <= 3*time.Second, "a change is known after %v", change)
				deaths = append(deaths, death)
			})
		}
		slices.Sort(deaths)
		assert.Check(t, deaths[2] <= 3*time.Second, "deaths are known after %v", deaths) // one in a hundred takes longer
		assert.Check(t, deaths[4] <= 6*time.Second, "a death is known after %v", deaths[4])
	})
	for size := range strings.SplitSeq(os.Getenv("NEREID_CONVERGENCE"), ",") {
		if size == "" || size == "10" {
			continue
		}
		n, err := strconv.Atoi(size)
		assert.NilError(t, err)
		t.Run(size, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { converge(t, n) }) })
	}
}

func converge(t *testing.T, n int) (met, change, death time.Duration) {
	t.Helper()
	w := newWorld(t, n, 0)
	met = w.await(t, "all know all", func(x, y nereid.Host) bool { return w.sees(x, y, nereid.HostAlive) })
	<-time.After(time.Duration(rand.IntN(int(tellEvery)))) // it happens at any moment
	w.hosts["h5"].count.Store(7)
	change = w.await(t, "the change", func(x, y nereid.Host) bool { return y != "h5" || w.hosts[x].Capacities()[y].Containers == 7 })
	<-time.After(time.Duration(rand.IntN(int(tellEvery))))
	w.part("h5")
	death = w.await(t, "the death", func(x, y nereid.Host) bool {
		return x == "h5" || y != "h5" || w.sees(x, y, nereid.HostUnreachable)
	})
	w.stop()
	<-time.After(time.Minute) // no time passes for what memberlist leaves running once the test has returned
	return met, change, death
}
