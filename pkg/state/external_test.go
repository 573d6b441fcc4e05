package state_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// cluster is an etcd that is not ours, which can be stopped and started. Stores reach it over a wire that can be cut.
type cluster struct {
	dir    string
	wire   *relay
	server *embed.Etcd
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	dir := tempDir(t)
	c := &cluster{dir: dir, wire: &relay{path: filepath.Join(dir, "wire"), to: filepath.Join(dir, "s")}}
	t.Cleanup(c.stop)
	c.start(t)
	c.wire.mend(t)
	return c
}

func (c *cluster) start(t testing.TB) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "external", filepath.Join(c.dir, "etcd")
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(c.dir, "p")}}
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: c.wire.to}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100
	server, err := embed.StartEtcd(cfg)
	assert.NilError(t, err)
	<-server.Server.ReadyNotify()
	c.server = server
}

// stop cuts the wire first: etcd gives its watchers five seconds to leave.
func (c *cluster) stop() {
	c.wire.cut()
	if c.server != nil {
		c.server.Close()
		c.server = nil
	}
}

// config is of a store that may be cut off; direct of one that may not.
func (c *cluster) config(t testing.TB, host nereid.Host) state.Config {
	t.Helper()
	return state.Config{Endpoints: []string{"unix://" + c.wire.path}, Host: host}
}

func (c *cluster) direct(host nereid.Host) state.Config {
	return state.Config{Endpoints: []string{"unix://" + c.wire.to}, Host: host}
}

// succeeds tries again until it does: a cluster on a busy machine is electing now and then.
func succeeds(t *testing.T, what string, try func() error) {
	t.Helper()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if err := try(); err != nil {
			return poll.Continue("not yet: %s: %v", what, err)
		}
		return poll.Success()
	}, poll.WithTimeout(patience), poll.WithDelay(2*time.Millisecond))
}

// until polls for what a watch brings.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	succeeds(t, what, func() error {
		if !cond() {
			return errors.New("it is not so")
		}
		return nil
	})
}

func TestTwoHostsSeeEachOther(t *testing.T) {
	t.Parallel()
	etcd := newCluster(t)
	s1, _ := run(t, etcd.config(t, "h1"))
	s2, _ := run(t, etcd.config(t, "h2"))

	c := newContainer(id("a"), "web")
	commit(t, s1, state.Create(nameOf(c)), state.Create(c), state.Emit(newEvent("create", 1)))
	seen, err := s2.View().WaitContainer(testContext(t), nereid.Admin, c.ID, func(c *state.Container) bool { return c != nil })
	assert.NilError(t, err)
	assert.DeepEqual(t, seen, c)

	// Who stumbles over another host's claim has learned of it.
	other := newContainer(id("b"), "web")
	_, err = s2.Commit(testContext(t), state.Create(nameOf(other)), state.Create(other))
	assert.ErrorIs(t, err, errdefs.ErrAlreadyExists)
	commit(t, s1, state.Delete(nameOf(c)), state.Delete(c))
	_, err = s2.Commit(testContext(t), state.Update(seen.Clone()))
	assert.ErrorIs(t, err, errdefs.ErrAborted)
	_, found := s2.View().Container(nereid.Admin, c.ID)
	assert.Assert(t, !found)
	commit(t, s2, state.Delete(c)) // nothing there any more
}

// TestOwnWritesAmongOthers has two stores write at once: each must see its own at the return of Commit, and both must
// end with the same view and the same order of events.
func TestOwnWritesAmongOthers(t *testing.T) {
	t.Parallel()
	etcd := newCluster(t)
	s1, _ := run(t, etcd.config(t, "h1"))
	s2, _ := run(t, etcd.config(t, "h2"))
	done := make(chan struct{})
	write := func(s *state.Store, host nereid.Host) {
		defer func() { done <- struct{}{} }()
		for i := range 100 {
			c := newContainer(numbered(i), "x")
			c.Host, c.Account = host, nereid.Account(host)
			_, err := s.Commit(t.Context(), state.Put(c), state.Emit(newEvent("create", i)))
			assert.Check(t, err)
			_, ok := s.View().Container(c.Account, c.ID)
			assert.Check(t, ok)
			if i%2 == 0 {
				_, err := s.Commit(t.Context(), state.Delete(c))
				assert.Check(t, err)
				_, ok := s.View().Container(c.Account, c.ID)
				assert.Check(t, !ok, "a deleted container came back")
			}
		}
	}
	go write(s1, "h1")
	go write(s2, "h2")
	<-done
	<-done
	until(t, "both views are at the end", func() bool { return s1.View().Revision() == s2.View().Revision() })
	for _, account := range []nereid.Account{"h1", "h2"} {
		assert.Equal(t, len(s1.View().Containers(account)), 50)
		assert.DeepEqual(t, s1.View().Containers(account), s2.View().Containers(account))
	}
	e1, e2 := s1.View().Events(0, 0).Ready(), s2.View().Events(0, 0).Ready()
	assert.Equal(t, len(e1), 200)
	assert.Equal(t, len(e2), 200)
	for i := range e1 {
		assert.Equal(t, e1[i].Rev, e2[i].Rev)
		assert.DeepEqual(t, e1[i].Message, e2[i].Message)
	}
}

