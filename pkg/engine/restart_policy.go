package engine

import (
	"time"

	"github.com/docker/docker/api/types/container"
)

const (
	// firstBackoff and maxBackoff are Docker's: a crash loop is tried again after 0.1, 0.2, 0.4 … 60 seconds.
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = time.Minute
	// steadyRun is how long a container must have run for its next crash to count as the first again.
	steadyRun = 10 * time.Second
)

// ended is what the restart policy looks at when a container's process has ended.
type ended struct {
	Policy        container.RestartPolicy
	ExitCode      int
	Ran           time.Duration
	RestartCount  int           // restarts by policy since the user's last start
	LastBackoff   time.Duration // before the restart that led to this run; 0: the user started it
	StoppedByUser bool          // the user signalled it since its start
	Cancelled     bool          // a stop or kill told that this end is meant
}

// verdict is what becomes of the container.
type verdict struct {
	Restart bool
	Backoff time.Duration // to wait before the restart, and the next LastBackoff
}

// decide tells whether the restart policy brings an ended container back, and after what pause.
func decide(e ended) verdict {
	if e.Cancelled || !policyWants(e) {
		return verdict{}
	}
	return verdict{Restart: true, Backoff: nextBackoff(e.LastBackoff, e.Ran)}
}

// policyWants is the policy alone.
func policyWants(e ended) bool {
	switch {
	case e.Policy.IsAlways():
		return true
	case e.Policy.IsUnlessStopped():
		return !e.StoppedByUser
	case e.Policy.IsOnFailure():
		most := e.Policy.MaximumRetryCount
		return e.ExitCode != 0 && (most == 0 || e.RestartCount < most)
	default:
		return false
	}
}

func nextBackoff(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= steadyRun {
		return firstBackoff
	}
	return min(2*last, maxBackoff)
}
