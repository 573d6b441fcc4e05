package state_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestDamagedDataIsRefused(t *testing.T) {
	t.Parallel()
	whole := testConfig(t)
	s, stop := run(t, whole)
	for i := range 200 {
		commit(t, s, state.Create(newContainer(numbered(i), "x")), state.Emit(newEvent("create", i)))
	}
	stop()

	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, db, wal string)
	}{
		{"database cut short", func(t *testing.T, db, _ string) { resize(t, db, 10*4096) }},
		{"database cut to its first page", func(t *testing.T, db, _ string) { resize(t, db, 4096) }},
		{"database of some bytes", func(t *testing.T, db, _ string) { resize(t, db, 100) }},
		{"database empty", func(t *testing.T, db, _ string) { resize(t, db, 0) }},
		{"database missing", func(t *testing.T, db, _ string) { assert.NilError(t, os.Remove(db)) }},
		{"database of garbage", func(t *testing.T, db, _ string) { garble(t, db, 0, size(t, db)) }},
		{"database with garbage pages", func(t *testing.T, db, _ string) { garble(t, db, 4*4096, size(t, db)-4*4096) }},
		{"log of garbage", func(t *testing.T, _, wal string) { garble(t, wal, 0, 1<<20) }},
		{"log with garbage inside", func(t *testing.T, _, wal string) { garble(t, wal, 20_000, 100) }},
		{"log cut short", func(t *testing.T, _, wal string) { resize(t, wal, 20_000) }},
		{"log empty", func(t *testing.T, _, wal string) { resize(t, wal, 0) }},
		{"log missing", func(t *testing.T, _, wal string) { assert.NilError(t, os.Remove(wal)) }},
	} {
		t.Run(tc.name, func(t *testing.T) { // one at a time: copies are members of one id, which elect would mix up
			cfg := testConfig(t)
			assert.NilError(t, os.CopyFS(cfg.Dir, os.DirFS(whole.Dir)))
			db, wal := filepath.Join(cfg.Dir, "member", "snap", "db"), segment(t, cfg.Dir)
			tc.damage(t, db, wal)
			_, err := state.Open(testContext(t), cfg)
			assert.ErrorIs(t, err, errdefs.ErrDataLoss)
			assert.ErrorContains(t, err, fmt.Sprintf("the state in %q is damaged", cfg.Dir))
			t.Log(err)

			// Nothing holds on to the directory: what was restored opens.
			assert.NilError(t, os.RemoveAll(cfg.Dir))
			assert.NilError(t, os.CopyFS(cfg.Dir, os.DirFS(whole.Dir)))
			assert.Equal(t, len(open(t, cfg).View().Containers(nereid.Admin)), 200)
		})
	}
}

func TestWhatACrashLeavesIsNoDamage(t *testing.T) {
	t.Parallel()
	t.Run("a record half written", func(t *testing.T) {
		cfg := testConfig(t)
		s, stop := run(t, cfg)
		commit(t, s, state.Create(newContainer(id("a"), "x")))
		stop()
		// The log's file is zeros from the last record on; the length and the first sector of one follow.
		f, err := os.OpenFile(segment(t, cfg.Dir), os.O_RDWR, 0)
		assert.NilError(t, err)
		_, err = f.WriteAt([]byte{0xd0, 7, 0, 0, 0, 0, 0, 0, 1, 2, 3}, endOfLog(t, f))
		assert.NilError(t, err)
		assert.NilError(t, f.Close())
		s, _ = run(t, cfg)
		assert.Equal(t, len(s.View().Containers(nereid.Admin)), 1)
		commit(t, s, state.Create(newContainer(id("b"), "y")))
	})
	t.Run("a first boot cut short", func(t *testing.T) {
		cfg := testConfig(t)
		snap := filepath.Join(cfg.Dir, "member", "snap")
		assert.NilError(t, os.MkdirAll(snap, 0o700))
		assert.NilError(t, os.WriteFile(filepath.Join(snap, "db"), nil, 0o600))
		commit(t, open(t, cfg), state.Create(newContainer(id("a"), "x")))
	})
}

// endOfLog is where the last record ends: records are padded to eight bytes, and no length is zero.
func endOfLog(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	assert.NilError(t, err)
	all := make([]byte, info.Size())
	_, err = f.ReadAt(all, 0)
	assert.NilError(t, err)
	end := len(all)
	for end > 0 && all[end-1] == 0 {
		end--
	}
	return int64(end+7) / 8 * 8
}

func segment(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	assert.NilError(t, err)
	assert.Equal(t, len(files), 1)
	return files[0]
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	assert.NilError(t, err)
	return info.Size()
}

func resize(t *testing.T, path string, to int64) {
	t.Helper()
	assert.NilError(t, os.Truncate(path, to))
}

func garble(t *testing.T, path string, at, n int64) {
	t.Helper()
	b := make([]byte, n)
	_, _ = rand.Read(b)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	assert.NilError(t, err)
	_, err = f.WriteAt(b, at)
	assert.NilError(t, err)
	assert.NilError(t, f.Close())
}
