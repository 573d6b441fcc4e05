package engine

import (
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/allocs"
)

func TestAllocations(t *testing.T) {
	rig := newContainerRig(t)
	for i := range 20 {
		rig.create(fmt.Sprint("web", i), func(s *spec) { s.Labels = map[string]string{"n": fmt.Sprint(i)} })
	}
	ps := func(args ...filters.KeyValuePair) func() {
		opts := container.ListOptions{All: true, Filters: filters.NewArgs(args...)}
		return func() {
			list, err := rig.ListJSON(rig.ctx, opts)
			assert.NilError(t, err)
			_, err = list.WriteTo(io.Discard)
			assert.NilError(t, err)
		}
	}
	allocs.Check(t,
		allocs.Path{Name: "ps of 20", Do: ps()},
		allocs.Path{Name: "ps of one of 20 by label", Do: ps(filters.Arg("label", "n=7"))},
		allocs.Path{Name: "inspect", Do: func() {
			r, _, err := rig.Inspect(rig.ctx, "web7", false)
			assert.NilError(t, err)
			_, err = json.Marshal(r)
			assert.NilError(t, err)
		}},
	)
}
