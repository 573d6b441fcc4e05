package engine

import (
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"

	"github.com/nereid-paas/nereid/pkg/state"
)

// listedRunning tells whether Docker counts a container as running: a restarting one too, in its back-off.
func listedRunning(r *state.Container) bool {
	return r.State.Running() || r.State.Status == state.StatusRestarting
}

// healthOf a container in Docker's words: "none" without a health check.
func healthOf(r *state.Container) string {
	switch h := r.State.Health; {
	case h == nil:
		return container.NoHealthcheck
	case h.Status == "":
		return container.Unhealthy // nobody has looked yet
	default:
		return h.Status
	}
}

// hostedStatus is statusText of a container as the fleet sees it: whether one that should be up is, nobody knows while
// its host does not answer.
func (l *Liveness) hostedStatus(r *state.Container, now time.Time) string {
	text := statusText(r, now)
	if listedRunning(r) && l.State(r.Host).Gone() {
		text += fmt.Sprintf(" (host %s unreachable)", r.Host)
	}
	return text
}

// statusText is the state of a container as people read it in lists.
func statusText(r *state.Container, now time.Time) string {
	s := r.State
	up := func(more string) string { return "Up " + units.HumanDuration(now.Sub(s.StartedAt)) + more }
	switch s.Status {
	case state.StatusPaused:
		return up(" (Paused)")
	case state.StatusRunning:
		switch health := healthOf(r); health {
		case container.NoHealthcheck:
			return up("")
		case container.Starting:
			return up(" (health: starting)")
		default:
			return up(" (" + health + ")")
		}
	case state.StatusRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, units.HumanDuration(now.Sub(s.FinishedAt)))
	case state.StatusRemoving:
		return "Removal In Progress"
	case state.StatusDead:
		return "Dead"
	case state.StatusCreated:
		return "Created"
	}
	if s.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, units.HumanDuration(now.Sub(s.FinishedAt)))
}
