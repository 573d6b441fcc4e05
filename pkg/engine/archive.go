package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	confs "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/moby/go-archive"
	"github.com/moby/go-archive/compression"
	"github.com/moby/sys/user"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
)

// ArchiveStat tells what a path in a container is.
func (c *Containers) ArchiveStat(ctx context.Context, ref, path string) (*container.PathStat, error) {
	r, err := c.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	v, err := c.openFS(ctx, r, true)
	if err != nil {
		return nil, fileError(err, ref, path)
	}
	stat, err := v.stat(path)
	return stat, fileError(errors.Join(err, v.close()), ref, path)
}

// fileError gives an error about a container's files its class, and Docker's words where the file is not there.
func fileError(err error, ref, path string) error {
	switch {
	case err == nil, errdefs.IsInvalidArgument(err), errdefs.IsNotFound(err):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return errdefs.ErrNotFound.WithMessage("Could not find the file " + path + " in container " + ref)
	}
	return errInternal("%s", err)
}

// stat looks at a path, and at what it leads to when it is a link.
func (v *fsView) stat(path string) (stat *container.PathStat, err error) {
	err = v.run(func() error {
		// A file with a slash behind it is not there: it is no directory.
		path = archive.PreserveTrailingDotOrSeparator(filepath.Join("/", path), path)
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		stat = &container.PathStat{Name: filepath.Base(path), Size: st.Size(), Mode: st.Mode(), Mtime: st.ModTime()}
		if st.Mode()&os.ModeSymlink != 0 {
			stat.LinkTarget, err = confs.RootPath("/", path)
		}
		return err
	})
	return stat, err
}

// ArchiveGet gives a path in a container as a tar archive. The reader must be closed; what it has not given by then is
// not read.
func (c *Containers) ArchiveGet(ctx context.Context, ref, path string) (_ io.ReadCloser, _ *container.PathStat, retErr error) {
	r, err := c.find(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	v, err := c.openFS(ctx, r, true)
	if err != nil {
		return nil, nil, fileError(err, ref, path)
	}
	defer func() {
		if retErr != nil {
			retErr = fileError(errors.Join(retErr, v.close()), ref, path)
		}
	}()
	content, stat, err := v.get(path, identities(r))
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.State.Commit(ctx, tell(r, events.ActionArchivePath)); err != nil {
		return nil, nil, errors.Join(err, content.Close())
	}
	return &viewReader{content, v}, stat, nil
}

// get archives what is at a path: a directory, or one file under its name.
func (v *fsView) get(path string, ids user.IdentityMapping) (io.ReadCloser, *container.PathStat, error) {
	abs := archive.PreserveTrailingDotOrSeparator(filepath.Join("/", path), path)
	stat, err := v.stat(abs)
	if err != nil {
		return nil, nil, err
	}
	dir, base := abs, "."
	if !stat.Mode.IsDir() {
		dir, base = filepath.Split(abs)
	}
	opts := archive.TarResourceRebaseOpts(base, filepath.Base(abs))
	opts.IDMap = ids
	content, err := v.tar(dir, opts)
	return content, stat, err
}

// tar archives a directory of the view as it is read.
func (v *fsView) tar(dir string, opts *archive.TarOptions) (io.ReadCloser, error) {
	t, err := archive.NewTarballer(dir, opts)
	if err != nil {
		return nil, err
	}
	v.todo <- t.Do // the thread is idle: this does not wait
	return t.Reader(), nil
}

// viewReader closes the view with what is read from it.
type viewReader struct {
	io.ReadCloser
	view *fsView
}

func (r *viewReader) Close() error { return errors.Join(r.ReadCloser.Close(), r.view.close()) }

// ArchivePut unpacks a tar archive, compressed or not, into a directory of a container.
func (c *Containers) ArchivePut(ctx context.Context, ref, path string, noOverwriteDirNonDir, copyUIDGID bool, content io.Reader) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	// Decompressed out here: it may run a program, which must not be one of the container's.
	plain, err := compression.DecompressStream(content)
	if err != nil {
		return errInternal("%s", err)
	}
	defer plain.Close()
	v, err := c.openFS(ctx, r, true)
	if err != nil {
		return fileError(err, ref, path)
	}
	opts := &archive.TarOptions{NoOverwriteDirNonDir: noOverwriteDirNonDir, IDMap: identities(r)}
	err = v.run(func() error { return unpack(r, path, opts, copyUIDGID, plain) })
	if err = errors.Join(err, v.close()); err != nil {
		return fileError(err, ref, path)
	}
	_, err = c.State.Commit(ctx, tell(r, events.ActionExtractToDir))
	return err
}

