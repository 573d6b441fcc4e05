//go:build integration

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// churn is a host whose networks change all the time.
type churn struct {
	h      *lab.Host
	client *http.Client
}

// call asks until the daemon answers: it may be down for a moment.
func (c *churn) call(t *testing.T, method, path string, body any) (status int, said string) {
	t.Helper()
	raw, err := json.Marshal(body)
	assert.Check(t, err)
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://nereid/v1.51"+path, bytes.NewReader(raw))
		assert.Check(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.client.Do(req)
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			return resp.StatusCode, string(b)
		}
		if !c.h.Answers() {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-t.Context().Done():
			}
		}
	}
	t.Errorf("%s %s is never answered", method, path)
	return 0, ""
}

const (
	churnContainers = 8
	churnNetworks   = 12
	churnChanges    = 500
	churnMade       = 100
)

// TestNetworkChurn: 100 networks come and go and 500 times a running container is connected or disconnected, while the
// daemon is killed. What is left is what the records say, and nothing else.
func TestNetworkChurn(t *testing.T) {
	h := lab.NewWithBusybox(t)
	c := &churn{h, h.Client()}
	h.Docker(t, "network", "create", "--ipv6", "base")
	for i := range churnContainers {
		serve(t, h, "--name", fmt.Sprintf("c%d", i), "--network", "base", "-p", fmt.Sprintf("9%d:80", 100+i))
	}
	for i := range churnNetworks {
		status, said := c.call(t, "POST", "/networks/create", map[string]any{"Name": fmt.Sprintf("n%d", i), "EnableIPv6": i%2 == 0})
		assert.Equal(t, status, 201, said)
	}
	before := h.On(t, "ip", "-o", "link").Stdout

	var done atomic.Int64
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 7))
			for done.Add(1) <= churnChanges {
				c.change(t, fmt.Sprintf("n%d", rng.IntN(churnNetworks)), fmt.Sprintf("c%d", rng.IntN(churnContainers)))
			}
		})
	}
	all.Go(func() {
		for i := range churnMade {
			name := fmt.Sprintf("t%d", i)
			if status, said := c.call(t, "POST", "/networks/create", map[string]any{"Name": name}); status != 201 && status != 409 { // made just before the kill
				t.Errorf("create %s: %d %s", name, status, said)
			}
			if status, said := c.call(t, "DELETE", "/networks/"+name, nil); status != 204 && status != 404 {
				t.Errorf("remove %s: %d %s", name, status, said)
			}
		}
	})
	eventually(t, 120*time.Second, func() error {
		if n := done.Load(); n < churnChanges/3 {
			return fmt.Errorf("%d changes", n)
		}
		return nil
	})
	h.Kill9(t)
	h.Start(t)
	all.Wait()

	t.Run("the survivors are as their records say", func(t *testing.T) {
		for i := range churnContainers {
			name := fmt.Sprintf("c%d", i)
			networks := len(strings.Fields(h.Docker(t, "inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", name)))
			links := strings.Count(h.Docker(t, "exec", name, "ls", "/sys/class/net"), "eth")
			assert.Equal(t, links, networks, "%s has %d networks", name, networks)
			reach(t, h, name, fmt.Sprintf("c%d", (i+1)%churnContainers))
			fetch(t, h.On, fmt.Sprintf("http://127.0.0.1:9%d/", 100+i))
		}
	})
	t.Run("nothing is left over", func(t *testing.T) {
		for i := range churnNetworks {
			for k := range churnContainers {
				h.Try(t, "network", "disconnect", fmt.Sprintf("n%d", i), fmt.Sprintf("c%d", k))
			}
			h.Docker(t, "network", "rm", fmt.Sprintf("n%d", i))
		}
		assert.Equal(t, h.Docker(t, "network", "ls", "-q", "--filter", "type=custom", "--filter", "name=t"), "")
		eventually(t, 30*time.Second, func() error {
			if after := h.On(t, "ip", "-o", "link").Stdout; strings.Count(after, "\n") != strings.Count(before, "\n") {
				return fmt.Errorf("links are left:\n%s", after)
			}
			// base is in bridges, twice in maytalk, and in onlink of both families.
			if rules := h.On(t, "nft", "list", "ruleset").Stdout; strings.Count(rules, `"nr`) != 5 {
				return fmt.Errorf("elements of networks that are gone:\n%s", rules)
			}
			return nil
		})
		assert.Equal(t, strings.Count(h.Records(t), "/nereid/v1/addresses/"), 2*churnContainers)
	})
}

// change connects a container to a network or, when it is there, takes it off. Another may be faster.
func (c *churn) change(t *testing.T, network, container string) {
	t.Helper()
	body := map[string]any{"Container": container}
	status, said := c.call(t, "POST", "/networks/"+network+"/connect", body)
	if status == 403 {
		status, said = c.call(t, "POST", "/networks/"+network+"/disconnect", body)
	}
	if status != 200 && !strings.Contains(said, "is not connected to network") && !strings.Contains(said, "already exists in network") {
		t.Errorf("%s on %s: %d %s", container, network, status, said)
	}
}
