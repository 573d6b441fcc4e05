//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/integration/lab"
)

// health of a container as inspect shows it.
func health(t *testing.T, h *lab.Host, name string) *container.Health {
	t.Helper()
	var got *container.Health
	assert.NilError(t, json.Unmarshal([]byte(h.Docker(t, "inspect", "-f", "{{json .State.Health}}", name)), &got))
	return got
}

func awaitHealth(t *testing.T, h *lab.Host, name, status string) *container.Health {
	t.Helper()
	var got *container.Health
	eventually(t, 30*time.Second, func() error {
		if got = health(t, h, name); got == nil || got.Status != status {
			return fmt.Errorf("%s is %+v, not %s", name, got, status)
		}
		return nil
	})
	return got
}

// serves tells whether the name service answers for a service.
func serves(t *testing.T, h *lab.Host, service string) bool {
	t.Helper()
	r := h.Try(t, "exec", "asker", "nslookup", service+".svc.admin.dc1.cns.internal")
	return r.Code == 0
}

// TestHealthFlags is what each way to ask for a health check comes to.
func TestHealthFlags(t *testing.T) {
	h := lab.NewWithBusybox(t)
	h.Load(t, "checked", lab.WithConfig(t, lab.Busybox(t), func(c *v1.Config) {
		c.Healthcheck = &v1.HealthConfig{Test: []string{"CMD-SHELL", "echo image; exit 2"}, Interval: 100 * time.Millisecond, Retries: 2}
	}))
	h.Load(t, "forgotten", lab.WithConfig(t, lab.Busybox(t), func(c *v1.Config) {
		c.Healthcheck = &v1.HealthConfig{Test: []string{"CMD"}, Interval: 100 * time.Millisecond, Retries: 1}
	}))
	quick := "run -d --health-interval 100ms "
	for _, tc := range []struct {
		name, args string
		status     string // "" for none
		code       int    // of the last probe
		output     string // "~x" wants x in it
	}{
		{"none", "run -d busybox sleep 600", "", 0, ""},
		{"command", quick + "--health-cmd 'echo out; echo err >&2' busybox sleep 600", "healthy", 0, "~out\n"},
		{"failure", quick + "--health-retries 1 --health-cmd 'echo no; exit 3' busybox sleep 600", "unhealthy", 3, "no\n"},
		{"over its time", quick + "--health-retries 1 --health-timeout 3s --health-cmd 'echo slow; sleep 60' busybox sleep 600", "unhealthy", -1, "Health check exceeded timeout (3s): slow\n"},
		{"of the image", "run -d checked sleep 600", "unhealthy", 2, "image\n"},
		{"of the image, turned off", "run -d --no-healthcheck checked sleep 600", "", 0, ""},
		{"of the image, another command", "run -d --health-cmd true checked sleep 600", "healthy", 0, ""},
		{"of the image, without a command", "run -d forgotten sleep 600", "unhealthy", -1, "No exec command specified"},
		{"user and directory", quick + "-u nobody -w /var --health-cmd 'id -u; pwd' busybox sleep 600", "healthy", 0, "65534\n/var\n"},
		{"long output", quick + "--health-cmd 'yes | head -c 5000' busybox sleep 600", "healthy", 0, strings.Repeat("y\n", 2048) + "..."},
		{"start period", quick + "--health-start-period 1h --health-start-interval 100ms --health-retries 1 --health-cmd false busybox sleep 600", "starting", 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := h.Docker(t, split(tc.args)...)
			if tc.status == "" {
				assert.Assert(t, health(t, h, id) == nil)
				return
			}
			var got *container.Health
			eventually(t, 30*time.Second, func() error {
				if got = health(t, h, id); got.Status != tc.status || len(got.Log) == 0 {
					return fmt.Errorf("%+v, not %s", got, tc.status)
				}
				return nil
			})
			last := got.Log[len(got.Log)-1]
			assert.Equal(t, last.ExitCode, tc.code, "%q", last.Output)
			if part, ok := strings.CutPrefix(tc.output, "~"); ok {
				assert.Assert(t, is.Contains(last.Output, part))
			} else {
				assert.Equal(t, last.Output, tc.output)
			}
			assert.Check(t, last.End.After(last.Start))
			h.Docker(t, "rm", "-f", id)
		})
	}
	runCases(t, h, []cliCase{
		{name: "interval too short", args: "run --health-cmd true --health-interval 1us busybox", code: 125, stderr: "Interval in Healthcheck cannot be less than 1ms"},
		{name: "timeout too short", args: "run --health-cmd true --health-timeout 1us busybox", code: 125, stderr: "Timeout in Healthcheck cannot be less than 1ms"},
		{name: "start period too short", args: "run --health-cmd true --health-start-period 1us busybox", code: 125, stderr: "StartPeriod in Healthcheck cannot be less than 1ms"},
		{name: "start interval too short", args: "run --health-cmd true --health-start-interval 1us busybox", code: 125, stderr: "StartInterval in Healthcheck cannot be less than 1ms"},
		{name: "nothing is left of them", args: "ps -aq -f status=created", out: ""},
	})
}

