package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestContainerEventHasDockersAttributes(t *testing.T) {
	c := &state.Container{
		Account: "bob", ID: "c0ffee", Name: "web", Host: "h1", Image: "busybox:1",
		Config: &container.Config{Labels: map[string]string{"tier": "front", "exitCode": "hidden", "name": "hidden", "image": "hidden"}},
	}
	e := containerEvent(c, events.ActionDie, map[string]string{"exitCode": "3"})
	assert.DeepEqual(t, *e, state.Event{Account: "bob", Host: "h1", Message: events.Message{
		Type: events.ContainerEventType, Action: events.ActionDie, Scope: "local",
		ID: "c0ffee", Status: "die", From: "busybox:1",
		Actor: events.Actor{ID: "c0ffee", Attributes: map[string]string{
			"tier": "front", "exitCode": "3", "name": "web", "image": "busybox:1",
		}},
	}}, cmpopts.IgnoreUnexported(state.Event{}))
	assert.Equal(t, c.Config.Labels["exitCode"], "hidden", "the record's labels were changed")
}

func TestOtherEvents(t *testing.T) {
	network := networkEvent("h1", &state.Network{Account: "bob", ID: "n1", Name: "net", Driver: "bridge"}, events.ActionConnect, map[string]string{"container": "c1"})
	assert.DeepEqual(t, network.Message.Actor.Attributes, map[string]string{"container": "c1", "name": "net", "type": "bridge"})
	assert.Equal(t, network.Message.ID, "", "only containers and images have the old fields")
	image := imageEvent("bob", "h1", "sha256:1", "busybox:1", events.ActionPull, nil)
	assert.Equal(t, image.Message.Actor.Attributes["name"], "busybox:1")
	assert.Equal(t, image.Message.Status, "pull")
	prune := pruneEvent("bob", "h1", events.VolumeEventType, map[string]string{"reclaimed": "5"})
	assert.Equal(t, prune.Message.Actor.Attributes["reclaimed"], "5")
	assert.Equal(t, prune.Message.Action, events.ActionPrune)
}

// eventRig is a state with some events of two accounts at known times.
func eventRig(t *testing.T) *System {
	t.Helper()
	s := openTestState(t)
	at := time.Unix(1000, 0)
	say := func(a nereid.Account, host nereid.Host, typ events.Type, action events.Action, id string, attrs map[string]string) state.Op {
		e := newEvent(a, host, typ, id, action, attrs)
		e.Message.TimeNano = at.UnixNano()
		at = at.Add(time.Second)
		return state.Emit(e)
	}
	web := func() map[string]string { return map[string]string{"name": "web", "image": "app:1", "tier": "front"} }
	commitOps(t, s,
		say("bob", "h1", "container", "create", "c1", web()),
		say("bob", "h1", "container", "start", "c1", web()),
		say("eve", "h1", "container", "start", "c9", web()),
		say("bob", "h2", "container", "exec_create: sh -c true", "c2", map[string]string{"name": "db", "image": "pg"}),
		say("bob", "h2", "container", "health_status: healthy", "c2", map[string]string{"name": "db", "image": "pg"}),
		say("bob", "h1", "network", "connect", "n1", map[string]string{"name": "net", "container": "c1"}),
		say("bob", "h1", "volume", "create", "vol", map[string]string{"driver": "local"}),
		say("bob", "h1", "image", "pull", "app:1", map[string]string{"name": "app"}),
	)
	return NewSystem(Deps{Host: "h1", State: s}, SystemConfig{}, nil, nil, nil)
}

func commitOps(t *testing.T, s *state.Store, ops ...state.Op) {
	t.Helper()
	_, err := s.Commit(t.Context(), ops...)
	assert.NilError(t, err)
}

func bob(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(nereid.WithAccount(context.Background(), "bob"), soon)
	t.Cleanup(cancel)
	return ctx
}

func past(t *testing.T, s *System, since, until time.Time, f filters.Args) []string {
	t.Helper()
	seq, err := s.Events(bob(t), since, until, f)
	assert.NilError(t, err)
	got := []string{}
	for m, err := range seq {
		assert.NilError(t, err)
		got = append(got, string(m.Action)+" "+m.Actor.ID)
	}
	return got
}

