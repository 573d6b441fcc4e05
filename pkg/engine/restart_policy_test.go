package engine

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
)

func TestDecide(t *testing.T) {
	policy := func(name container.RestartPolicyMode, most int) container.RestartPolicy {
		return container.RestartPolicy{Name: name, MaximumRetryCount: most}
	}
	yes := func(d time.Duration) verdict { return verdict{Restart: true, Backoff: d} }
	no := verdict{}
	cases := []struct {
		name string
		e    ended
		want verdict
	}{
		{"no policy", ended{Policy: policy("no", 0), ExitCode: 1}, no},
		{"empty policy", ended{ExitCode: 1}, no},
		{"always", ended{Policy: policy("always", 0)}, yes(100 * time.Millisecond)},
		{"always, signalled by the user but not to its end", ended{Policy: policy("always", 0), StoppedByUser: true}, yes(100 * time.Millisecond)},
		{"always, stopped", ended{Policy: policy("always", 0), StoppedByUser: true, Cancelled: true}, no},
		{"unless-stopped", ended{Policy: policy("unless-stopped", 0)}, yes(100 * time.Millisecond)},
		{"unless-stopped, stopped", ended{Policy: policy("unless-stopped", 0), StoppedByUser: true}, no},
		{"on-failure, success", ended{Policy: policy("on-failure", 0)}, no},
		{"on-failure, failure", ended{Policy: policy("on-failure", 0), ExitCode: 1, RestartCount: 99}, yes(100 * time.Millisecond)},
		{"on-failure:3, third", ended{Policy: policy("on-failure", 3), ExitCode: 1, RestartCount: 2}, yes(100 * time.Millisecond)},
		{"on-failure:3, fourth", ended{Policy: policy("on-failure", 3), ExitCode: 1, RestartCount: 3}, no},
		{"back-off doubles", ended{Policy: policy("always", 0), LastBackoff: 100 * time.Millisecond}, yes(200 * time.Millisecond)},
		{"back-off ends growing", ended{Policy: policy("always", 0), LastBackoff: 51200 * time.Millisecond}, yes(time.Minute)},
		{"back-off at its end", ended{Policy: policy("always", 0), LastBackoff: time.Minute}, yes(time.Minute)},
		{"a steady run resets it", ended{Policy: policy("always", 0), LastBackoff: time.Minute, Ran: 10 * time.Second}, yes(100 * time.Millisecond)},
		{"a shorter one does not", ended{Policy: policy("always", 0), LastBackoff: time.Second, Ran: 9 * time.Second}, yes(2 * time.Second)},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { assert.DeepEqual(t, decide(tc.e), tc.want) })
	}
}
