package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestRestartKeepsAll(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, stop := run(t, cfg)
	for i := range 50 {
		c := newContainer(numbered(i), fmt.Sprint("web", i))
		commit(t, s, state.Create(nameOf(c)), state.Create(c), state.Emit(newEvent("create", i)))
	}
	commit(t, s, state.Delete(newContainer(numbered(7), "")))
	before, rev := s.View().Containers(nereid.Admin), s.View().Revision()
	stop()

	s, _ = run(t, cfg)
	assert.DeepEqual(t, s.View().Containers(nereid.Admin), before)
	assert.Assert(t, s.View().Revision() >= rev)
	assert.Equal(t, len(s.View().Events(0, 0).Ready()), 50)
	c := before[0].Clone()
	c.Starts++
	commit(t, s, state.Update(c))
}

// TestKilledInTheMiddle opens a copy of the directory of a running store, which is what a kill leaves: the log is
// whole, the database lags behind.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, _ := run(t, cfg)
	for i := range 30 {
		c := newContainer(numbered(i), "x")
		commit(t, s, state.Create(c))
		if i == 0 || i == 29 {
			killed := cfg
			killed.Dir = filepath.Join(tempDir(t), "etcd")
			killed.Socket = ""
			assert.NilError(t, os.CopyFS(killed.Dir, os.DirFS(cfg.Dir)))
			k := open(t, killed)
			assert.DeepEqual(t, k.View().Containers(nereid.Admin), s.View().Containers(nereid.Admin))
			assert.NilError(t, k.Close())
		}
	}
}

func TestNothingIsOnTheNetwork(t *testing.T) { // not beside tests that are
	core, logs := observer.New(zapcore.DebugLevel)
	cfg := testConfig(t)
	cfg.Log = zap.New(core)
	_, stop := run(t, cfg)
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		assert.Equal(t, listening(t, file), 0)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + cfg.Socket}, DialTimeout: time.Second})
	assert.NilError(t, err)
	_, err = client.Get(testContext(t), state.SchemaKey)
	assert.NilError(t, err)
	assert.NilError(t, client.Close())
	stop()
	for _, e := range logs.All() {
		t.Errorf("logged without need: %s %s", e.Level, e.Message)
	}
}

// listening counts this process's listening sockets of a table of /proc/net.
func listening(t *testing.T, file string) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	assert.NilError(t, err)
	own := map[string]bool{}
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil {
			own[link] = true
		}
	}
	table, err := os.ReadFile(file)
	assert.NilError(t, err)
	n := 0
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 9 && f[3] == "0A" && own["socket:["+f[9]+"]"] {
			n++
		}
	}
	return n
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		cfg  state.Config
		text string
	}{
		{"no host", state.Config{Dir: "/x"}, "state: no host name given"},
		{"no place", state.Config{Host: "h"}, "state: neither a directory nor endpoints of etcd given"},
		{"a socket path too long", state.Config{Host: "h", Dir: "/x", Socket: strings.Repeat("x", 108)},
			fmt.Sprintf("state: socket path %q is longer than 107 bytes", strings.Repeat("x", 108))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := state.Open(testContext(t), tc.cfg)
			assert.Error(t, err, tc.text)
		})
	}
}