func TestEventsOfThePast(t *testing.T) {
	s := eventRig(t)
	sec := func(n int64) time.Time { return time.Unix(n, 0) }
	all := []string{"create c1", "start c1", "exec_create: sh -c true c2", "health_status: healthy c2", "connect n1", "create vol", "pull app:1"}
	assert.DeepEqual(t, past(t, s, sec(1), sec(2000), filters.NewArgs()), all)
	assert.DeepEqual(t, past(t, s, time.Time{}, sec(2000), filters.NewArgs()), all)
	assert.DeepEqual(t, past(t, s, sec(1001), sec(1003), filters.NewArgs()), all[1:3])
	assert.DeepEqual(t, past(t, s, sec(1), sec(999), filters.NewArgs()), []string{})
}

// Tools compare what events carry with what they gave: one host has nothing to tell them apart by.
func TestEventsTellTheHostInAFleet(t *testing.T) {
	s := eventRig(t)
	hosts := func() (told []string) {
		seq, err := s.Events(bob(t), time.Unix(1, 0), time.Unix(2000, 0), filters.NewArgs(filters.Arg("label", "nereid.host=h2")))
		assert.NilError(t, err)
		for m, err := range seq {
			assert.NilError(t, err)
			told = append(told, m.Actor.Attributes["nereid.host"])
		}
		return told
	}
	commitOps(t, s.State, state.Put(&state.Member{Name: "h1"}))
	assert.DeepEqual(t, hosts(), []string{"", ""})
	commitOps(t, s.State, state.Put(&state.Member{Name: "h2"}))
	assert.DeepEqual(t, hosts(), []string{"h2", "h2"})
}

func TestEventFilters(t *testing.T) {
	s := eventRig(t)
	arg := filters.Arg
	tests := []struct {
		name    string
		filters []filters.KeyValuePair
		want    []string
	}{
		{"event", []filters.KeyValuePair{arg("event", "create")}, []string{"create c1", "create vol"}},
		{"two of one kind: either", []filters.KeyValuePair{arg("event", "start"), arg("event", "pull")}, []string{"start c1", "pull app:1"}},
		{"two kinds: both", []filters.KeyValuePair{arg("event", "create"), arg("type", "volume")}, []string{"create vol"}},
		{"event with details, by its bare name", []filters.KeyValuePair{arg("event", "exec_create")}, []string{"exec_create: sh -c true c2"}},
		{"health", []filters.KeyValuePair{arg("event", "health_status")}, []string{"health_status: healthy c2"}},
		{"health, whole", []filters.KeyValuePair{arg("event", "health_status: healthy")}, []string{"health_status: healthy c2"}},
		{"type", []filters.KeyValuePair{arg("type", "network")}, []string{"connect n1"}},
		{"container by name", []filters.KeyValuePair{arg("container", "db")}, []string{"exec_create: sh -c true c2", "health_status: healthy c2"}},
		{"container by id", []filters.KeyValuePair{arg("container", "c1")}, []string{"create c1", "start c1"}},
		{"image of containers and its own", []filters.KeyValuePair{arg("image", "app")}, []string{"create c1", "start c1", "pull app:1"}},
		{"image with tag", []filters.KeyValuePair{arg("image", "app:1")}, []string{"create c1", "start c1", "pull app:1"}},
		{"label", []filters.KeyValuePair{arg("label", "tier=front")}, []string{"create c1", "start c1"}},
		{"label, bare", []filters.KeyValuePair{arg("label", "driver")}, []string{"create vol"}},
		{"network", []filters.KeyValuePair{arg("network", "net")}, []string{"connect n1"}},
		{"volume", []filters.KeyValuePair{arg("volume", "vol")}, []string{"create vol"}},
		{"node", []filters.KeyValuePair{arg("node", "h2")}, []string{"exec_create: sh -c true c2", "health_status: healthy c2"}},
		{"scope", []filters.KeyValuePair{arg("scope", "swarm")}, []string{}},
		{"daemon", []filters.KeyValuePair{arg("daemon", "h1")}, []string{}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			assert.DeepEqual(t, past(t, s, time.Unix(1, 0), time.Unix(2000, 0), filters.NewArgs(tc.filters...)), tc.want)
		})
	}
}