// TestHealthOverALife takes one container through everything that happens to one.
func TestHealthOverALife(t *testing.T) {
	h := lab.NewWithBusybox(t)
	since := strconv.FormatInt(time.Now().Unix(), 10)
	h.Docker(t, "run", "-d", "--name", "asker", "busybox", "sleep", "600")
	h.Docker(t, "run", "-d", "--name", "web", "--label", "nereid.cns.services=site:80", "--health-cmd", "cat /tmp/ok", "--health-interval", "300ms",
		"--health-retries", "2", "busybox", "sleep", "600")
	status := func() string { return h.Docker(t, "ps", "-a", "--filter", "name=web", "--format", "{{.Status}}") }
	filtered := func(value string) string {
		return h.Docker(t, "ps", "-a", "--filter", "health="+value, "--format", "{{.Names}}")
	}
	if got := awaitHealth(t, h, "web", "unhealthy"); got.FailingStreak < 2 {
		t.Errorf("unhealthy after %d failures", got.FailingStreak)
	}
	assert.Equal(t, filtered("unhealthy"), "web")
	assert.Equal(t, filtered("none"), "asker")
	assert.Check(t, !serves(t, h, "site"), "an unhealthy container is served")

	h.Docker(t, "exec", "web", "touch", "/tmp/ok")
	assert.Equal(t, awaitHealth(t, h, "web", "healthy").FailingStreak, 0)
	assert.Assert(t, is.Regexp(regexp.MustCompile(`^Up .* \(healthy\)$`), status()))
	assert.Equal(t, filtered("healthy"), "web")
	eventually(t, 30*time.Second, func() error {
		if !serves(t, h, "site") {
			return fmt.Errorf("a healthy container is not served")
		}
		return nil
	})
	eventually(t, 30*time.Second, func() error {
		if n := len(health(t, h, "web").Log); n != 5 {
			return fmt.Errorf("%d results are kept, not five", n)
		}
		return nil
	})

	h.Docker(t, "pause", "web")
	assert.Equal(t, health(t, h, "web").Status, "unhealthy")
	h.Docker(t, "unpause", "web")
	awaitHealth(t, h, "web", "healthy")

	h.Kill9(t)
	h.Start(t)
	assert.Equal(t, health(t, h, "web").Status, "healthy", "a daemon's end changes no container")
	h.Docker(t, "exec", "web", "rm", "/tmp/ok")
	awaitHealth(t, h, "web", "unhealthy")
	h.Docker(t, "exec", "web", "touch", "/tmp/ok")
	awaitHealth(t, h, "web", "healthy")
	h.Stop(t)
	h.Start(t)
	assert.Equal(t, health(t, h, "web").Status, "healthy")

	h.Docker(t, "stop", "-t", "0", "web")
	got := health(t, h, "web")
	assert.Equal(t, got.Status, "unhealthy")
	assert.Equal(t, len(got.Log), 5)
	assert.Assert(t, is.Regexp(regexp.MustCompile(`^Exited \(137\) `), status()))
	h.Docker(t, "start", "web")
	assert.Assert(t, is.Regexp(regexp.MustCompile(`^Up .* \((health: starting|healthy)\)$`), status()))
	awaitHealth(t, h, "web", "healthy")

	until := strconv.FormatInt(time.Now().Unix()+1, 10)
	told := h.Docker(t, "events", "--since", since, "--until", until, "--filter", "container=web", "--filter", "event=health_status", "--format", "{{.Action}}")
	assert.Equal(t, told, "health_status: unhealthy\nhealth_status: healthy\nhealth_status: healthy\n"+
		"health_status: unhealthy\nhealth_status: healthy\nhealth_status: healthy")
	told = h.Docker(t, "events", "--since", since, "--until", until, "--filter", "container=web", "--format", "{{.Action}}")
	assert.Assert(t, is.Contains(told, "start\nexec_create: /bin/sh -c cat /tmp/ok\nexec_start: /bin/sh -c cat /tmp/ok\nexec_die\nexec_create"))
}
