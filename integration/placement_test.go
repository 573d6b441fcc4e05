//go:build integration

package integration

import (
	"testing"

	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/integration/lab"
)

// TestPlacementOnOneHost is what a user of one host sees of placement: nothing, unless asked for.
func TestPlacementOnOneHost(t *testing.T) {
	h := lab.NewWithBusybox(t, "--label", "disk=ssd", "--name", "solo")
	h.Docker(t, "create", "--name", "db", "busybox", "true")
	runCases(t, h, []cliCase{
		{name: "more memory than there is", args: "run --rm -m 64g busybox echo fine", out: "fine"},
		{name: "met", args: "run --rm -e constraint:disk==ssd -e constraint:node==solo busybox echo fine", out: "fine"},
		{name: "not met", args: "run --rm -e constraint:disk==hdd busybox true", code: 125,
			stderr: "no host fits: 1 of 1 host does not meet constraint disk==hdd (disk: ssd on 1)"},
		{name: "wished", args: "run --rm -e constraint:disk==~hdd busybox echo fine", out: "fine"},
		{name: "beside", args: "run --rm -e affinity:container==db -e affinity:image==busybox busybox echo fine", out: "fine"},
		{name: "not beside", args: "run --rm -e affinity:container!=d* busybox true", code: 125,
			stderr: "no host fits: 1 of 1 host has container d*, against affinity container!=d*"},
		{name: "wrong", args: "run --rm -e constraint:disk=ssd busybox true", code: 125,
			stderr: `invalid constraint "disk=ssd": at position 5: expected == or !=`},
		{name: "wrong label", args: `run --rm --label com.docker.swarm.affinities=["x"] busybox true`, code: 125,
			stderr: `invalid label com.docker.swarm.affinities: item 1: "x": at position 2: expected == or !=`},
		{name: "not in the environment", args: "run --rm -e constraint:disk==ssd -e A=1 busybox sh -c 'env | grep -c -e disk -e ^A='", out: "1"},
		{name: "in the labels", args: `create --name placed -e constraint:disk==ssd busybox true`, out: "~"},
		{name: "shown", args: `inspect -f '{{index .Config.Labels "com.docker.swarm.constraints"}}' placed`, out: `["disk==ssd"]`},
	})
	assert.Equal(t, h.Docker(t, "ps", "-aq", "--filter", "status=running"), "")
}
