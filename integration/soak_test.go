//go:build integration && soak

package integration

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

const (
	soakContainers = 50
	soakUsers      = 8 // requests in flight at once
	soakMetrics    = "127.0.0.1:9323"
	// soakEvents are kept at most, so that their number is reached at once and their memory stands still.
	soakEvents = "500"
	// soakGrowth bounds what may be live at the end over what is in the middle of the time, medians of a third each: what
	// is under way differs from sample to sample. soakHistory, in bytes, is what comes on top: the zones' histories, which by
	// the profiles of a quarter of an hour are all that grows, 0.2 MB a minute, and are full after half an hour.
	soakGrowth  = 1.05
	soakHistory = 3 << 20
	// soakRest bounds what may be live, in bytes, when all containers are gone, beside what was before the first. By its
	// profile that is the zones' history of up to 20,000 records each (4 MB), etcd's log and its index until it is compacted,
	// the events, and pools: 14 MB after half an hour.
	soakRest = 16 << 20
)

// TestSoak has several users do whatever comes to mind to fifty containers at once, for as long as SOAK says (30m),
// from a seed that SOAK_SEED repeats. Every request must have an answer, in time, of a status that is documented for
// it; and when all containers are removed, nothing may be left of them, and the memory must be what it was.
func TestSoak(t *testing.T) {
	h := lab.NewWithBusybox(t, "--metrics-listen", soakMetrics, "--keep-events", soakEvents)
	s := newSoak(t, h)
	execOnce(t, h)
	settled(t, h)
	before := s.inventory(t)
	rest := s.live(t)
	ctx, cancel := context.WithTimeout(t.Context(), s.length)
	defer cancel()
	var users sync.WaitGroup
	for n := range soakUsers {
		users.Go(func() { s.use(ctx, rand.New(rand.NewPCG(s.seed, uint64(n)))) })
	}
	heap := s.watch(ctx, t)
	users.Wait()
	s.report(t, heap)
	s.removeAll(t)
	eventually(t, 60*time.Second, func() error { return differ(before, s.inventory(t)) })
	eventually(t, 60*time.Second, func() error {
		if now := s.live(t); now > rest+soakRest {
			return fmt.Errorf("memory is not given back: %.1f MB before, %.1f MB after", rest/1e6, now/1e6)
		}
		return nil
	})
	t.Logf("live when all is gone: %.1f MB, before the first: %.1f MB", s.live(t)/1e6, rest/1e6)
}

// soak is one such test. The lock guards what the users count.
type soak struct {
	host   *lab.Host
	client *http.Client
	length time.Duration
	seed   uint64
	// archive is an image to load, again and again.
	archive  []byte
	profiles int // written so far

	mu      sync.Mutex
	answers map[string]map[int]int // verb → status → how often
	faults  []string
}

func newSoak(t *testing.T, h *lab.Host) *soak {
	t.Helper()
	s := &soak{host: h, client: h.Client(), length: 30 * time.Minute, seed: uint64(time.Now().UnixNano()), answers: map[string]map[int]int{}}
	if v := os.Getenv("SOAK"); v != "" {
		var err error
		s.length, err = time.ParseDuration(v)
		assert.NilError(t, err, "SOAK is a duration")
	}
	if v := os.Getenv("SOAK_SEED"); v != "" {
		var err error
		s.seed, err = strconv.ParseUint(v, 10, 64)
		assert.NilError(t, err, "SOAK_SEED is a number")
	}
	other := lab.FromFiles(t, []lab.File{{Name: "file", Mode: 0o644, Body: strings.Repeat("content ", 10_000)}})
	var err error
	s.archive, err = os.ReadFile(lab.Archive(t, "loaded:1", other))
	assert.NilError(t, err)
	t.Logf("%v, SOAK_SEED=%d", s.length, s.seed)
	return s
}

// verb is something a user does to a container. Its statuses are all that may come of it, whatever others do to the
// container meanwhile.
type verb struct {
	name     string
	weight   int
	method   string
	path     string // NAME stands for the container's
	body     func(*rand.Rand) any
	statuses []int
	abandon  bool // the user may hang up before the answer ends
}

