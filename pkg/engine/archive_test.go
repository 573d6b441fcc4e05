package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/mount"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// fileRig is a rig with a container whose root file system has a few files, and a secret outside of it.
func fileRig(t *testing.T, change ...func(*spec)) (rig *containerRig, root, secret string) {
	t.Helper()
	rig = newContainerRig(t)
	root = rig.w.dir
	secret = filepath.Join(t.TempDir(), "secret")
	write(t, secret, "host's")
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0::/:/bin/sh\nwww:x:33:34::/:/bin/sh\n")
	write(t, filepath.Join(root, "srv/a"), "one")
	write(t, filepath.Join(root, "srv/sub/b"), "two")
	assert.NilError(t, os.Symlink("/srv/a", filepath.Join(root, "link")))
	assert.NilError(t, os.Symlink(secret, filepath.Join(root, "out")))
	assert.NilError(t, os.Symlink(filepath.Dir(secret), filepath.Join(root, "outdir")))
	assert.NilError(t, os.Symlink("../../../../../../..", filepath.Join(root, "srv/up")))
	rig.create("web", change...)
	return rig, root, secret
}

func write(t *testing.T, path, content string) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	assert.NilError(t, os.WriteFile(path, []byte(content), 0o644))
}

func TestArchiveStat(t *testing.T) {
	rig, _, _ := fileRig(t)
	st, err := rig.ArchiveStat(rig.ctx, "web", "/srv/a")
	assert.NilError(t, err)
	assert.Equal(t, st.Name, "a")
	assert.Equal(t, st.Size, int64(3))
	st, err = rig.ArchiveStat(rig.ctx, "web", "link")
	assert.NilError(t, err)
	assert.Equal(t, st.LinkTarget, "/srv/a")
	_, err = rig.ArchiveStat(rig.ctx, "web", "/nope")
	failsWith(t, err, errdefs.IsNotFound, "Could not find the file /nope in container web")
}

func TestArchiveGet(t *testing.T) {
	rig, _, _ := fileRig(t)
	assert.DeepEqual(t, rig.get("/srv/a"), map[string]string{"a": "one"})
	assert.DeepEqual(t, rig.get("/srv"), map[string]string{"srv/": "", "srv/a": "one", "srv/sub/": "", "srv/sub/b": "two", "srv/up": "-> ../../../../../../.."})
	assert.DeepEqual(t, rig.get("/srv/sub/."), map[string]string{"./": "", "./b": "two"})
}

// A link in a container that leads to the host's files must lead to the container's, or nowhere.
func TestArchiveStaysInside(t *testing.T) {
	rig, root, secret := fileRig(t)
	_, _, err := rig.ArchiveGet(rig.ctx, "web", "/outdir/secret")
	failsWith(t, err, errdefs.IsNotFound, "Could not find the file /outdir/secret in container web")
	for name := range rig.get("/srv/up/.") {
		assert.Check(t, name != "./proc/1/", "the host's root was read")
	}
	err = rig.put("/outdir", false, "secret", "container's")
	failsWith(t, err, errdefs.IsNotFound, "Could not find the file /outdir in container web")
	assert.NilError(t, rig.put("/srv/up", false, "tmp-of-container", "x"))
	content, err := os.ReadFile(secret)
	assert.NilError(t, err)
	assert.Equal(t, string(content), "host's")
	_, err = os.Stat(filepath.Join(root, "tmp-of-container"))
	assert.NilError(t, err)
}

func TestArchivePut(t *testing.T) {
	rig, root, _ := fileRig(t, func(s *spec) { s.User = "www" })
	assert.NilError(t, rig.put("/srv", false, "c", "three"))
	content, err := os.ReadFile(filepath.Join(root, "srv/c"))
	assert.NilError(t, err)
	assert.Equal(t, string(content), "three")
	assert.NilError(t, rig.put("/srv", true, "d", "four"))
	owner, err := ownerOfFile(filepath.Join(root, "srv/d"))
	assert.NilError(t, err)
	assert.Equal(t, owner, [2]uint32{33, 34})
	failsWith(t, rig.put("/srv/a", false, "c", ""), errdefs.IsInvalidArgument, "extraction point is not a directory")
	failsWith(t, rig.put("/nope", false, "c", ""), errdefs.IsNotFound, "Could not find the file /nope in container web")
}

func TestArchiveSeesMounts(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "data"), "mounted")
	rig, root, _ := fileRig(t, func(s *spec) {
		s.host.Mounts = []mount.Mount{
			{Type: mount.TypeBind, Source: outside, Target: "/mnt/rw"},
			{Type: mount.TypeBind, Source: outside, Target: "/mnt/ro", ReadOnly: true},
		}
	})
	assert.DeepEqual(t, rig.get("/mnt/rw/data"), map[string]string{"data": "mounted"})
	assert.NilError(t, rig.put("/mnt/rw", false, "more", "written"))
	content, err := os.ReadFile(filepath.Join(outside, "more"))
	assert.NilError(t, err)
	assert.Equal(t, string(content), "written")
	failsWith(t, rig.put("/mnt/ro", false, "more", ""), errdefs.IsInvalidArgument, "mounted volume is marked read-only")
	_, err = os.Stat(filepath.Join(root, "mnt/rw/data"))
	assert.Check(t, errors.Is(err, os.ErrNotExist), "the mount is seen on the host")
}

func TestExport(t *testing.T) {
	rig, _, _ := fileRig(t, func(s *spec) { s.host.ReadonlyRootfs = true })
	var out bytes.Buffer
	assert.NilError(t, rig.Export(rig.ctx, "web", &out))
	files := readTar(t, &out)
	assert.Equal(t, files["srv/sub/b"], "two")
	assert.Equal(t, files["link"], "-> /srv/a")
	failsWith(t, rig.put("/srv", false, "c", ""), errdefs.IsInvalidArgument, "container rootfs is marked read-only")
}

// get reads a path of the container "web": names with contents, links with "-> target".
func (r *containerRig) get(path string) map[string]string {
	r.t.Helper()
	content, _, err := r.ArchiveGet(r.ctx, "web", path)
	assert.NilError(r.t, err)
	files := readTar(r.t, content)
	assert.NilError(r.t, content.Close())
	return files
}

func readTar(t *testing.T, in io.Reader) map[string]string {
	t.Helper()
	files := map[string]string{}
	for tr := tar.NewReader(in); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		assert.NilError(t, err)
		content, err := io.ReadAll(tr)
		assert.NilError(t, err)
		files[h.Name] = string(content)
		if h.Linkname != "" {
			files[h.Name] = "-> " + h.Linkname
		}
	}
}

func (r *containerRig) put(dir string, copyUIDGID bool, name, content string) error {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = tw.Write([]byte(content))
	}
	if err = errors.Join(err, tw.Close()); err != nil {
		return err
	}
	return r.ArchivePut(r.ctx, "web", dir, false, copyUIDGID, &b)
}

func ownerOfFile(path string) ([2]uint32, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return [2]uint32{st.Uid, st.Gid}, err
}