func TestEventsToCome(t *testing.T) {
	s := eventRig(t)
	ctx, cancel := context.WithCancel(bob(t))
	defer cancel()
	seq, err := s.Events(ctx, time.Time{}, time.Time{}, filters.NewArgs())
	assert.NilError(t, err)
	// Between the call and the first read, and after it: neither is lost.
	commitOps(t, s.State, state.Emit(volumeEvent("bob", "h1", "early", "create", nil)))
	var got []string
	for m, err := range seq {
		assert.NilError(t, err)
		got = append(got, m.Actor.ID)
		switch m.Actor.ID {
		case "early":
			assert.Equal(t, s.listeners.Load(), int64(1))
			commitOps(t, s.State, state.Emit(volumeEvent("eve", "h1", "hers", "create", nil)), state.Emit(volumeEvent("bob", "h1", "late", "create", nil)))
		case "late":
			cancel()
		}
	}
	assert.DeepEqual(t, got, []string{"early", "late"})
	assert.Equal(t, s.listeners.Load(), int64(0))
}

func TestEventsEndAtUntil(t *testing.T) {
	s := eventRig(t)
	start := time.Now()
	seq, err := s.Events(bob(t), time.Unix(1, 0), start.Add(200*time.Millisecond), filters.NewArgs(filters.Arg("type", "volume")))
	assert.NilError(t, err)
	n := 0
	for _, err := range seq {
		assert.NilError(t, err)
		n++
	}
	assert.Equal(t, n, 1)
	assert.Assert(t, time.Since(start) >= 200*time.Millisecond)
}

func TestEventsStopWhenTheReaderDoes(t *testing.T) {
	s := eventRig(t)
	seq, err := s.Events(bob(t), time.Unix(1, 0), time.Time{}, filters.NewArgs())
	assert.NilError(t, err)
	for range seq {
		break
	}
	assert.Equal(t, s.listeners.Load(), int64(0))
}

func TestEventsUntilBeforeSince(t *testing.T) {
	s := eventRig(t)
	_, err := s.Events(bob(t), time.Unix(20, 0), time.Unix(10, 0), filters.NewArgs())
	assert.Error(t, err, "`since` time (20.000000000) cannot be after `until` time (10.000000000)")
	assert.ErrorType(t, err, errdefs.IsInvalidArgument)
}

func TestSlowReaderLosesNothing(t *testing.T) {
	s := eventRig(t)
	seq, err := s.Events(bob(t), time.Time{}, time.Time{}, filters.NewArgs())
	assert.NilError(t, err)
	const many = 2000
	for chunk := range slices.Chunk(make([]int, many), 100) {
		var ops []state.Op
		for range chunk {
			ops = append(ops, state.Emit(volumeEvent("bob", "h1", "v", "create", nil)))
		}
		commitOps(t, s.State, ops...)
	}
	n := 0
	for range seq {
		if n++; n == many {
			break
		}
	}
	assert.Equal(t, n, many)
}

// BenchmarkEventFilters passes as many events as are kept through the filters of one client.
func BenchmarkEventFilters(b *testing.B) {
	var all []*state.Event
	for i := range state.DefaultEvents {
		r := &state.Container{
			Account: "bob", ID: nereid.ContainerID(fmt.Sprint("c", i%1000)), Name: fmt.Sprint("web", i%1000), Host: "h1", Image: "app:1",
			Config: &container.Config{Labels: map[string]string{"tier": fmt.Sprint(i % 10)}},
		}
		all = append(all, containerEvent(r, events.ActionStart, nil))
	}
	for name, asked := range map[string]filters.Args{
		"none":      filters.NewArgs(),
		"container": filters.NewArgs(filters.Arg("container", "web7")),
		"label":     filters.NewArgs(filters.Arg("label", "tier=7")),
		"image":     filters.NewArgs(filters.Arg("image", "app")),
		"event":     filters.NewArgs(filters.Arg("event", "die"), filters.Arg("event", "start")),
	} {
		f := eventFilter{account: "bob", args: asked}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for _, e := range all {
					f.include(e)
				}
			}
		})
	}
}
