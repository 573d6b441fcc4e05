package state_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap/zaptest"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

const testHost nereid.Host = "h1"

// tempDir is short, unlike t.TempDir: a unix socket's path holds 107 bytes.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "state")
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	return dir
}

func testConfig(t testing.TB) state.Config {
	t.Helper()
	dir := tempDir(t)
	return state.Config{
		Dir:    filepath.Join(dir, "etcd"),
		Socket: filepath.Join(dir, "s"),
		Host:   testHost,
		Log:    zaptest.NewLogger(t),
	}
}

// patience bounds what a test waits for: a server that gets a hundredth of a processor was not ready after 30 seconds.
const patience = 90 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open opens a store without running it; the test's end closes it.
func open(t testing.TB, cfg state.Config) *state.Store {
	t.Helper()
	s, err := state.Open(testContext(t), cfg)
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, s.Close()) })
	return s
}

// run opens a store and runs it until the test ends, or stop is called.
func run(t testing.TB, cfg state.Config) (s *state.Store, stop func()) {
	t.Helper()
	s = open(t, cfg)
	return s, runStore(t, s)
}

func runStore(t testing.TB, s *state.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			assert.Check(t, <-done)
			assert.Check(t, s.Close())
		}
	}
	t.Cleanup(stop)
	return stop
}

func commit(t testing.TB, s *state.Store, ops ...state.Op) state.Revision {
	t.Helper()
	rev, err := s.Commit(testContext(t), ops...)
	assert.NilError(t, err)
	return rev
}

// id makes an id that starts with a prefix.
func id(prefix string) nereid.ContainerID {
	return nereid.ContainerID(prefix + fmt.Sprintf("%064x", 0)[len(prefix):])
}

func numbered(n int) nereid.ContainerID { return nereid.ContainerID(fmt.Sprintf("%064x", n)) }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func newContainer(id nereid.ContainerID, name string) *state.Container {
	return &state.Container{
		Account: nereid.Admin, ID: id, Name: name, Host: testHost, Created: epoch,
		Image: "busybox", ImageID: "sha256:abc",
		Config:     &container.Config{Image: "busybox", Cmd: []string{"true"}, Labels: map[string]string{"a": "b"}},
		HostConfig: &container.HostConfig{NetworkMode: "bridge"},
		State:      state.RunState{Status: state.StatusCreated},
	}
}

func nameOf(c *state.Container) *state.Name {
	return &state.Name{Account: c.Account, Name: c.Name, Container: c.ID}
}

func newEvent(action string, n int) *state.Event {
	return &state.Event{Account: nereid.Admin, Message: events.Message{
		Type: events.ContainerEventType, Action: events.Action(action),
		Actor: events.Actor{ID: string(numbered(n)), Attributes: map[string]string{"name": "web"}},
	}}
}
