package state_test

import (
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestRemoveOnlyTakesTheRecordThatWasRead(t *testing.T) {
	s, _ := run(t, testConfig(t))
	commit(t, s, state.Create(&state.Volume{Account: nereid.Admin, Name: "data"}))
	read, _ := s.View().Volume(nereid.Admin, "data")
	commit(t, s, state.Put(&state.Volume{Account: nereid.Admin, Name: "data", Home: testHost}))

	_, err := s.Commit(testContext(t), state.Remove(read))

	assert.ErrorType(t, err, errdefs.IsAborted)
	now, ok := s.View().Volume(nereid.Admin, "data")
	assert.Assert(t, ok)
	commit(t, s, state.Remove(now))
	_, ok = s.View().Volume(nereid.Admin, "data")
	assert.Assert(t, !ok)
}
