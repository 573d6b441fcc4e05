package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"go.uber.org/zap/zaptest"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/peer"
	"github.com/nereid-paas/nereid/pkg/state"
)

// rumours is what is heard, as a test says.
type rumours struct {
	mu   sync.Mutex
	says map[nereid.Host]nereid.HostState
	gone map[nereid.Host]chan struct{}
}

func (r *rumours) State(h nereid.Host) (nereid.HostState, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.says[h]
	return s, ok
}

func (r *rumours) Gone(h nereid.Host) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone[h] == nil {
		r.gone[h] = make(chan struct{})
	}
	return r.gone[h]
}

func (r *rumours) say(h nereid.Host, s nereid.HostState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.says[h] = s
}

// newTestHosts is the first host of a fleet, enrolled.
func newTestHosts(t *testing.T) (*Hosts, *rumours) {
	t.Helper()
	r := &rumours{says: map[nereid.Host]nereid.HostState{}, gone: map[nereid.Host]chan struct{}{}}
	store := openTestState(t)
	d := Deps{Host: "h1", State: store, Fleet: NewLiveness("h1", store.View(), func() Rumour { return r }), Log: zaptest.NewLogger(t)}
	opened := errors.New("the port is taken")
	h := NewHosts(d, Self{
		Server: true, Peer: "10.0.0.1:2377", Gossip: "10.0.0.1:7946", Key: "key1",
		Open: func(context.Context) error { err := opened; opened = nil; return err }, Token: func(s string) string { return "T-" + s },
	}, nil, func(context.Context) *state.Host {
		return &state.Host{Name: "h1", CPUs: 2, Labels: map[string]string{"disk": "ssd"}, Advertise: netip.MustParseAddr("10.0.0.1")}
	})
	assert.NilError(t, h.Enrol(t.Context()))
	return h, r
}

// token makes one and returns its secret.
func (h *Hosts) secretOf(t *testing.T, server bool, life time.Duration, rotate bool) string {
	t.Helper()
	tok, err := h.Token(t.Context(), server, life, rotate)
	assert.NilError(t, err)
	return tok.Token[len("T-"):]
}

func TestAdmission(t *testing.T) {
	h, _ := newTestHosts(t)
	_, err := h.Token(t.Context(), false, 0, false)
	assert.ErrorContains(t, err, "other hosts could not reach this one: the port is taken")
	_, err = h.Token(t.Context(), false, -time.Hour, false)
	assert.ErrorIs(t, err, errdefs.ErrInvalidArgument)
	good, old := h.secretOf(t, false, 0, false), h.secretOf(t, false, time.Nanosecond, false)
	ask := func(change func(*peer.Application)) error {
		a := peer.Application{Secret: good, Host: "h2", Peer: "10.0.0.2:2377", Fingerprint: "key2"}
		change(&a)
		_, err := h.Admit(t.Context(), a)
		return err
	}
	for _, c := range []struct {
		name   string
		change func(*peer.Application)
		class  error
		words  string
	}{
		{"a guess", func(a *peer.Application) { a.Secret = "x" }, errdefs.ErrPermissionDenied, "is not known, or has expired"},
		{"expired", func(a *peer.Application) { a.Secret = old }, errdefs.ErrPermissionDenied, "is not known, or has expired"},
		{"no server's", func(a *peer.Application) { a.Server = true }, errdefs.ErrPermissionDenied, "not for servers"},
		{"a name that is none", func(a *peer.Application) { a.Host = "H 2" }, errdefs.ErrInvalidArgument, "not a DNS label"},
		{"nowhere", func(a *peer.Application) { a.Peer = "127.0.0.1:2377" }, errdefs.ErrInvalidArgument, "start it with --advertise"},
		{"taken", func(a *peer.Application) { a.Host = "h1" }, errdefs.ErrConflict, "host h1 is in the fleet already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := ask(c.change)
			assert.ErrorIs(t, err, c.class)
			assert.ErrorContains(t, err, c.words)
		})
	}
	assert.Equal(t, len(h.State.View().Members()), 1, "who is refused leaves nothing")
	assert.NilError(t, ask(func(*peer.Application) {}))
	assert.NilError(t, ask(func(*peer.Application) {}), "a try that was cut short may be repeated")
	assert.ErrorIs(t, ask(func(a *peer.Application) { a.Fingerprint = "other" }), errdefs.ErrConflict)
	server, ok := h.Admitted("h2", "key2")
	assert.Assert(t, ok && !server)
	_, ok = h.Admitted("h2", "other")
	assert.Assert(t, !ok)

	fresh := h.secretOf(t, true, 0, true)
	assert.ErrorIs(t, ask(func(*peer.Application) {}), errdefs.ErrPermissionDenied, "rotation ends older tokens")
	assert.NilError(t, ask(func(a *peer.Application) { a.Secret, a.Host, a.Fingerprint = fresh, "h3", "key3" }), "a server's token is good for a host")
	assert.Equal(t, len(h.State.View().JoinTokens()), 1)
}

