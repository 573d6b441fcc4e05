package volume_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/continuity/sysx"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func data() *state.Volume {
	return &state.Volume{Account: nereid.Admin, Name: "data", Created: epoch}
}

func newStore(t *testing.T) (s *volume.Store, root string) {
	t.Helper()
	root = t.TempDir()
	return volume.NewStore(root), root
}

func path(t *testing.T, s *volume.Store, v *state.Volume) string {
	t.Helper()
	p, err := s.Path(t.Context(), v)
	assert.NilError(t, err)
	return p
}

func write(t *testing.T, file, text string) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	assert.NilError(t, os.WriteFile(file, []byte(text), 0o644))
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	assert.NilError(t, err)
	return string(b)
}

func TestPath(t *testing.T) {
	s, root := newStore(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)

	p := path(t, s, data())

	assert.Equal(t, p, filepath.Join(root, "volumes", "admin", "data", "_data"))
	assert.Equal(t, p, volume.Mountpoint(root, nereid.Admin, "data"))
	info, err := os.Stat(p)
	assert.NilError(t, err)
	assert.Equal(t, info.Mode(), fs.ModeDir|0o755, "whatever the umask")
	write(t, filepath.Join(p, "f"), "kept")
	assert.Equal(t, path(t, s, data()), p)
	assert.Equal(t, read(t, filepath.Join(p, "f")), "kept")
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	s, _ := newStore(t)
	for _, name := range []string{"", "..", "a/b", ".gone-1", "/etc"} {
		v := data()
		v.Name = name
		_, err := s.Path(t.Context(), v)
		assert.ErrorType(t, err, errdefs.IsInvalidArgument, name)
		assert.ErrorType(t, s.Delete(t.Context(), v), errdefs.IsInvalidArgument, name)
	}
}

func TestDelete(t *testing.T) {
	s, root := newStore(t)
	write(t, filepath.Join(path(t, s, data()), "sub", "f"), "x")
	assert.NilError(t, s.Delete(t.Context(), data()))
	assert.NilError(t, s.Delete(t.Context(), data()), "not there is no error")
	left, err := filepath.Glob(filepath.Join(root, "volumes", "*", "*"))
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0, left)
}

// TestDataOfARemovedVolumeIsNotTheNextOnes: the daemon ended after the record went and before the data did.
func TestDataOfARemovedVolumeIsNotTheNextOnes(t *testing.T) {
	s, root := newStore(t)
	write(t, filepath.Join(path(t, s, data()), "secret"), "old")
	next := data()
	next.Created = epoch.Add(time.Hour)

	p := path(t, s, next)

	empty, err := volume.Empty(p)
	assert.NilError(t, err)
	assert.Assert(t, empty)
	assert.NilError(t, s.Sweep(t.Context()))
	trash, err := filepath.Glob(filepath.Join(root, "volumes", ".gone-*"))
	assert.NilError(t, err)
	assert.Equal(t, len(trash), 0)
}

func TestUsageCountsAFileOnce(t *testing.T) {
	s, _ := newStore(t)
	p := path(t, s, data())
	write(t, filepath.Join(p, "a"), strings.Repeat("x", 1000))
	write(t, filepath.Join(p, "sub", "b"), strings.Repeat("x", 234))
	assert.NilError(t, os.Link(filepath.Join(p, "a"), filepath.Join(p, "link")))
	n, err := s.Usage(t.Context(), data())
	assert.NilError(t, err)
	assert.Equal(t, n, int64(1234))

	other := data()
	other.Name = "absent"
	n, err = s.Usage(t.Context(), other)
	assert.NilError(t, err)
	assert.Equal(t, n, int64(0))
}

// image makes a root file system with everything a file can be at /srv.
func image(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	srv := filepath.Join(root, "srv")
	write(t, filepath.Join(srv, "plain"), "content")
	write(t, filepath.Join(srv, "sub", "deep"), "deep")
	must := func(err error) { t.Helper(); assert.NilError(t, err) }
	must(os.Chmod(filepath.Join(srv, "plain"), 0o4711|fs.ModeSetuid))
	must(os.Chown(filepath.Join(srv, "plain"), 1000, 1001))
	must(os.Chmod(filepath.Join(srv, "plain"), 0o711|fs.ModeSetuid)) // a change of owner clears it
	must(sysx.LSetxattr(filepath.Join(srv, "plain"), "user.test", []byte("value"), 0))
	must(os.Link(filepath.Join(srv, "plain"), filepath.Join(srv, "hard")))
	must(os.Symlink("/etc/passwd", filepath.Join(srv, "soft")))
	must(os.Lchown(filepath.Join(srv, "soft"), 5, 6))
	must(unix.Mknod(filepath.Join(srv, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mkfifo(filepath.Join(srv, "pipe"), 0o640))
	must(os.Chmod(filepath.Join(srv, "sub"), 0o750|fs.ModeSticky))
	must(os.Chmod(srv, 0o2770|fs.ModeSetgid))
	must(os.Chown(srv, 70, 71))
	must(os.Chmod(srv, 0o770|fs.ModeSetgid))
	for i, name := range []string{"plain", "sub/deep", "sub", "."} {
		at := epoch.Add(time.Duration(i) * time.Minute)
		must(os.Chtimes(filepath.Join(srv, name), at, at))
	}
	return root
}

// describe lists a tree: mode, owner, time of what has one, and content or target.
func describe(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	assert.NilError(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(p)
		assert.NilError(t, err)
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(dir, p)
		line := fmt.Sprintf("%s %s %d:%d rdev=%d", rel, info.Mode(), st.Uid, st.Gid, st.Rdev)
		if e.IsDir() || info.Mode().IsRegular() {
			line += " " + info.ModTime().UTC().Format(time.RFC3339Nano)
		}
		if info.Mode().IsRegular() {
			line += fmt.Sprintf(" links=%d %q", st.Nlink, read(t, p))
			if v, err := sysx.LGetxattr(p, "user.test"); err == nil {
				line += " xattr=" + string(v)
			}
		}
		if target, err := os.Readlink(p); err == nil {
			line += " -> " + target
		}
		out = append(out, line)
		return nil
	}))
	return out
}

