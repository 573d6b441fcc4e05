package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"gotest.tools/v3/assert"
)

// Debian is an image of programs from Debian packages with the libraries they need and busybox beside them. Nothing
// of it is installed on the machine: packages are downloaded and unpacked. The image is kept in bin/images until what
// goes into it changes.
type Debian struct {
	Ref      string
	Packages []string
	Skip     []string // libraries that the programs can do without
	Drop     []string // what of the packages does not belong into the image, as paths
	Files    []File   // over the packages
	Config   v1.Config
}

// LoadDebian gives the host the image under its name.
func (h *Host) LoadDebian(t testing.TB, d Debian) {
	t.Helper()
	h.Docker(t, "load", "-q", "-i", d.archive(t))
}

// archive returns the image as `docker save` would write it.
func (d Debian) archive(t testing.TB) string {
	t.Helper()
	debs := d.closure(t)
	dir := filepath.Join(Bin(t), "images")
	path := filepath.Join(dir, strings.ReplaceAll(d.Ref, ":", "_")+"-"+d.hash(t, debs)+".tar")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	assert.NilError(t, os.MkdirAll(dir, 0o755))
	root := d.unpack(t, debs)
	layer := filepath.Join(t.TempDir(), "layer.tar")
	writeTree(t, layer, root)
	img := WithConfig(t, AddLayer(t, appendLayer(t, layer), d.Files), func(c *v1.Config) { *c = d.Config })
	tag, err := name.NewTag(d.Ref)
	assert.NilError(t, err)
	assert.NilError(t, tarball.WriteToFile(path+".part", tag, img))
	assert.NilError(t, os.Rename(path+".part", path))
	return path
}

func appendLayer(t testing.TB, file string) v1.Image {
	t.Helper()
	layer, err := tarball.LayerFromFile(file, tarball.WithCompressionLevel(gzip.BestSpeed))
	assert.NilError(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	assert.NilError(t, err)
	return img
}

// debianFormat changes when images are made in another way.
const debianFormat = "1"

func (d Debian) hash(t testing.TB, debs []string) string {
	t.Helper()
	b, err := json.Marshal([]any{debianFormat, debs, d, busyboxFiles(t)})
	assert.NilError(t, err)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// library tells packages that programs are linked with from those that merely administer them.
var library = regexp.MustCompile(`^(lib|zlib)`)

// closure names the files of the packages and of the libraries below them.
func (d Debian) closure(t testing.TB) []string {
	t.Helper()
	seen := map[string]bool{}
	for next := d.Packages; len(next) > 0; {
		for _, p := range next {
			seen[p] = true
		}
		out := apt(t, append([]string{"apt-cache", "depends", "--important"}, next...)...)
		next = nil
		for line := range strings.Lines(out) {
			kind, p, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if ok && strings.HasSuffix(kind, "Depends") && library.MatchString(p) && !seen[p] && !slices.Contains(d.Skip, p) {
				seen[p] = true
				next = append(next, p)
			}
		}
	}
	var debs []string
	for p := range seen {
		debs = append(debs, p)
	}
	slices.Sort(debs)
	out := apt(t, append([]string{"apt-get", "download", "--print-uris"}, debs...)...)
	var files []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 { // 'URI' file size hash
			files = append(files, f[1])
		}
	}
	assert.Equal(t, len(files), len(debs), out)
	return files
}

// apt asks the package lists, which a fresh machine has to fetch first.
func apt(t testing.TB, args ...string) string {
	t.Helper()
	r := execute(t, Cmd{}, os.Environ(), args...)
	if r.Code != 0 {
		run(t, "apt-get", "update", "-qq")
		r = execute(t, Cmd{}, os.Environ(), args...)
	}
	assert.Equal(t, r.Code, 0, "%v\n%s", args, r.Combined())
	return r.Stdout
}

// downloadTimeout bounds the download of an image's packages.
const downloadTimeout = 10 * time.Minute

// unpack downloads the packages and lays them out with busybox's files below a folder.
func (d Debian) unpack(t testing.TB, debs []string) string {
	t.Helper()
	root, dl := t.TempDir(), t.TempDir()
	var names []string
	for _, f := range debs {
		p, _, _ := strings.Cut(f, "_")
		names = append(names, p)
	}
	get := append([]string{"apt-get", "download", "-qq"}, names...)
	r := execute(t, Cmd{Dir: dl, Timeout: downloadTimeout}, os.Environ(), get...)
	if r.Code != 0 { // lists older than what the mirror has
		run(t, "apt-get", "update", "-qq")
		r = execute(t, Cmd{Dir: dl, Timeout: downloadTimeout}, os.Environ(), get...)
	}
	assert.Equal(t, r.Code, 0, r.Combined())
	files, err := filepath.Glob(filepath.Join(dl, "*.deb"))
	assert.NilError(t, err)
	for _, f := range files {
		run(t, "dpkg", "-x", f, root)
	}
	for _, junk := range append([]string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/info"}, d.Drop...) {
		assert.NilError(t, os.RemoveAll(filepath.Join(root, junk)))
	}
	for _, f := range busyboxFiles(t) {
		place(t, root, f)
	}
	return root
}

// place makes one of busybox's files unless a package has it.
func place(t testing.TB, root string, f File) {
	t.Helper()
	at := filepath.Join(root, f.Name)
	if _, err := os.Lstat(at); err == nil {
		return
	}
	switch {
	case strings.HasSuffix(f.Name, "/"):
		assert.NilError(t, os.MkdirAll(at, 0o755))
		mode := fs.FileMode(f.Mode & 0o777)
		if f.Mode&0o1000 != 0 {
			mode |= fs.ModeSticky
		}
		assert.NilError(t, os.Chmod(at, mode))
	case f.Link != "":
		assert.NilError(t, os.Symlink(f.Link, at))
	default:
		assert.NilError(t, os.WriteFile(at, []byte(f.Body), fs.FileMode(f.Mode)))
	}
}

// writeTree makes a layer of a folder, the same from run to run.
func writeTree(t testing.TB, file, root string) {
	t.Helper()
	out, err := os.Create(file)
	assert.NilError(t, err)
	defer out.Close()
	w := tar.NewWriter(out)
	assert.NilError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		link, _ := os.Readlink(path)
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		h.Name, h.ModTime, h.Uname, h.Gname = path[len(root)+1:], made, "", ""
		h.Uid, h.Gid, h.Format = int(st.Uid), int(st.Gid), tar.FormatPAX
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil {
			_, err = io.Copy(w, bytes.NewReader(b))
		}
		return err
	}))
	assert.NilError(t, w.Close())
}