// soakVerbs are those of a container's life. The two that may answer 500 do so as Docker does: restarting a container
// whose command is not there, or that is removed meanwhile, and unpausing one that is not paused.
func (s *soak) verbs() []verb {
	state := []int{204, 304, 404, 409}
	return []verb{
		{"create", 30, "POST", "/containers/create?name=NAME", soakConfig, []int{201, 409}, false},
		{"start", 30, "POST", "/containers/NAME/start", nil, state, false},
		{"stop", 6, "POST", "/containers/NAME/stop?t=0", nil, state, false},
		{"stop in time", 2, "POST", "/containers/NAME/stop?t=1", nil, state, false},
		{"restart", 6, "POST", "/containers/NAME/restart?t=0", nil, []int{204, 404, 500}, false},
		{"kill", 4, "POST", "/containers/NAME/kill", nil, state, false},
		{"signal", 4, "POST", "/containers/NAME/kill?signal=USR1", nil, state, false},
		{"pause", 4, "POST", "/containers/NAME/pause", nil, state, false},
		{"unpause", 6, "POST", "/containers/NAME/unpause", nil, []int{204, 404, 409, 500}, false},
		{"remove", 4, "DELETE", "/containers/NAME?v=1", nil, []int{204, 404, 409}, false},
		{"remove by force", 10, "DELETE", "/containers/NAME?v=1&force=1", nil, []int{204, 404, 409}, false},
		{"rename", 3, "POST", "/containers/NAME/rename?name=NAME2", nil, []int{204, 404, 409}, false},
		{"rename back", 3, "POST", "/containers/NAME2/rename?name=NAME", nil, []int{204, 404, 409}, false},
		{"remove the renamed", 3, "DELETE", "/containers/NAME2?v=1&force=1", nil, []int{204, 404, 409}, false},
		{"update", 4, "POST", "/containers/NAME/update", func(r *rand.Rand) any { return object{"CpuShares": 2 + r.IntN(1000)} }, []int{200, 404, 409}, false},
		{"inspect", 6, "GET", "/containers/NAME/json?size=1", nil, []int{200, 404}, false},
		{"list", 4, "GET", "/containers/json?all=1&size=1", nil, []int{200}, false},
		{"top", 4, "GET", "/containers/NAME/top", nil, []int{200, 404, 409}, false},
		{"stats", 4, "GET", "/containers/NAME/stats?stream=0&one-shot=1", nil, []int{200, 404, 409}, false},
		{"watch stats", 2, "GET", "/containers/NAME/stats", nil, []int{200, 404}, true},
		{"logs", 4, "GET", "/containers/NAME/logs?stdout=1&stderr=1&tail=10", nil, []int{200, 404, 409}, false},
		{"follow logs", 4, "GET", "/containers/NAME/logs?stdout=1&stderr=1&follow=1", nil, []int{200, 404, 409}, true},
		{"attach", 4, "POST", "/containers/NAME/attach?stream=1&stdout=1&stderr=1", nil, []int{200, 404, 409}, true},
		{"wait", 4, "POST", "/containers/NAME/wait", nil, []int{200, 404}, true},
		{"resize", 2, "POST", "/containers/NAME/resize?h=20&w=80", nil, []int{200, 404, 409}, false},
		{"changes", 2, "GET", "/containers/NAME/changes", nil, []int{200, 404, 409}, false},
		{"export", 1, "GET", "/containers/NAME/export", nil, []int{200, 404, 409}, true},
		{"copy in", 3, "PUT", "/containers/NAME/archive?path=/tmp", func(*rand.Rand) any { return soakTar() }, []int{200, 404, 409}, false},
		{"copy out", 3, "GET", "/containers/NAME/archive?path=/etc", nil, []int{200, 404, 409}, false},
		{"prune", 1, "POST", "/containers/prune", nil, []int{200, 409}, false}, // 409: one is running already
		{"prune volumes", 1, "POST", "/volumes/prune", nil, []int{200, 409}, false},
		{"tag", 3, "POST", "/images/busybox/tag?repo=soak&tag=NAME", nil, []int{201}, false},
		{"untag", 3, "DELETE", "/images/soak:NAME", nil, []int{200, 404, 409}, false},
		{"save", 1, "GET", "/images/busybox/get", nil, []int{200}, true},
		{"load", 2, "POST", "/images/load?quiet=1", func(*rand.Rand) any { return s.archive }, []int{200}, false},
		{"remove image", 2, "DELETE", "/images/loaded:1", nil, []int{200, 404, 409}, false},
		{"images", 2, "GET", "/images/json?all=1&shared-size=1&manifests=1", nil, []int{200}, false},
		{"prune images", 1, "POST", "/images/prune", nil, []int{200, 409}, false},
		{"disk usage", 1, "GET", "/system/df", nil, []int{200, 409}, false},
		{"events", 2, "GET", "/events?since=1", nil, []int{200}, true},
		{"bad name", 1, "POST", "/containers/create?name=a%2Fb", soakConfig, []int{400}, false},
		{"bad body", 1, "POST", "/containers/create?name=NAME", func(*rand.Rand) any { return "{" }, []int{400}, false},
	}
}

