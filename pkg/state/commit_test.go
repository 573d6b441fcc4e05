package state_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/assert/cmp"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestCommitIsSeenByTheNextRead(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	c := newContainer(id("abc"), "web")
	rev := commit(t, s, state.Create(nameOf(c)), state.Create(c), state.Emit(newEvent("create", 1)))

	got, err := s.View().FindContainer(nereid.Admin, "web")
	assert.NilError(t, err)
	assert.DeepEqual(t, got, c)
	assert.Equal(t, got.Rev, rev)
	assert.Assert(t, got != c, "the view holds the caller's record")
	assert.Equal(t, s.View().Revision(), rev)

	rev = commit(t, s, state.Delete(nameOf(c)), state.Delete(c))
	_, err = s.View().FindContainer(nereid.Admin, "web")
	assert.ErrorIs(t, err, errdefs.ErrNotFound)
	assert.Equal(t, s.View().Revision(), rev)
}

func TestConflictNamesTheRecordAndStoresNothing(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	taken := newContainer(id("a"), "web")
	gone := newContainer(id("b"), "gone")
	commit(t, s, state.Create(nameOf(taken)), state.Create(taken), state.Create(gone))
	stale := taken.Clone()
	commit(t, s, state.Update(taken))
	commit(t, s, state.Delete(gone))
	other := newContainer(id("c"), "web")

	for _, tc := range []struct {
		name     string
		op       state.Op
		class    error
		existing state.Record
		text     string
	}{
		{"create of a taken name", state.Create(nameOf(other)), errdefs.ErrAlreadyExists, nameAt(s, "web"),
			`record "/nereid/v1/names/admin/web": already exists`},
		{"update of a changed record", state.Update(stale), errdefs.ErrAborted, taken,
			fmt.Sprintf(`record "/nereid/v1/containers/h1/admin/%s" has changed since revision %d: aborted`, taken.ID, stale.Rev)},
		{"update of a deleted record", state.Update(gone), errdefs.ErrAborted, nil,
			fmt.Sprintf(`record "/nereid/v1/containers/h1/admin/%s" has changed since revision %d: aborted`, gone.ID, gone.Rev)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := s.View().Revision()
			_, err := s.Commit(testContext(t), state.Create(other), tc.op, state.Emit(newEvent("create", 1)))
			assert.ErrorIs(t, err, tc.class)
			assert.Error(t, err, tc.text)
			conflict, ok := state.AsConflict(fmt.Errorf("wrapped: %w", err))
			assert.Assert(t, ok)
			assert.DeepEqual(t, conflict.Existing, tc.existing)
			_, found := s.View().Container(nereid.Admin, other.ID)
			assert.Assert(t, !found, "part of a refused transaction was stored")
			assert.Equal(t, s.View().Revision(), before)
			assert.Equal(t, other.Rev, state.Revision(0))
		})
	}
}

func nameAt(s *state.Store, name string) *state.Name {
	n, _ := s.View().Name(nereid.Admin, name)
	return n
}

