//go:build bench

package bench

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
)

// scale is how many containers run while run and ps are measured: SCALE, or 0 to 1,000.
func scale(t *testing.T) []int {
	t.Helper()
	asked := os.Getenv("SCALE")
	if asked == "" {
		return []int{0, 100, 500, 1000}
	}
	var all []int
	for s := range strings.SplitSeq(asked, ",") {
		n, err := strconv.Atoi(s)
		assert.NilError(t, err, "SCALE")
		all = append(all, n)
	}
	return all
}

// TestBenchPlots draws how things grow with what there is, into docs/plots.
func TestBenchPlots(t *testing.T) {
	t.Run("containers", plotContainers)
	t.Run("attach", func(t *testing.T) {
		c := &curve{file: "attach", title: "Attaching a container to a network", x: "containers on the network",
			y: "processor time, ms", series: []string{"nereid"}}
		c.ofBenchmarks(goBench(t, "./pkg/network", "^BenchmarkAttach$", "100x", "cpu-µs/op")[0], "", 1e-3)
		c.keep(t)
	})
	t.Run("names", func(t *testing.T) {
		c := &curve{file: "names", title: "A container's start or exit in the name service", x: "records in the zone",
			y: "processor time, ms", series: []string{"not signed", "signed"}, log: true}
		all := goBench(t, "./cns/publish", "^BenchmarkChange$", "100x", "cpu-µs/change")[0]
		c.ofBenchmarks(all, "/signed=false", 1e-3)
		signed := &curve{}
		signed.ofBenchmarks(all, "/signed=true", 1e-3)
		for i, p := range c.points {
			y := math.NaN()
			for _, s := range signed.points {
				if s.x == p.x {
					y = s.y[0]
				}
			}
			c.points[i].y = append(p.y, y)
		}
		c.keep(t)
	})
	t.Run("placement", func(t *testing.T) {
		c := &curve{file: "placement", title: "Placing a container, a hundred on each host", x: "hosts",
			y: "time, µs", series: []string{"mean", "p99"}, log: true}
		found := goBench(t, "./scheduler", "^BenchmarkPlaceByHosts$", "1s", "ns/op", "p99-ns")
		c.ofBenchmarks(found[0], "", 1e-3)
		slow := &curve{}
		slow.ofBenchmarks(found[1], "", 1e-3)
		for i := range c.points {
			c.points[i].y = append(c.points[i].y, slow.points[i].y[0])
		}
		c.keep(t)
	})
}

// ofBenchmarks adds a point for each benchmark whose name ends so, by the number before that.
func (c *curve) ofBenchmarks(found map[string]float64, suffix string, factor float64) {
	byNumber := map[int]float64{}
	for name, v := range found {
		name, ok := strings.CutSuffix(name, suffix)
		if n, err := strconv.Atoi(name[strings.LastIndexAny(name, "/=")+1:]); ok && err == nil {
			byNumber[n] = v * factor
		}
	}
	for _, n := range slices.Sorted(maps.Keys(byNumber)) {
		c.add(float64(n), byNumber[n])
	}
}

// plotContainers measures run and ps while more and more containers run, on nereid and on the Docker Engine.
func plotContainers(t *testing.T) {
	both := []engine{startNereid(t), startDocker(t)}
	names := []string{both[0].name, both[1].name}
	run := &curve{file: "run", title: "docker run --rm busybox true", x: "containers running", y: "time, ms", series: names}
	ps := &curve{file: "ps", title: "docker ps", x: "containers running", y: "time, ms", series: names}
	have := 0
	for _, n := range scale(t) {
		for _, e := range both {
			e.sleepers(t, have, n)
		}
		have = n
		run.add(float64(n), medians(t, both, "run", "--rm", "busybox", "true")...)
		ps.add(float64(n), medians(t, both, "ps", "-q")...)
	}
	run.keep(t)
	ps.keep(t)
	for _, e := range both {
		e.removeAll(t)
	}
}

// sleepers starts containers from one number to another, some at a time.
func (e engine) sleepers(t *testing.T, from, to int) {
	t.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				e.docker(t, "run", "-d", "--name", fmt.Sprint("sleeper", i), "busybox", "sleep", "100000")
			}
		})
	}
	for i := from; i < to; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
}

// removeAll removes what runs, a hundred at a time.
func (e engine) removeAll(t *testing.T) {
	t.Helper()
	for some := range slices.Chunk(strings.Fields(e.docker(t, "ps", "-aq")), 100) {
		e.docker(t, append([]string{"rm", "-f"}, some...)...)
	}
}