// soakConfig is a container that ends, fails, writes or lasts, with and without what has to be given back at its end.
func soakConfig(r *rand.Rand) any {
	c := object{"Image": "busybox", "Labels": object{"soak": "1"}, "Cmd": [][]string{
		{"sleep", "3600"}, {"true"}, {"false"}, {"sh", "-c", "while :; do echo tick; sleep 0.1; done"},
		{"sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"}, {"nosuch"}, {"sleep", "1"},
	}[r.IntN(7)]}
	hc := object{"NetworkMode": []string{"bridge", "bridge", "none"}[r.IntN(3)]}
	if r.IntN(3) == 0 {
		hc["PublishAllPorts"], c["ExposedPorts"] = true, object{"80/tcp": object{}}
	}
	if r.IntN(3) == 0 {
		c["Volumes"] = object{"/anonymous": object{}}
	}
	if r.IntN(6) == 0 {
		hc["Binds"] = []string{"shared:/shared"}
	}
	switch r.IntN(6) {
	case 0:
		hc["RestartPolicy"] = object{"Name": "on-failure", "MaximumRetryCount": 2}
	case 1:
		hc["RestartPolicy"] = object{"Name": "always"}
	case 2:
		hc["AutoRemove"] = true
	}
	c["Tty"] = r.IntN(5) == 0
	c["HostConfig"] = hc
	return c
}

func soakTar() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: 5})
	_, _ = w.Write([]byte("hello"))
	_ = w.Close()
	return b.Bytes()
}

// use is one user's time.
func (s *soak) use(ctx context.Context, r *rand.Rand) {
	verbs := s.verbs()
	total := 0
	for _, v := range verbs {
		total += v.weight
	}
	for ctx.Err() == nil {
		if r.IntN(10) == 0 {
			s.exec(r)
			continue
		}
		n := r.IntN(total)
		i := slices.IndexFunc(verbs, func(v verb) bool { n -= v.weight; return n < 0 })
		s.do(r, verbs[i])
	}
}

func soakName(r *rand.Rand) string { return fmt.Sprintf("soak%d", r.IntN(soakContainers)) }

func (s *soak) do(r *rand.Rand, v verb) {
	path := strings.ReplaceAll(v.path, "NAME", soakName(r))
	var body any
	if v.body != nil {
		body = v.body(r)
	}
	patience := 60 * time.Second
	if v.abandon {
		patience = time.Duration(r.IntN(1000)) * time.Millisecond
	}
	s.ask(v.name, v.method, path, body, v.statuses, patience, v.abandon)
}