func TestOpsOfOneRecord(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	c := newContainer(id("a"), "web")

	t.Run("put creates and replaces", func(t *testing.T) {
		commit(t, s, state.Put(c))
		c.RestartCount = 7
		commit(t, s, state.Put(c))
		got, _ := s.View().Container(nereid.Admin, c.ID)
		assert.Equal(t, got.RestartCount, 7)
	})
	t.Run("update of revision 0 creates, once", func(t *testing.T) {
		commit(t, s, state.Update(&state.Port{Proto: "tcp", Port: 80}))
		_, err := s.Commit(testContext(t), state.Update(&state.Port{Proto: "tcp", Port: 80}))
		assert.ErrorIs(t, err, errdefs.ErrAborted)
	})
	t.Run("more ops than a transaction holds are refused", func(t *testing.T) {
		var ops []state.Op
		for i := range 1025 {
			ops = append(ops, state.Put(newContainer(numbered(1000+i), "x")))
		}
		_, err := s.Commit(testContext(t), ops...)
		assert.ErrorIs(t, err, errdefs.ErrInvalidArgument)
	})
	t.Run("delete of nothing is no error and no change", func(t *testing.T) {
		before := s.View().Revision()
		rev := commit(t, s, state.Delete(newContainer(id("b"), "none")))
		assert.Equal(t, rev, before)
	})
	t.Run("delete of something and of nothing", func(t *testing.T) {
		commit(t, s, state.Delete(c), state.Delete(newContainer(id("b"), "none")))
		assert.Assert(t, cmp.Len(s.View().Containers(nereid.Admin), 0))
	})
	t.Run("no ops", func(t *testing.T) {
		commit(t, s)
	})
	t.Run("a record without its identity is refused", func(t *testing.T) {
		_, err := s.Commit(testContext(t), state.Put(&state.Container{Account: "a", ID: "b"}))
		assert.ErrorIs(t, err, errdefs.ErrInvalidArgument)
	})
	t.Run("a record in two ops is refused", func(t *testing.T) {
		_, err := s.Commit(testContext(t), state.Put(c), state.Create(c))
		assert.ErrorIs(t, err, errdefs.ErrInvalidArgument)
	})
	t.Run("a context that ended stores nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Commit(ctx, state.Put(c))
		assert.ErrorIs(t, err, context.Canceled)
		assert.Assert(t, cmp.Len(s.View().Containers(nereid.Admin), 0))
	})
	t.Run("a name cannot reach into another account", func(t *testing.T) {
		commit(t, s, state.Create(&state.Volume{Account: "a/b", Name: "c"}))
		commit(t, s, state.Create(&state.Volume{Account: "a", Name: "b/c"}))
	})
}

func TestOneOfManyCreatesWins(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var winners []nereid.ContainerID
	for i := range 100 {
		wg.Go(func() {
			c := newContainer(numbered(i), "web")
			_, err := s.Commit(t.Context(), state.Create(nameOf(c)), state.Create(c))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				winners = append(winners, c.ID)
				return
			}
			assert.Check(t, cmp.ErrorIs(err, errdefs.ErrAlreadyExists))
			// Whoever lost can tell its user to whom.
			_, err = s.View().FindContainer(nereid.Admin, "web")
			assert.Check(t, err)
		})
	}
	wg.Wait()
	assert.Assert(t, cmp.Len(winners, 1))
	got, err := s.View().FindContainer(nereid.Admin, "web")
	assert.NilError(t, err)
	assert.Equal(t, got.ID, winners[0])
	assert.Assert(t, cmp.Len(s.View().Containers(nereid.Admin), 1))
}

func TestUpdatesThatRaceAllCountWhenTriedAgain(t *testing.T) {
	t.Parallel()
	s, _ := run(t, testConfig(t))
	commit(t, s, state.Create(&state.Port{Proto: "tcp", Port: 80}))
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			for range 5 {
				assert.Check(t, addClaim(t.Context(), s, numbered(i)))
			}
		})
	}
	wg.Wait()
	p, _ := s.View().Port("tcp", 80)
	assert.Equal(t, len(p.Claims), 50)
}

func addClaim(ctx context.Context, s *state.Store, id nereid.ContainerID) error {
	for {
		old, _ := s.View().Port("tcp", 80)
		p := old.Clone()
		p.Claims = append(p.Claims, state.PortClaim{Container: id})
		_, err := s.Commit(ctx, state.Update(p))
		if !errors.Is(err, errdefs.ErrAborted) {
			return err
		}
		if again, _ := s.View().Port("tcp", 80); again.Rev == old.Rev {
			return errors.New("a refused update did not learn why")
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	s, _ := run(b, testConfig(b))
	c := newContainer(id("abc"), "web")
	b.ReportAllocs()
	for b.Loop() {
		commit(b, s, state.Put(c), state.Emit(newEvent("start", 1)))
	}
}

func BenchmarkCommitParallel(b *testing.B) {
	s, _ := run(b, testConfig(b))
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		c := newContainer(nereid.NewContainerID(), "web")
		for pb.Next() {
			if _, err := s.Commit(b.Context(), state.Put(c), state.Emit(newEvent("start", 1))); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	cfg := testConfig(b)
	for b.Loop() {
		s := open(b, cfg)
		assert.NilError(b, s.Close())
	}
}
