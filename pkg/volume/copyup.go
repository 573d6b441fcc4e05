package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	cfs "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

// CopyUp copies what the image has at a directory of the mounted root file system into an empty volume, ownership,
// modes, times and xattrs included, the directory's own too. A volume with content is left alone, and so is one whose
// place in the image does not exist. Links in rootfs are resolved within it.
//
// The copy is made beside the data and moved in when it is whole: a daemon that ends on the way leaves an empty
// volume, or one that the next Path completes.
func (s *Store) CopyUp(ctx context.Context, v *state.Volume, rootfs, at string) error {
	data, err := s.Path(ctx, v)
	if err != nil {
		return err
	}
	src, err := source(rootfs, at)
	if err != nil || src == "" {
		return err
	}
	if empty, err := Empty(data); err != nil || !empty {
		return err
	}
	if err := s.copyInto(ctx, v, data, src); err != nil {
		return fmt.Errorf("failed to populate volume %q: %w", v.Name, err)
	}
	return nil
}

// source resolves a path of the container within its mounted root file system; empty when it is not there.
func source(rootfs, at string) (string, error) {
	src, err := cfs.RootPath(rootfs, at)
	if err != nil {
		return "", err
	}
	info, err := os.Lstat(src)
	if err != nil {
		return "", ignoreAbsent(err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("cannot mount volume over existing file, file exists %s", src)
	}
	return src, nil
}

func (s *Store) copyInto(ctx context.Context, v *state.Volume, data, src string) (retErr error) {
	dir, err := s.dir(v)
	if err != nil {
		return err
	}
	if data != filepath.Join(dir, dataName) {
		return copyTree(ctx, data, src) // a device of the user's: nothing of ours lies beside it
	}
	stage := filepath.Join(dir, stageName)
	if err := os.Mkdir(stage, 0o700); err != nil {
		return err
	}
	defer func() {
		if retErr != nil {
			os.RemoveAll(stage)
		}
	}()
	if err := copyTree(ctx, stage, src); err != nil {
		return err
	}
	if err := os.Rename(stage, filepath.Join(dir, readyName)); err != nil {
		return err
	}
	return finishCopy(dir)
}

// finishCopy removes a copy that was never whole and moves a whole one into the data, entry by entry: the data
// directory itself may be mounted in a container and must stay the same one. What a container has made there
// meanwhile wins.
func finishCopy(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, stageName)); err != nil {
		return err
	}
	ready, data := filepath.Join(dir, readyName), filepath.Join(dir, dataName)
	entries, err := os.ReadDir(ready)
	if err != nil {
		return ignoreAbsent(err)
	}
	info, err := os.Stat(ready)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(ready, e.Name()), unix.AT_FDCWD, filepath.Join(data, e.Name()), unix.RENAME_NOREPLACE)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("rename %s: %w", e.Name(), err)
		}
	}
	// Moving the entries changed ready's times; they go to data with the rest.
	if err := os.Chtimes(ready, info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	if err := copyAttributes(data, ready); err != nil {
		return err
	}
	return os.RemoveAll(ready)
}

// Empty tells whether a directory holds nothing.
func Empty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}