func TestEtcdRestartsUnderTheStore(t *testing.T) {
	t.Parallel()
	etcd := newCluster(t)
	s, _ := run(t, etcd.config(t, "h1"))
	c := newContainer(id("a"), "web")
	commit(t, s, state.Create(c), state.Put(&state.Host{Name: "h1"}))
	w := s.View().Watch(state.KindContainer)
	defer w.Close()

	etcd.stop()
	assert.Equal(t, len(s.View().Containers(nereid.Admin)), 1, "reads need no etcd")
	etcd.start(t)
	etcd.wire.mend(t)

	// What another writes after the restart reaches the view, by the watch alone.
	other := newContainer(id("b"), "other")
	writer := open(t, etcd.config(t, "h2"))
	commit(t, writer, state.Create(other))
	changes, err := w.Next(testContext(t))
	assert.NilError(t, err)
	assert.Equal(t, len(changes), 1)
	assert.DeepEqual(t, changes[0].New, other)
	commit(t, s, state.Update(c))
	_, ok := s.View().Host("h1")
	assert.Assert(t, ok)
}

// TestChangesLostToCompactionAreFound changes and compacts the state while the store is cut off, so that no watch can
// tell what happened.
func TestChangesLostToCompactionAreFound(t *testing.T) {
	t.Parallel()
	etcd := newCluster(t)
	s, _ := run(t, etcd.config(t, "h1"))
	kept, changed, gone := newContainer(id("a"), "a"), newContainer(id("b"), "b"), newContainer(id("c"), "c")
	commit(t, s, state.Create(kept), state.Create(changed), state.Create(gone), state.Emit(newEvent("create", 1)))
	w := s.View().Watch()
	defer w.Close()
	before := s.View().Events(s.View().Revision(), 0)
	waited := make(chan *state.Container, 1)
	go func() {
		c, err := s.View().WaitContainer(testContext(t), nereid.Admin, gone.ID, func(c *state.Container) bool { return c == nil })
		assert.Check(t, err)
		waited <- c
	}()

	etcd.wire.cut()
	writer := open(t, etcd.direct("h2"))
	next := changed.Clone()
	next.RestartCount = 5
	fresh := newContainer(id("d"), "d")
	commit(t, writer, state.Update(next), state.Emit(newEvent("first", 2)), state.Emit(newEvent("second", 2)))
	commit(t, writer, state.Delete(gone), state.Create(fresh))
	commit(t, writer, state.Emit(newEvent("third", 2)))
	_, err := writer.Client().Compact(testContext(t), int64(writer.View().Revision()))
	assert.NilError(t, err)
	assert.NilError(t, writer.Close())
	etcd.wire.mend(t)

	var got []state.Change
	for len(got) < 3 {
		changes, err := w.Next(testContext(t))
		assert.NilError(t, err)
		got = append(got, changes...)
	}
	assert.DeepEqual(t, got, []state.Change{{Old: gone}, {Old: changed, New: next}, {New: fresh}})
	assert.Assert(t, <-waited == nil)
	var actions []string
	for len(actions) < 3 {
		events, err := before.Next(testContext(t))
		assert.NilError(t, err)
		for _, e := range events {
			actions = append(actions, string(e.Message.Action))
		}
	}
	assert.DeepEqual(t, actions, []string{"first", "second", "third"})
	commit(t, s, state.Update(kept))
}

func TestCompactionKeepsAMarginAndLosesNoRecord(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	s, stop := run(t, cfg)
	c := newContainer(id("a"), "a")
	for range 1100 {
		commit(t, s, state.Put(c))
	}
	rev := int64(s.View().Revision())
	assert.NilError(t, s.Compact(testContext(t)))
	assert.NilError(t, s.Compact(testContext(t)))
	_, err := s.Client().Get(testContext(t), "x", clientv3.WithRev(rev-1001))
	assert.ErrorContains(t, err, "compacted")
	_, err = s.Client().Get(testContext(t), "x", clientv3.WithRev(rev-1000))
	assert.NilError(t, err)
	stop()
	s, _ = run(t, cfg)
	assert.Equal(t, len(s.View().Containers(nereid.Admin)), 1)
}

func TestManyRecordsAreReadInPages(t *testing.T) {
	t.Parallel()
	etcd := newCluster(t)
	client := open(t, etcd.direct("h2")).Client()
	const n = 12_000
	for i := 0; i < n; i += 120 {
		var ops []clientv3.Op
		for j := i; j < i+120; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%svolumes/admin/v%d", state.Root, j),
				fmt.Sprintf(`{"Account":"admin","Name":"v%d"}`, j)))
		}
		_, err := client.Txn(testContext(t)).Then(ops...).Commit()
		assert.NilError(t, err)
	}
	s := open(t, etcd.config(t, "h1"))
	assert.Equal(t, len(s.View().Volumes(nereid.Admin)), n)
}

func TestUnreachableCluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := state.Open(ctx, state.Config{Endpoints: []string{"unix:///nowhere"}, Host: "h1"})
	assert.ErrorIs(t, err, errdefs.ErrUnavailable)
	assert.ErrorContains(t, err, `open the state in ["unix:///nowhere"]`)
}