// exec makes one and starts it, attached or not.
func (s *soak) exec(r *rand.Rand) {
	name := soakName(r)
	cmd := [][]string{{"true"}, {"sh", "-c", "echo hi; exit 3"}, {"sleep", "0.3"}, {"nosuch"}}[r.IntN(4)]
	status, b := s.ask("exec create", "POST", "/containers/"+name+"/exec", object{"Cmd": cmd, "AttachStdout": true, "Tty": r.IntN(3) == 0}, []int{201, 404, 409}, time.Minute, false)
	var made struct{ ID string }
	if status != http.StatusCreated || json.Unmarshal(b, &made) != nil {
		return
	}
	// A command that is not there is Docker's 400; a container that ended meanwhile is its 409, or 404 when it is gone.
	// In one that is paused meanwhile the command waits, and the user does not for long.
	s.ask("exec start", "POST", "/exec/"+made.ID+"/start", object{"Detach": r.IntN(2) == 0}, []int{200, 400, 404, 409}, 2*time.Second, true)
	s.ask("exec inspect", "GET", "/exec/"+made.ID+"/json", nil, []int{200, 404}, time.Minute, false)
}

// ask sends a request and takes note of what came of it. Status 0 is no answer.
func (s *soak) ask(name, method, path string, body any, want []int, patience time.Duration, abandon bool) (int, []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var in io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	case []byte:
		in = bytes.NewReader(b)
	default:
		raw, _ := json.Marshal(b)
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://nereid"+api+path, in)
	if err != nil {
		s.note(name, 0, "%s %s: %v", method, path, err)
		return 0, nil
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := s.client.Do(req)
	if err != nil {
		if abandon && ctx.Err() != nil {
			s.note(name, -1, "")
			return 0, nil
		}
		s.note(name, 0, "%s %s: %v", method, path, err)
		return 0, nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	switch {
	case err != nil && (!abandon || ctx.Err() == nil):
		s.note(name, res.StatusCode, "%s %s: %d, and then %v", method, path, res.StatusCode, err)
	case !slices.Contains(want, res.StatusCode) && !refusedAsDocker(name, res.StatusCode, b):
		s.note(name, res.StatusCode, "%s %s: %d: %.300s", method, path, res.StatusCode, b)
	default:
		s.note(name, res.StatusCode, "")
	}
	return res.StatusCode, b
}

// refusedAsDocker tells whether a verb was refused with Docker's status and its words: a start whose command is not there, a
// rename that another one was faster with, an exec whose container was killed under runc's hands.
func refusedAsDocker(name string, status int, body []byte) bool {
	refusal := map[string]struct {
		status int
		words  string
	}{
		"start":       {http.StatusBadRequest, "executable file not found"},
		"rename":      {http.StatusBadRequest, "the same name as its current name"},
		"rename back": {http.StatusBadRequest, "the same name as its current name"},
		"exec start":  {http.StatusInternalServerError, "OCI runtime exec failed"},
	}[name]
	return status == refusal.status && bytes.Contains(body, []byte(refusal.words))
}

// enough faults to see what is wrong.
const enoughFaults = 40

func (s *soak) note(verb string, status int, fault string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers[verb] == nil {
		s.answers[verb] = map[int]int{}
	}
	s.answers[verb][status]++
	if fault != "" && len(s.faults) < enoughFaults {
		s.faults = append(s.faults, fmt.Sprintf(fault, args...))
	}
}

// watch samples what is live in memory until the context ends: what is left after a collection.
func (s *soak) watch(ctx context.Context, t *testing.T) (heap []float64) {
	tick := time.NewTicker(max(s.length/60, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return heap
		case <-tick.C:
			heap = append(heap, s.live(t))
			m := s.metrics(t)
			t.Logf("live %.1f MB, resident %.1f MB, goroutines %.0f, descriptors %.0f, events %d",
				heap[len(heap)-1]/1e6, m["process_resident_memory_bytes"]/1e6, m["go_goroutines"], m["process_open_fds"], s.host.Events(t))
		}
	}
}

// live is what the daemon's heap holds after a collection, in bytes. What holds it is kept below SOAK_PROFILES, if that is
// set.
func (s *soak) live(t *testing.T) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://nereid/debug/pprof/heap?gc=1", http.NoBody)
	assert.NilError(t, err)
	res, err := s.client.Do(req)
	assert.NilError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	assert.NilError(t, err)
	assert.Equal(t, res.StatusCode, http.StatusOK)
	if dir := os.Getenv("SOAK_PROFILES"); dir != "" {
		s.profiles++
		assert.NilError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("heap%03d", s.profiles)), b, 0o644))
	}
	return s.metrics(t)["go_gc_heap_live_bytes"]
}