func TestARemovedHostIsToldSo(t *testing.T) {
	h, _ := newTestHosts(t)
	_, err := h.State.Commit(t.Context(), state.Put(&state.Member{Name: "h2"}), state.Delete(&state.Member{Name: "h1"}))
	assert.NilError(t, err)
	assert.ErrorIs(t, h.Enrol(t.Context()), errdefs.ErrPermissionDenied)
	assert.ErrorContains(t, h.Run(t.Context()), "host h1 was removed from the fleet")
}

func TestHostsOfTheFleet(t *testing.T) {
	h, r := newTestHosts(t)
	gone := &state.Container{
		Account: nereid.Admin, ID: "c2", Name: "web", Host: "h2", Config: &container.Config{}, HostConfig: &container.HostConfig{},
		State: state.RunState{Status: state.StatusRunning},
	}
	_, err := h.State.Commit(t.Context(), state.Put(gone), state.Put(&state.Member{Name: "h2", Facts: state.Host{CPUs: 4, Version: "1"}}))
	assert.NilError(t, err)
	r.say("h2", nereid.HostUnreachable)
	all, err := h.List(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, len(all), 2)
	assert.Equal(t, all[0].State, nereid.HostAlive)
	assert.Assert(t, all[0].Server && all[0].Endpoint)
	assert.DeepEqual(t, all[1], nereid.HostStatus{
		Name: "h2", State: nereid.HostUnreachable, Version: "1", CPUs: 4, Containers: 1, Running: 1, Labels: map[string]string{},
	})
	_, err = h.Inspect(t.Context(), "h3")
	assert.ErrorIs(t, err, errdefs.ErrNotFound)
	assert.ErrorIs(t, h.Remove(t.Context(), "h3", false), errdefs.ErrNotFound)
	assert.ErrorIs(t, h.Remove(t.Context(), "h1", true), errdefs.ErrConflict)
	r.say("h2", nereid.HostAlive)
	assert.ErrorContains(t, h.Remove(t.Context(), "h2", false), "is alive and has 1 containers")
}

func TestOperatorsWords(t *testing.T) {
	h, _ := newTestHosts(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	s, err := h.Label(t.Context(), "h1", map[string]string{"rack": "r1", "disk": ""})
	assert.NilError(t, err)
	assert.DeepEqual(t, s.Labels, map[string]string{"rack": "r1"})
	_, err = h.Label(t.Context(), "h1", map[string]string{"": "x"})
	assert.ErrorIs(t, err, errdefs.ErrInvalidArgument)
	d, err := h.Drain(t.Context(), "h1")
	assert.NilError(t, err)
	assert.Equal(t, len(d.Stay), 0)
	host, _ := h.State.View().Host("h1")
	assert.Assert(t, host.Draining, "the host shows it when drain returns")
	assert.NilError(t, h.Enrol(t.Context()))
	host, _ = h.State.View().Host("h1")
	assert.Assert(t, host.Draining && host.Labels["rack"] == "r1", "a restart forgets nothing")
	assert.NilError(t, h.Resume(t.Context(), "h1"))
	host, _ = h.State.View().Host("h1")
	assert.Assert(t, !host.Draining)
	cancel()
	assert.NilError(t, <-done)
}

// TestAbsencesFollowTheRumour: what is unreachable is hidden; who left by its own will, and who is only suspected, is not.
func TestAbsencesFollowTheRumour(t *testing.T) {
	h, r := newTestHosts(t)
	var ops []state.Op
	for _, n := range []nereid.Host{"h2", "h3", "h4"} {
		ops = append(ops, state.Put(&state.Member{Name: n}))
	}
	_, err := h.State.Commit(t.Context(), ops...)
	assert.NilError(t, err)
	r.say("h2", nereid.HostUnreachable)
	r.say("h3", nereid.HostLeft)
	r.say("h4", nereid.HostSuspect)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.tellAbsences(ctx) }()
	absent := func(want int) {
		t.Helper()
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if all := h.State.View().Absences(); len(all) == want && (want == 0 || all[0].Host == "h2") {
				return poll.Success()
			}
			return poll.Continue("absent: %v", h.State.View().Absences())
		}, poll.WithTimeout(soon), poll.WithDelay(10*time.Millisecond))
	}
	absent(1)
	r.say("h2", nereid.HostAlive)
	absent(0)
	cancel()
	assert.NilError(t, <-done)

	_, err = h.State.Commit(t.Context(), state.Put(&state.Member{Name: "a0", Server: true}))
	assert.NilError(t, err)
	r.say("a0", nereid.HostAlive)
	assert.Equal(t, h.speaker(), nereid.Host("a0"))
	r.say("a0", nereid.HostUnreachable)
	assert.Equal(t, h.speaker(), nereid.Host("h1"))
}