func TestCopyUpKeepsEverything(t *testing.T) {
	s, root := newStore(t)
	img := image(t)
	assert.NilError(t, s.CopyUp(t.Context(), data(), img, "/srv", ""))

	got := describe(t, volume.Mountpoint(root, nereid.Admin, "data"))
	assert.DeepEqual(t, got, describe(t, filepath.Join(img, "srv")))
	assert.Assert(t, slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "plain urwx--x--x 1000:1001") }), got)
	assert.Assert(t, slices.ContainsFunc(got, func(l string) bool { return strings.Contains(l, "links=2") && strings.HasSuffix(l, "xattr=value") }), got)
	beside, err := os.ReadDir(filepath.Join(root, "volumes", "admin", "data"))
	assert.NilError(t, err)
	assert.Equal(t, len(beside), 2, "only the data and its birth mark")
}

func TestCopyUp(t *testing.T) {
	tests := []struct {
		name  string
		image func(root string)            // at /srv
		vol   func(t *testing.T, p string) // before
		sub   string
		want  []string // names after
		err   string
	}{
		{name: "absent in the image", image: func(string) {}},
		{name: "volume with content is left alone",
			image: func(root string) { os.MkdirAll(filepath.Join(root, "srv", "new"), 0o755) },
			vol:   func(t *testing.T, p string) { write(t, filepath.Join(p, "old"), "x") },
			want:  []string{"old"}},
		{name: "a link within the image is followed",
			image: func(root string) {
				os.MkdirAll(filepath.Join(root, "real", "in"), 0o755)
				os.Symlink("/real", filepath.Join(root, "srv"))
			},
			want: []string{"in"}},
		{name: "a link that leads out of the image stays in it",
			image: func(root string) { os.Symlink("../../../../../../../../../proc/self", filepath.Join(root, "srv")) }},
		{name: "a file in the image",
			image: func(root string) { os.WriteFile(filepath.Join(root, "srv"), nil, 0o644) },
			err:   "cannot mount volume over existing file, file exists"},
		{name: "a part that is empty",
			image: func(root string) { write(t, filepath.Join(root, "srv", "in"), "x") },
			vol: func(t *testing.T, p string) {
				write(t, filepath.Join(p, "old"), "x")
				assert.NilError(t, os.MkdirAll(filepath.Join(p, "a", "b"), 0o755))
			},
			sub: "a/b", want: []string{"a", "a/b", "a/b/in", "old"}},
		{name: "a part with content is left alone",
			image: func(root string) { write(t, filepath.Join(root, "srv", "in"), "x") },
			vol:   func(t *testing.T, p string) { write(t, filepath.Join(p, "a", "old"), "x") },
			sub:   "a", want: []string{"a", "a/old"}},
		{name: "a part that is not there is not made",
			image: func(root string) { write(t, filepath.Join(root, "srv", "in"), "x") }, sub: "a"},
		{name: "a part that a link leads out to",
			image: func(root string) { write(t, filepath.Join(root, "srv", "in"), "x") },
			vol:   func(t *testing.T, p string) { assert.NilError(t, os.Symlink(t.TempDir(), filepath.Join(p, "a"))) },
			sub:   "a", want: []string{"a"}, err: "path concatenation escapes the base directory"},
		{name: "one file over another",
			image: func(root string) { write(t, filepath.Join(root, "srv"), "x") },
			vol:   func(t *testing.T, p string) { write(t, filepath.Join(p, "a"), "x") },
			sub:   "a", want: []string{"a"}},
		{name: "a file over a directory",
			image: func(root string) { write(t, filepath.Join(root, "srv", "in"), "x") },
			vol:   func(t *testing.T, p string) { write(t, filepath.Join(p, "a"), "x") },
			sub:   "a", want: []string{"a"}},
		{name: "a part to which a daemon that was killed had made a copy",
			image: func(root string) { write(t, filepath.Join(root, "srv", "new"), "x") },
			vol:   func(t *testing.T, p string) { write(t, filepath.Join(p, "a", ".nereid-copied", "in"), "x") },
			sub:   "a", want: []string{"a", "a/in"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := newStore(t)
			img := t.TempDir()
			tc.image(img)
			p := path(t, s, data())
			if tc.vol != nil {
				tc.vol(t, p)
			}
			err := s.CopyUp(t.Context(), data(), img, "/srv", tc.sub)
			if tc.err != "" {
				assert.ErrorContains(t, err, tc.err)
			} else {
				assert.NilError(t, err)
			}
			assert.DeepEqual(t, namesBelow(t, p), tc.want)
		})
	}
}

func namesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	assert.NilError(t, fs.WalkDir(os.DirFS(dir), ".", func(p string, _ fs.DirEntry, err error) error {
		if p != "." {
			names = append(names, p)
		}
		return err
	}))
	return names
}

// expiring is a context that ends once it was looked at some times.
type expiring struct {
	context.Context
	looks int
}

func (c *expiring) Err() error {
	if c.looks--; c.looks < 0 {
		return context.Canceled
	}
	return nil
}

func TestCancelledCopyLeavesNothing(t *testing.T) {
	for looks := range 4 { // before it, and between its files
		s, root := newStore(t)
		p := path(t, s, data())
		err := s.CopyUp(&expiring{t.Context(), looks}, data(), image(t), "/srv", "")
		assert.ErrorIs(t, err, context.Canceled)
		empty, err := volume.Empty(p)
		assert.NilError(t, err)
		assert.Assert(t, empty)
		_, err = os.Lstat(filepath.Join(root, "volumes", "admin", "data", "_copying"))
		assert.ErrorIs(t, err, fs.ErrNotExist)
	}
}

// TestCopyThatWasCutOffIsFinishedOrForgotten: the daemon was killed while it copied, or while it moved the copy in.
func TestCopyThatWasCutOffIsFinishedOrForgotten(t *testing.T) {
	s, root := newStore(t)
	p := path(t, s, data())
	dir := filepath.Join(root, "volumes", "admin", "data")
	write(t, filepath.Join(dir, "_copying", "half"), "x")
	write(t, filepath.Join(dir, "_copied", "rest"), "image")
	write(t, filepath.Join(dir, "_copied", "mine"), "image")
	assert.NilError(t, os.Chmod(filepath.Join(dir, "_copied"), 0o700))
	write(t, filepath.Join(p, "moved"), "image")
	write(t, filepath.Join(p, "mine"), "container") // made by a container that already runs

	assert.Equal(t, path(t, s, data()), p)

	assert.Equal(t, read(t, filepath.Join(p, "rest")), "image")
	assert.Equal(t, read(t, filepath.Join(p, "moved")), "image")
	assert.Equal(t, read(t, filepath.Join(p, "mine")), "container")
	info, err := os.Stat(p)
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), fs.FileMode(0o700))
	beside, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(beside), 2)
}

func TestPart(t *testing.T) {
	s, root := newStore(t)
	dir := path(t, s, data())
	write(t, filepath.Join(dir, "a", "f"), "inside")
	assert.NilError(t, os.Symlink("a", filepath.Join(dir, "in")))
	assert.NilError(t, os.Symlink("/etc", filepath.Join(dir, "out")))
	for sub, file := range map[string]string{"in": "f", "a": "f", "a/f": "", ".": "a/f"} {
		part, release, err := s.Part(dir, sub)
		assert.NilError(t, err, sub)
		assert.Equal(t, read(t, filepath.Join(part, file)), "inside", sub)
		release()
	}
	_, _, err := s.Part(dir, "out")
	assert.ErrorType(t, err, errdefs.IsInvalidArgument)
	_, _, err = s.Part(dir, "a/../..")
	assert.ErrorType(t, err, errdefs.IsInvalidArgument)
	_, _, err = s.Part(dir, "absent")
	assert.ErrorType(t, err, errdefs.IsNotFound)
	assert.DeepEqual(t, parts(t, root), []string(nil))
}

// TestPartOfAnImageBeforeAnyVolume: the first container of a host may mount a part of an image.
func TestPartOfAnImageBeforeAnyVolume(t *testing.T) {
	s, _ := newStore(t)
	img := image(t)
	part, release, err := s.Part(img, "srv")
	assert.NilError(t, err)
	defer release()
	assert.DeepEqual(t, namesBelow(t, part), namesBelow(t, filepath.Join(img, "srv")))
}

func parts(t *testing.T, root string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "volumes", ".part-*"))
	assert.NilError(t, err)
	return found
}

// TestPartOfAKilledDaemonIsSwept: it ended while it made a container.
func TestPartOfAKilledDaemonIsSwept(t *testing.T) {
	s, root := newStore(t)
	dir := path(t, s, data())
	write(t, filepath.Join(dir, "a", "f"), "inside")
	_, _, err := s.Part(dir, "a")
	assert.NilError(t, err)

	assert.NilError(t, volume.NewStore(root).Sweep(t.Context()))

	assert.DeepEqual(t, parts(t, root), []string(nil))
	assert.Equal(t, read(t, filepath.Join(dir, "a", "f")), "inside")
}
