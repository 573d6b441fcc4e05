//go:build integration

package integration

import (
	"io"
	"log"
	"testing"
	"time"

	"gotest.tools/v3/poll"
)

// eventually wants check to hold within d.
func eventually(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if err := check(); err != nil {
			return poll.Continue("%v", err)
		}
		return poll.Success()
	}, poll.WithTimeout(d), poll.WithDelay(50*time.Millisecond))
}

// quiet is a logger for servers whose chatter tells nothing.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