// unpack runs in the view. All links in the path are followed: also a link to a directory is a directory to unpack into.
func unpack(r *state.Container, path string, opts *archive.TarOptions, copyUIDGID bool, content io.Reader) error {
	abs, err := filepath.EvalSymlinks(filepath.Join("/", path))
	if err != nil {
		return err
	}
	abs = archive.PreserveTrailingDotOrSeparator(abs, path)
	st, err := os.Lstat(abs)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return errInvalid("extraction point is not a directory")
	}
	if err := checkWritable(r, abs); err != nil {
		return err
	}
	if copyUIDGID && r.Config.User != "" {
		uid, gid, err := ownerOf(r.Config.User)
		if err != nil {
			return asInvalid(err)
		}
		if uid, gid, err = identities(r).ToHost(uid, gid); err != nil {
			return asInvalid(err)
		}
		opts.ChownOpts = &archive.ChownOpts{UID: uid, GID: gid}
	}
	return archive.UntarUncompressed(content, abs, opts)
}

// checkWritable refuses what the container's own processes could not write to either.
func checkWritable(r *state.Container, path string) error {
	for _, m := range r.Mounts {
		if path == m.Destination || strings.HasPrefix(path, strings.TrimSuffix(m.Destination, "/")+"/") {
			if m.RW {
				return nil
			}
			return errInvalid("mounted volume is marked read-only")
		}
	}
	if r.HostConfig.ReadonlyRootfs {
		return errInvalid("container rootfs is marked read-only")
	}
	return nil
}

// ownerOf resolves a container's user by the files of the view it runs in. A part left empty is root.
func ownerOf(name string) (uid, gid int, err error) {
	userName, groupName, _ := strings.Cut(name, ":")
	if userName != "" {
		if uid, gid, err = lookupUser(userName); err != nil {
			return 0, 0, err
		}
	}
	if groupName == "" {
		return uid, gid, nil
	}
	if id, err := strconv.ParseUint(groupName, 10, 31); err == nil {
		return uid, int(id), nil
	}
	g, err := user.LookupGroup(groupName)
	if err != nil {
		return 0, 0, errInvalid("failed to look up group %q in container: %s", groupName, err)
	}
	return uid, g.Gid, nil
}

func lookupUser(name string) (uid, gid int, err error) {
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		if u, err := user.LookupUid(int(id)); err == nil {
			return u.Uid, u.Gid, nil
		}
		return int(id), 0, nil // a number needs no entry
	}
	u, err := user.LookupUser(name)
	if err != nil {
		return 0, 0, errInvalid("failed to look up user %q in container: %s", name, err)
	}
	return u.Uid, u.Gid, nil
}

// Export writes a container's root file system, without its volumes, as a tar archive.
func (c *Containers) Export(ctx context.Context, ref string, out io.Writer) error {
	r, err := c.find(ctx, ref)
	if err != nil {
		return err
	}
	switch r.State.Status {
	case state.StatusDead:
		return errConflict("You cannot export container %s which is Dead", r.ID)
	case state.StatusRemoving:
		return errConflict("You cannot export container %s which is being removed", r.ID)
	}
	if err := c.export(ctx, r, out); errdefs.IsNotFound(err) {
		return err
	} else if err != nil {
		return errInternal("Error exporting container %s: %s", ref, err)
	}
	if _, err := c.State.Commit(ctx, tell(r, events.ActionExport)); err != nil {
		c.logger(keyOf(r)).Warn("export not told", zap.Error(err)) // the client has all of it
	}
	return nil
}

func (c *Containers) export(ctx context.Context, r *state.Container, out io.Writer) error {
	v, err := c.openFS(ctx, r, false)
	if err != nil {
		return err
	}
	content, err := v.tar("/", &archive.TarOptions{IDMap: identities(r)})
	if err != nil {
		return errors.Join(err, v.close())
	}
	defer context.AfterFunc(ctx, func() { content.Close() })()
	_, err = io.Copy(out, content)
	return errors.Join(err, content.Close(), v.close())
}

// Changes lists the files that differ from the image.
func (c *Containers) Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	r, err := c.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	return c.Runtime.Changes(ctx, keyOf(r))
}
