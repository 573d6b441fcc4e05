package state_test

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestKeepAndVacantGuardWithoutWriting(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	n := &state.Network{Account: nereid.Admin, ID: "aa", Name: "blue"}
	other := &state.Network{Account: nereid.Admin, ID: "aab", Name: "red"}
	commit(t, s, state.Create(n), state.Create(other))
	made := n.Rev
	addr := &state.Address{Network: n.ID, Address: netip.MustParseAddr("10.0.0.2"), Account: nereid.Admin}
	commit(t, s, state.Keep(n), state.Create(addr))
	assert.Equal(t, n.Rev, made, "a record that was only looked at has changed")

	_, err := s.Commit(testContext(t), state.Vacant(n), state.Remove(n))
	assert.ErrorIs(t, err, errdefs.ErrAborted)
	conflict, _ := state.AsConflict(err)
	assert.Equal(t, conflict.Existing.(*state.Address).Address, addr.Address)
	commit(t, s, state.Vacant(other), state.Remove(other)) // its id begins with the first one's

	commit(t, s, state.Delete(addr))
	commit(t, s, state.Vacant(n), state.Remove(n))
	_, err = s.Commit(testContext(t), state.Keep(n), state.Create(addr))
	assert.ErrorIs(t, err, errdefs.ErrAborted)
	_, found := s.View().Address(n.ID, "10.0.0.2")
	assert.Check(t, !found, "claimed on a network that is gone")
}
