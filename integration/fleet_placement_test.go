//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// where tells the host of a container. A host that is asked for what was made at another one knows it a moment later.
func where(t *testing.T, from *lab.Host, name string) (host string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		r := from.Try(t, "inspect", "-f", "{{.Node.Name}}", name)
		if r.Code != 0 {
			return fmt.Errorf("%s", r.Combined())
		}
		host = strings.TrimSpace(r.Stdout)
		return nil
	})
	return host
}

// blobs counts what a host has of images.
func blobs(t *testing.T, h *lab.Host) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(h.Dir, "data/containerd/*/blobs/sha256/*"))
	assert.NilError(t, err)
	return len(found)
}

// TestFleetPlacement is what a user sees of placement in a fleet of three, and of images and volumes that find their way.
// At first only the first host has an image.
func TestFleetPlacement(t *testing.T) {
	f := fleetOf(t, lab.FleetOptions{Hosts: 3, Servers: 1})
	h1, h2, h3 := f.Hosts[0], f.Hosts[1], f.Hosts[2]
	assert.Equal(t, blobs(t, h2), 0)

	t.Run("spread, with the image going along", func(t *testing.T) {
		on := map[string]int{}
		for i := range 6 {
			name := fmt.Sprintf("web%d", i)
			f.Hosts[i%3].Docker(t, "run", "-d", "--name", name, "busybox", "sleep", "600")
			on[where(t, h2, name)]++
		}
		assert.DeepEqual(t, on, map[string]int{h1.Name: 2, h2.Name: 2, h3.Name: 2})
		for _, h := range f.Hosts {
			assert.Equal(t, blobs(t, h), blobs(t, h1))
		}
	})
	t.Run("from any endpoint", func(t *testing.T) {
		runCases(t, h1, []cliCase{
			{name: "no such host", args: "create -e constraint:node==nosuch busybox", code: 1, stderr: "no host fits"},
			{name: "sizes", args: "ps -s --filter node=" + h2.Name + " --format {{.Size}}", out: "~virtual"},
			{name: "a network for all", args: "network create net1", out: "~"},
			{name: "connect one of another host", args: "network connect net1 web1", out: ""},
			{name: "connected", args: "inspect -f '{{len .NetworkSettings.Networks}}' web1", out: "2"},
			{name: "disconnect it", args: "network disconnect net1 web1", out: ""},
			{name: "not the network's", args: "network rm net1", out: "net1"},
			{name: "a volume there", args: "run --name user -v data:/data -e " + onHost(h2) + " busybox sh -c 'echo kept >/data/file'", out: ""},
			{name: "follow it", args: "run --rm -v data:/data busybox cat /data/file", out: "kept"},
			{name: "in use there", args: "volume rm data", code: 1, stderr: "volume is in use"},
			{name: "prune there", args: "container prune -f", out: "~Deleted Containers:"},
			{name: "remove it", args: "volume rm data", out: "data"},
			{name: "disk usage", args: "system df", out: "~Local Volumes"},
		})
		left, err := os.ReadDir(filepath.Join(h2.Dir, "data/volumes/admin"))
		assert.Check(t, err == nil && len(left) == 0 || os.IsNotExist(err), "the home keeps %v (%v)", left, err)
	})
	t.Run("in the foreground, wherever it runs", func(t *testing.T) {
		for _, h := range f.Hosts {
			r := h1.TryWith(t, lab.Cmd{Stdin: "word\n"}, "run", "--rm", "-i", "-e", onHost(h), "busybox", "sh", "-c", "read x; echo got $x; exit 4")
			assert.Equal(t, r.Code, 4, r.Combined())
			assert.Equal(t, r.Stdout, "got word\n")
		}
	})
	t.Run("beside and apart", func(t *testing.T) {
		h1.Docker(t, "run", "-d", "--name", "db", "-e", onHost(h3), "--label", "tier=back", "busybox", "sleep", "600")
		for name, args := range map[string][]string{
			"by-name":    {"-e", "affinity:container==db"},
			"by-label":   {"--label", `com.docker.swarm.affinities=["tier==b*"]`},
			"by-link":    {"--link", "db"},
			"by-network": {"--network", "container:db"},
			"by-pid":     {"--pid", "container:db"},
		} {
			h2.Docker(t, append(append([]string{"run", "-d", "--name", name}, args...), "busybox", "sleep", "600")...)
			assert.Equal(t, where(t, h1, name), h3.Name, name)
		}
		apart := `com.docker.swarm.affinities=["container!=db","container!=apart*"]` // of two -e that begin alike docker sends one
		for i := range 2 {
			h1.Docker(t, "create", "--name", fmt.Sprintf("apart%d", i), "--label", apart, "busybox")
		}
		runCases(t, h2, []cliCase{
			{name: "no host left", args: "create --name apart2 --label '" + apart + "' busybox", code: 1, stderr: "no host fits: "},
			{name: "too much", args: "create -m 100000g busybox", code: 1, stderr: "3 of 3 hosts lack memory (largest free "},
			{name: "no such image", args: "create --pull never nosuch", code: 1, stderr: "No such image: nosuch:latest"},
			{name: "a name that is taken", args: "create --name db busybox", code: 1, stderr: `Conflict. The container name "/db" is already in use by container`},
			{name: "refused where it is made", args: "create -e " + onHost(h3) + " --ipc nonsense busybox", code: 1, stderr: "invalid IPC mode: nonsense"},
		})
	})
	t.Run("a volume stays where it was used first", func(t *testing.T) {
		h1.Docker(t, "volume", "create", "late")
		h1.Docker(t, "run", "--rm", "-v", "late:/data", "-e", onHost(h2), "busybox", "sh", "-c", "echo kept > /data/file")
		for _, h := range f.Hosts {
			assert.Equal(t, h.Docker(t, "run", "--rm", "-v", "late:/data", "busybox", "cat", "/data/file"), "kept")
		}
		h3.Docker(t, "create", "--name", "holder", "-v", "late:/data", "busybox")
		assert.Equal(t, where(t, h1, "holder"), h2.Name)
		h1.Docker(t, "create", "--name", "follower", "--volumes-from", "holder", "busybox")
		assert.Equal(t, where(t, h1, "follower"), h2.Name)
		r := h1.Try(t, "create", "-v", "late:/data", "-e", onHost(h1), "busybox")
		assert.Assert(t, is.Contains(r.Stderr, "do not have volume late: its data is on "+h2.Name))
	})
	t.Run("a volume is removed where it is", func(t *testing.T) {
		h1.Docker(t, "run", "--rm", "-v", "away:/data", "-e", onHost(h3), "busybox", "sh", "-c", "dd if=/dev/zero of=/data/file bs=1M count=3 2>/dev/null")
		assert.Equal(t, h1.Docker(t, "volume", "inspect", "-f", "{{.Status.Host}}", "away"), h3.Name)
		assert.Assert(t, is.Contains(h1.Docker(t, "system", "df", "-v"), "3.146MB"))
		data := filepath.Join(h3.Dir, "data/volumes/admin/away")
		_, err := os.Stat(data)
		assert.NilError(t, err)
		h1.Docker(t, "volume", "rm", "away")
		_, err = os.Stat(data)
		assert.Assert(t, os.IsNotExist(err))
		fleetwide(t, "it is gone", func() bool { return h2.Docker(t, "volume", "ls", "-q", "--filter", "name=away") == "" })
	})
	t.Run("a bind mount means the endpoint", func(t *testing.T) {
		dir := t.TempDir()
		assert.NilError(t, os.WriteFile(dir+"/file", []byte("here"), 0o644))
		for i, h := range f.Hosts {
			name := fmt.Sprintf("bound%d", i)
			h.Docker(t, "create", "--name", name, "-v", dir+":/x", "busybox")
			assert.Equal(t, where(t, h1, name), h.Name)
		}
	})
	t.Run("drained", func(t *testing.T) {
		h1.Nereid(t, "host", "drain", h2.Name)
		for i := range 4 {
			name := fmt.Sprintf("after%d", i)
			h2.Docker(t, "create", "--name", name, "busybox")
			assert.Check(t, where(t, h1, name) != h2.Name)
		}
		r := h1.Try(t, "create", "-v", "late:/data", "busybox")
		assert.Assert(t, is.Contains(r.Stderr, "1 of 3 hosts takes no new containers (drained: "+h2.Name+")"))
		h1.Nereid(t, "host", "resume", h2.Name)
	})
	t.Run("a host that is away", func(t *testing.T) {
		f.CutLink(t, h2)
		fleetwide(t, "it is noticed", func() bool { return strings.Contains(h1.Nereid(t, "host", "ls"), "unreachable") })
		for i := range 4 {
			name := fmt.Sprintf("without%d", i)
			h1.Docker(t, "create", "--name", name, "busybox")
			assert.Check(t, where(t, h1, name) != h2.Name)
		}
		r := h1.Try(t, "create", "-v", "late:/data", "busybox")
		assert.Assert(t, is.Contains(r.Stderr, "1 of 3 hosts does not answer ("+h2.Name+")"))
		assert.Assert(t, is.Contains(r.Stderr, "2 of 3 hosts do not have volume late: its data is on "+h2.Name))
		f.MendLink(t, h2)
		fleetwide(t, "it is back", func() bool { return h1.Try(t, "create", "-v", "late:/data", "busybox").Code == 0 })
		fleetwide(t, "for all", func() bool { return !strings.Contains(h3.Nereid(t, "host", "ls"), "unreachable") })
	})
	t.Run("an image goes from all hosts", func(t *testing.T) {
		img := lab.AddLayer(t, lab.Busybox(t), []lab.File{{Name: "new", Body: strings.Repeat("x", 2<<20)}})
		h2.Load(t, "other:1", img)
		allHave(t, f, "other:1")
		for _, h := range f.Hosts {
			assert.Equal(t, h1.Docker(t, "run", "--rm", "-e", onHost(h), "other:1", "sh", "-c", "wc -c < /new"), fmt.Sprint(2<<20))
		}
		h2.Load(t, "mounted:1", lab.AddLayer(t, lab.Busybox(t), []lab.File{{Name: "new", Body: strings.Repeat("y", 2<<20)}}))
		allHave(t, f, "mounted:1")
		assert.Equal(t, h1.Docker(t, "run", "--rm", "-e", onHost(h3), "--mount", "type=image,source=mounted:1,target=/m", "busybox", "sh", "-c", "wc -c < /m/new"), fmt.Sprint(2<<20))
		h3.Docker(t, "rmi", "other:1", "mounted:1")
		for _, h := range f.Hosts {
			fleetwide(t, "it is gone", func() bool { return h.Docker(t, "images", "-q", "other") == "" })
		}
	})
	t.Run("what one host commits another runs, and saves", func(t *testing.T) {
		h2.Docker(t, "exec", "web0", "touch", "/made")
		h2.Docker(t, "commit", "web0", "made:1")
		allHave(t, f, "made:1")
		for _, h := range f.Hosts[:2] {
			assert.Equal(t, h3.Docker(t, "run", "--rm", "-e", onHost(h), "made:1", "ls", "/made"), "/made")
			h.Docker(t, "save", "-o", filepath.Join(t.TempDir(), "made.tar"), "made:1")
		}
	})
	t.Run("all let go of an image", func(t *testing.T) {
		h1.Docker(t, append([]string{"rm", "-f"}, strings.Fields(h1.Docker(t, "ps", "-aq"))...)...)
		h1.Docker(t, "rmi", "made:1", "busybox")
		fleetwide(t, "no host has any", func() bool { return blobs(t, h1)+blobs(t, h2)+blobs(t, h3) == 0 })
	})
}

