package engine

import (
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/state"
)

// What Docker takes where a health check says nothing.
const (
	defaultProbeInterval = 30 * time.Second
	defaultProbeTimeout  = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultProbeRetries  = 3
)

// healthLogEntries is how many results of probes are kept, as Docker does.
const healthLogEntries = 5

// probeCommand is what a container's health check runs in it, nil when it has none.
func probeCommand(cfg *container.Config) []string {
	if cfg == nil || cfg.Healthcheck == nil || len(cfg.Healthcheck.Test) == 0 {
		return nil
	}
	kind, args := cfg.Healthcheck.Test[0], cfg.Healthcheck.Test[1:]
	switch kind {
	case "CMD":
		return slices.Clone(args)
	case "CMD-SHELL":
		shell := []string{"/bin/sh", "-c"}
		if len(cfg.Shell) > 0 {
			shell = cfg.Shell
		}
		return slices.Concat(shell, args)
	}
	return nil // NONE, and what Docker does not know
}

// startedHealth is the health of a container that starts: the count begins anew, what earlier probes said stays.
func startedHealth(r *state.Container) *container.Health {
	if probeCommand(r.Config) == nil {
		return r.State.Health
	}
	h := &container.Health{Status: container.Starting}
	if old := r.State.Health; old != nil {
		h.Log = slices.Clone(old.Log)
	}
	return h
}

// stoppedHealth is the health of a container that nobody probes any more, because it ended or is paused: Docker calls
// it unhealthy.
func stoppedHealth(h *container.Health) *container.Health {
	if h == nil {
		return nil
	}
	stopped := *h
	stopped.Status = container.Unhealthy
	return &stopped
}

// judge is the health after one more probe. A failure counts unless the container still starts and the probe began
// within its start period. The old health is not changed.
func judge(old *container.Health, check *container.HealthConfig, result *container.HealthcheckResult, startedAt time.Time) *container.Health {
	h := container.Health{Status: container.Starting}
	if old != nil {
		h = *old
	}
	h.Log = append(slices.Clone(h.Log), result)
	if more := len(h.Log) - healthLogEntries; more > 0 {
		h.Log = h.Log[more:]
	}
	if result.ExitCode == 0 {
		h.Status, h.FailingStreak = container.Healthy, 0
		return &h
	}
	if h.Status == container.Starting && result.Start.Sub(startedAt) < check.StartPeriod {
		return &h
	}
	h.FailingStreak++
	retries := check.Retries
	if retries <= 0 {
		retries = defaultProbeRetries
	}
	if h.FailingStreak >= retries {
		h.Status = container.Unhealthy
	}
	return &h
}

// probeInterval is the pause before the next probe: shorter while the container is within its start period and was
// never healthy. It is never below what a create may ask for: an image may ask for any, and an instant or less has no
// half to spread probes over.
func probeInterval(h *container.Health, check *container.HealthConfig, ran time.Duration) time.Duration {
	if ran < check.StartPeriod && (h == nil || h.Status == container.Starting) {
		return max(orElse(check.StartInterval, defaultStartInterval), container.MinimumDuration)
	}
	return max(orElse(check.Interval, defaultProbeInterval), container.MinimumDuration)
}