func TestLivenessWithoutRumourGoesByTheLease(t *testing.T) {
	store := openTestState(t)
	l := NewLiveness("h1", store.View(), func() Rumour { return nil })
	assert.Equal(t, l.State("h1"), nereid.HostAlive)
	assert.Equal(t, l.State("h2"), nereid.HostUnreachable)
	_, err := store.Commit(t.Context(), state.Put(&state.Host{Name: "h2"}))
	assert.NilError(t, err)
	assert.Equal(t, l.State("h2"), nereid.HostAlive)
	assert.Assert(t, l.Gone("h2") == nil)
	assert.Equal(t, (*Liveness)(nil).State("h2"), nereid.HostAlive, "a host that knows of no others")
}

func TestWhatWaitsForAHostEndsWithIt(t *testing.T) {
	store := openTestState(t)
	r := &rumours{says: map[nereid.Host]nereid.HostState{}, gone: map[nereid.Host]chan struct{}{"h2": make(chan struct{})}}
	l := NewLiveness("h1", store.View(), func() Rumour { return r })
	ctx, cancel := l.Watched(t.Context(), "h2")
	defer cancel()
	assert.NilError(t, ctx.Err())
	close(r.gone["h2"])
	<-ctx.Done()
	assert.ErrorIs(t, context.Cause(ctx), errdefs.ErrUnavailable)
	assert.ErrorContains(t, context.Cause(ctx), "host h2 is unreachable")
}

// TestPathsAreToldOnceTheyAreSure: what a host's record says of its ways to the others, round by round.
func TestPathsAreToldOnceTheyAreSure(t *testing.T) {
	const mute, small = "no answer over UDP 4789", "mtu 1400 < 1450"
	var p paths
	many := map[nereid.Host]string{}
	for i := range pathTold + 3 {
		many[nereid.Host(fmt.Sprintf("m%02d", i))] = mute
	}
	for i, round := range []struct {
		trouble        map[nereid.Host]string
		changed, again bool
		want           string
	}{
		{nil, true, false, "ok"},
		{nil, false, false, "ok"},
		{map[nereid.Host]string{"h2": mute}, false, true, "ok"},
		{nil, false, false, "ok"},
		{map[nereid.Host]string{"h2": mute}, false, true, "ok"},
		{map[nereid.Host]string{"h2": mute, "h3": small}, true, true, "h2: " + mute},
		{map[nereid.Host]string{"h2": mute, "h3": small}, true, false, "h2: " + mute + " (and 1 more)"},
		{map[nereid.Host]string{"h2": small, "h3": small}, true, true, "h2: " + small + " (and 1 more)"},
		{map[nereid.Host]string{"h3": small}, true, false, "h3: " + small},
		{nil, true, false, "ok"},
		{many, false, true, "ok"},
		{many, true, false, "m00: " + mute + " (and 18 more)"},
	} {
		changed, again := p.found(1450, round.trouble)
		assert.Equal(t, changed, round.changed, "round %d", i)
		assert.Equal(t, again, round.again, "round %d", i)
		assert.Equal(t, p.current().String(), round.want, "round %d", i)
	}
	p.found(0, nil)
	assert.Equal(t, p.current().MTU, 1450, "when nobody was there to try")
}

func TestDescribeWay(t *testing.T) {
	for want, way := range map[string]network.Way{
		"": {Full: 1450, Passes: 1450}, "mtu 1400 < 1450": {Full: 1450, Passes: 1400}, "no answer over UDP 4789": {Full: 1450},
	} {
		assert.Equal(t, describeWay(way), want)
	}
}
