package state_test

import (
	"testing"

	"github.com/nereid-paas/nereid/integration/allocs"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestAllocations(t *testing.T) {
	s, _ := run(t, testConfig(t))
	c := newContainer(id("abc"), "web")
	allocs.Check(t, allocs.Path{Name: "commit of a record and an event", Do: func() {
		commit(t, s, state.Put(c), state.Emit(newEvent("start", 1)))
	}})
}