// onHost says in the environment that a container is to run on a host.
func onHost(h *lab.Host) string { return "constraint:node==" + h.Name }

// TestFleetBurst: three endpoints are asked for 500 containers at once, for which there is no room. No host gets more than it
// has, while there is room none gets nearly all, and what room there is can be used to the last.
func TestFleetBurst(t *testing.T) {
	const fits, easy, all = 40, 60, 500 // on each host; that all fit; in all
	f := fleetOf(t, lab.FleetOptions{Hosts: 3, Servers: 1, Args: []string{"--overcommit-memory", "0.5"}})
	h1 := f.Hosts[0]
	var hosts []nereid.HostStatus
	assert.NilError(t, json.Unmarshal([]byte(h1.Nereid(t, "host", "inspect", h1.Name)), &hosts))
	body := fmt.Sprintf(`{"Image":"busybox","Cmd":["true"],"HostConfig":{"MemoryReservation":%d}}`, hosts[0].Memory/2/fits)
	create := func(at *lab.Host) (created bool, err error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://docker/v1.50/containers/create", strings.NewReader(body))
		if err != nil {
			return false, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := at.Client().Do(req)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusCreated && !strings.Contains(string(said), "no host fits") {
			err = fmt.Errorf("%s: %s", resp.Status, said)
		}
		return resp.StatusCode == http.StatusCreated, err
	}
	var created atomic.Int64
	burst := func(n int) {
		t.Helper()
		var g errgroup.Group
		g.SetLimit(30)
		for i := range n {
			g.Go(func() error {
				made, err := create(f.Hosts[i%3])
				if made {
					created.Add(1)
				}
				return err
			})
		}
		assert.NilError(t, g.Wait())
	}
	on := func(h *lab.Host) int {
		return len(strings.Fields(h1.Docker(t, "ps", "-aq", "--filter", "node="+h.Name)))
	}
	burst(easy)
	assert.Equal(t, created.Load(), int64(easy))
	for _, h := range f.Hosts {
		assert.Check(t, on(h) >= easy/6 && on(h) <= fits, "%s has %d of %d", h.Name, on(h), easy)
	}
	burst(all - easy)
	for made := true; made; { // one at a time, who is refused was refused rightly
		var err error
		made, err = create(h1)
		assert.NilError(t, err)
		if made {
			created.Add(1)
		}
	}
	assert.Equal(t, created.Load(), int64(3*fits))
	for _, h := range f.Hosts {
		assert.Equal(t, on(h), fits, h.Name)
	}
}