// metrics are the daemon's own figures.
func (s *soak) metrics(t *testing.T) map[string]float64 {
	client := http.Client{Transport: s.host.Transport(), Timeout: 30 * time.Second}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+soakMetrics+"/metrics", http.NoBody)
	assert.NilError(t, err)
	res, err := client.Do(req)
	if err != nil {
		t.Errorf("metrics: %v", err)
		return nil
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	m := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name[0] != '#' {
			m[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return m
}

func (s *soak) report(t *testing.T, heap []float64) {
	t.Helper()
	total := 0
	var verbs []string
	for v := range s.answers {
		verbs = append(verbs, v)
	}
	slices.Sort(verbs)
	for _, v := range verbs {
		for _, n := range s.answers[v] {
			total += n
		}
		t.Logf("%-20s %v", v, s.answers[v])
	}
	t.Logf("%d requests in %v", total, s.length)
	for _, f := range s.faults {
		t.Error(f)
	}
	third := len(heap) / 3
	if third == 0 {
		return
	}
	middle, end := median(heap[third:2*third]), median(heap[len(heap)-third:])
	t.Logf("live %.1f MB in the middle, %.1f MB at the end, medians of %d samples each", middle/1e6, end/1e6, third)
	if end > middle*soakGrowth+soakHistory {
		t.Errorf("memory grows: %.1f MB, then %.1f MB", middle/1e6, end/1e6)
	}
}

func median(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }

// removeAll removes the containers and their volumes as a user does who starts over.
func (s *soak) removeAll(t *testing.T) {
	t.Helper()
	if ids := strings.Fields(s.host.Docker(t, "ps", "-aq")); len(ids) > 0 {
		s.host.TryWith(t, lab.Cmd{Timeout: 3 * time.Minute}, append([]string{"rm", "-fv"}, ids...)...)
	}
	if tags := strings.Fields(s.host.Docker(t, "images", "-f", "reference=soak", "-f", "reference=loaded", "--format", "{{.Repository}}:{{.Tag}}")); len(tags) > 0 {
		s.host.Try(t, append([]string{"rmi"}, tags...)...)
	}
	s.host.Try(t, "volume", "rm", "-f", "shared")
	s.host.Try(t, "volume", "prune", "-af")
}

// inventory is what 200 runs must leave, and what only a long time may leave behind.
func (s *soak) inventory(t *testing.T) map[string]string {
	t.Helper()
	inv := inventory(t, s.host)
	inv["namespaces"] = tree(filepath.Join(s.host.Dir, "exec", "netns"))
	inv["leases"], inv["tasks"] = s.containerd(t)
	m := s.metrics(t)
	inv["goroutines"] = fmt.Sprint(int(m["go_goroutines"]))
	inv["descriptors"] = fmt.Sprint(int(m["process_open_fds"]))
	return inv
}

// containerd lists the leases and containers it has.
func (s *soak) containerd(t *testing.T) (leases, containers string) {
	t.Helper()
	client, err := containerd.New(filepath.Join(s.host.Dir, "exec", "containerd", "containerd.sock"), containerd.WithTimeout(10*time.Second))
	assert.NilError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(t.Context(), "admin"), 10*time.Second)
	defer cancel()
	ls, err := client.LeasesService().List(ctx)
	assert.NilError(t, err)
	for _, l := range ls {
		leases += l.ID + "\n"
	}
	cs, err := client.Containers(ctx)
	assert.NilError(t, err)
	for _, c := range cs {
		containers += c.ID() + "\n"
	}
	return leases, containers
}
