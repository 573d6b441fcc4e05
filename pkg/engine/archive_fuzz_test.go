package engine

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/moby/go-archive"
	"github.com/moby/sys/user"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	fuzzSecret = "what no container may see"
	fuzzInside = "what is the container's own"
	// fuzzPieces bounds the links and entries of one try, fuzzCopied what one archive may hold: they are enough to lead astray.
	fuzzPieces = 16
	fuzzCopied = 1 << 20
)

// FuzzArchivePaths has a container lay links to wherever it likes, and a user copy to, from and through them, archives with
// names and links of all kinds among what is copied: nothing beside the container's tree is seen or changed. OUT stands
// for the absolute path of what lies beside the tree.
func FuzzArchivePaths(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("needs root: a view is a mount namespace")
	}
	for _, s := range [][3]string{
		{"a=OUT", "a/secret", "+x"},
		{"a=../outside", "a", "+secret"},
		{"a=../../../../../../outside\nb=a/secret", "b", "+a/secret"},
		{"a=/proc/self/root\nb=a/..", "b/", ">l OUT\n+l/secret"},
		{"d/a=../../outside", "d/a/.", "+../../outside/secret\n+../secret"},
		{"a=b\nb=a", "a/b", "/d\n>d/l ../../outside\n+d/l/secret"},
		{"etc/passwd=OUT/secret", "etc/passwd", "=h OUT/secret\n=h2 ../outside/secret"},
		{"a=.", "a/a/a/../../../outside/secret", "+OUT/secret"},
		{"", "/", "+a\n>a OUT\n+a/new"},
		{"x=OUT/new", "x", "/x/y\n+x/y/z"},
		{"", "../outside/secret", "-"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	base := f.TempDir()
	outside := filepath.Join(base, "outside")
	assert.NilError(f, os.MkdirAll(filepath.Join(outside, "dir"), 0o755))
	assert.NilError(f, os.WriteFile(filepath.Join(outside, "secret"), []byte(fuzzSecret), 0o644))
	before := treeOf(f, outside)
	f.Fuzz(func(t *testing.T, links, path, entries string) {
		links, path, entries = strings.ReplaceAll(links, "OUT", outside), strings.ReplaceAll(path, "OUT", outside), strings.ReplaceAll(entries, "OUT", outside)
		root := filepath.Join(base, "root")
		defer os.RemoveAll(root)
		layLinks(t, root, links)
		v, err := newFSView(root, nil, func() error { return nil })
		assert.NilError(t, err)
		copyThrough(t, v, path, fuzzArchive(entries))
		assert.NilError(t, v.close())
		assert.DeepEqual(t, treeOf(t, outside), before)
		names, err := os.ReadDir(base)
		assert.NilError(t, err)
		assert.Equal(t, len(names), 2, "%v", names)
	})
}

// layLinks makes a container's tree: a file, and links as its processes could lay them, "name=target" a line.
func layLinks(t *testing.T, dir, links string) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "own"), []byte(fuzzInside), 0o644))
	root, err := os.OpenRoot(dir)
	assert.NilError(t, err)
	defer root.Close()
	for _, line := range firstLines(links) {
		name, target, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		_ = root.MkdirAll(filepath.Dir(name), 0o755) // what cannot be laid is not
		_ = root.Symlink(target, name)
	}
}

// copyThrough does all that cp does with a path, before and after an archive was put there.
func copyThrough(t *testing.T, v *fsView, path string, put []byte) {
	t.Helper()
	record := &state.Container{Config: &container.Config{}, HostConfig: &container.HostConfig{}}
	for range 2 {
		if stat, err := v.stat(path); err == nil {
			assert.Assert(t, stat.Size != int64(len(fuzzSecret)) || stat.Mode.Type() != 0, "%q shows the secret", path)
		}
		if content, _, err := v.get(path, user.IdentityMapping{}); err == nil {
			got, _ := io.ReadAll(io.LimitReader(content, fuzzCopied))
			assert.Assert(t, !bytes.Contains(got, []byte(fuzzSecret)), "a copy of %q has the secret", path)
			assert.NilError(t, content.Close())
		}
		_ = v.run(func() error { return unpack(record, path, &archive.TarOptions{}, false, bytes.NewReader(put)) })
	}
}

// fuzzArchive makes an archive of lines: "/name" a directory, ">name target" a link, "=name target" another name of a file,
// "+name" a file.
func fuzzArchive(entries string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, line := range firstLines(entries) {
		if line == "" {
			continue
		}
		name, target, _ := strings.Cut(line[1:], " ")
		h := tar.Header{Name: name, Linkname: target, Mode: 0o755, Format: tar.FormatPAX}
		switch line[0] {
		case '/':
			h.Typeflag = tar.TypeDir
		case '>':
			h.Typeflag = tar.TypeSymlink
		case '=':
			h.Typeflag = tar.TypeLink
		default:
			h.Typeflag, h.Linkname, h.Size = tar.TypeReg, "", int64(len(fuzzInside))
		}
		if w.WriteHeader(&h) != nil { // a name that no archive can hold
			continue
		}
		if h.Typeflag == tar.TypeReg {
			_, _ = w.Write([]byte(fuzzInside))
		}
	}
	_ = w.Close()
	return b.Bytes()
}

func firstLines(s string) []string {
	lines := strings.Split(s, "\n")
	return lines[:min(len(lines), fuzzPieces)]
}

// treeOf tells what is below a directory: names, modes, owners' links and content.
func treeOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := ""
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(b)
		}
		tree[path] = fmt.Sprintf("%v %v %q", info.Mode(), info.ModTime(), content)
		return nil
	})
	assert.NilError(t, err)
	return tree
}