func TestDirectoryInUse(t *testing.T) {
	t.Parallel()
	t.Run("by another of us", func(t *testing.T) {
		t.Parallel()
		cfg := testConfig(t)
		_, stop := run(t, cfg)
		began := time.Now()
		_, err := state.Open(testContext(t), cfg)
		assert.ErrorIs(t, err, errdefs.ErrUnavailable)
		assert.ErrorContains(t, err, fmt.Sprintf("%q is in use by another process", cfg.Dir))
		assert.Assert(t, time.Since(began) < 10*time.Second)
		stop()
		open(t, cfg)
	})
	t.Run("by somebody who has the database open", func(t *testing.T) {
		t.Parallel()
		cfg := testConfig(t)
		assert.NilError(t, open(t, cfg).Close())
		db, err := bbolt.Open(filepath.Join(cfg.Dir, "member", "snap", "db"), 0o600, nil)
		assert.NilError(t, err)
		_, err = state.Open(testContext(t), cfg)
		assert.ErrorIs(t, err, errdefs.ErrUnavailable)
		assert.ErrorContains(t, err, "is in use by another process")
		assert.NilError(t, db.Close())
	})
	t.Run("a context that ends", func(t *testing.T) {
		cfg := testConfig(t)
		run(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := state.Open(ctx, cfg)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func TestSchemaVersion(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		version string
		class   error
		text    string
	}{
		{"99", errdefs.ErrFailedPrecondition, "the state has version 99, this nereid knows up to 1"},
		{"rubbish", errdefs.ErrDataLoss, `version of the state is "rubbish"`},
	} {
		t.Run(tc.version, func(t *testing.T) {
			cfg := testConfig(t)
			s, stop := run(t, cfg)
			_, err := s.Client().Put(testContext(t), state.SchemaKey, tc.version)
			assert.NilError(t, err)
			stop()
			_, err = state.Open(testContext(t), cfg)
			assert.ErrorIs(t, err, tc.class)
			assert.ErrorContains(t, err, tc.text)
		})
	}
}

func TestUnreadableRecord(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, stop := run(t, cfg)
	key := state.Root + "volumes/admin/data"
	_, err := s.Client().Put(testContext(t), key, "{")
	assert.NilError(t, err)
	v := &state.Volume{Account: nereid.Admin, Name: "other"}
	commit(t, s, state.Create(v)) // a bad record does not stop the view
	assert.Equal(t, len(s.View().Volumes(nereid.Admin)), 1)
	stop()
	_, err = state.Open(testContext(t), cfg)
	assert.ErrorIs(t, err, errdefs.ErrDataLoss)
	assert.ErrorContains(t, err, fmt.Sprintf("open the state in %q: ", cfg.Dir))
	assert.ErrorContains(t, err, fmt.Sprintf("record %q is damaged", key))
}

func TestKeysOfANewerVersionAreLeftAlone(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, stop := run(t, cfg)
	_, err := s.Client().Put(testContext(t), state.Root+"quotas/admin", "1")
	assert.NilError(t, err)
	commit(t, s, state.Create(&state.Volume{Account: nereid.Admin, Name: "other"}))
	stop()
	s, _ = run(t, cfg)
	assert.Equal(t, countKeys(t, s, state.Root+"quotas/"), int64(1))
}

func TestHostRecordLivesByTheLease(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	commit(t, s, state.Put(&state.Host{Name: testHost, CPUs: 4}), state.Put(&state.Host{Name: "h2"}))
	w := s.View().Watch(state.KindHost)
	defer w.Close()

	first := s.LeaseID()
	assert.NilError(t, s.RenewLease(testContext(t)))
	assert.Equal(t, s.LeaseID(), first)

	_, err := s.Client().Revoke(testContext(t), first)
	assert.NilError(t, err)
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if _, ok := s.View().Host(testHost); ok {
			return poll.Continue("the record outlives its lease")
		}
		return poll.Success()
	}, poll.WithTimeout(patience), poll.WithDelay(time.Millisecond))
	_, ok := s.View().Host("h2")
	assert.Assert(t, ok, "another host's record hangs on our lease")

	assert.NilError(t, s.RenewLease(testContext(t)))
	assert.Assert(t, s.LeaseID() != first)
	h, ok := s.View().Host(testHost)
	assert.Assert(t, ok, "the record was not written again")
	assert.Equal(t, h.CPUs, 4)

	_, err = s.Client().Revoke(testContext(t), s.LeaseID())
	assert.NilError(t, err)
	commit(t, s, state.Put(&state.Host{Name: testHost, CPUs: 8})) // takes a new lease by itself
	h, _ = s.View().Host(testHost)
	assert.Equal(t, h.CPUs, 8)
	left, err := s.Client().TimeToLive(testContext(t), s.LeaseID(), clientv3.WithAttachedKeys())
	assert.NilError(t, err)
	assert.Equal(t, len(left.Keys), 1)
}

// TestRunEndsWithEtcd: what ends etcd, or would have it end the process, is an error of Run and no more.
func TestRunEndsWithEtcd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		end   func(*state.Store)
		class error
		text  string
	}{
		{"stop", (*state.Store).StopMember, errdefs.ErrUnavailable, "stopped"},
		{"fatal", func(s *state.Store) {
			s.EtcdLogger().Fatal("failed to save", zap.Error(errors.New("no disk")))
		}, errdefs.ErrInternal, "gave up: failed to save: no disk"},
		{"panic", func(s *state.Store) { s.EtcdLogger().Panic("unexpected") }, errdefs.ErrInternal, "gave up: unexpected"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			s := open(t, cfg)
			done := make(chan error, 1)
			go func() { done <- s.Run(t.Context()) }()
			go tc.end(s)
			select {
			case err := <-done:
				assert.ErrorIs(t, err, tc.class)
				assert.ErrorContains(t, err, fmt.Sprintf("etcd in %q ", cfg.Dir))
				assert.ErrorContains(t, err, tc.text)
			case <-time.After(patience):
				t.Fatal("Run did not notice")
			}
		})
	}
}
