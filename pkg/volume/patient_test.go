package volume

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// TestServerThatDoesNotAnswer: the kernel sits on a mount. Who waits gets an error, nobody mounts over it meanwhile, and
// when it comes about after all it is taken off.
func TestServerThatDoesNotAnswer(t *testing.T) {
	s, at := NewStore(t.TempDir()), t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	answer, asked := make(chan bool), make(chan bool)
	result := make(chan error)
	go func() {
		result <- s.patient(ctx, at, func() error {
			close(asked)
			<-answer
			return unix.Mount("tmpfs", at, "tmpfs", 0, "")
		})
	}()
	<-asked
	cancel(errors.New("it took too long"))
	assert.Error(t, <-result, "mount "+at+": the file system did not answer: it took too long")
	err := s.patient(t.Context(), at, func() error { return nil })
	assert.Error(t, err, "mount "+at+": an earlier mount of the volume is still under way")

	close(answer)

	poll.WaitOn(t, func(poll.LogT) poll.Result {
		mounted, err := mountinfo.Mounted(at)
		if err != nil {
			return poll.Error(err)
		}
		if _, busy := s.underWay.Load(at); busy || mounted {
			return poll.Continue("mounted: %v, under way: %v", mounted, busy)
		}
		return poll.Success()
	}, poll.WithTimeout(30*time.Second))
	assert.NilError(t, s.patient(t.Context(), at, func() error { return nil }))
}

// Once a call has answered, its place is free for the next one.
func TestAnsweredCallFreesItsPlace(t *testing.T) {
	s := NewStore(t.TempDir())
	for range 10_000 {
		assert.NilError(t, s.patient(t.Context(), "/here", func() error { return nil }))
	}
}
