package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	cfs "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

// CopyUp copies what the image has at a directory of the mounted root file system into an empty volume, ownership,
// modes, times and xattrs included, the directory's own too; with sub into that directory of the volume, which is not
// made. What has content is left alone, and so is what has no place in the image. Links in rootfs are resolved within
// it, those in the volume within that.
//
// The copy is made beside the data and moved in when it is whole: a daemon that ends on the way leaves an empty
// volume, or one that the next Path completes. That of a part is made in the part, and completed by the next CopyUp.
func (s *Store) CopyUp(ctx context.Context, v *state.Volume, rootfs, at, sub string) error {
	src, err := source(rootfs, at, sub)
	if err != nil || src == "" {
		return err
	}
	data, err := s.Path(ctx, v)
	if err != nil {
		return err
	}
	o, err := ParseOptions(v.Options)
	if err != nil {
		return err
	}
	if sub == "" {
		err = copyPlaceOf(filepath.Dir(data), o).fill(ctx, src)
	} else {
		err = s.fillPart(ctx, data, sub, src)
	}
	if err != nil {
		return fmt.Errorf("failed to populate volume %q: %w", v.Name, err)
	}
	return nil
}

// fillPart copies src into a directory of the data. Nothing is copied into one that is not there, nor into a file.
func (s *Store) fillPart(ctx context.Context, data, sub, src string) error {
	part, release, err := s.Part(data, sub)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	if info, err := os.Stat(part); err != nil || !info.IsDir() {
		return err
	}
	p := copyPlaceWithin(part)
	if err := p.finish(); err != nil {
		return err
	}
	return p.fill(ctx, src)
}

// source resolves a path of the container within its mounted root file system; empty when nothing is to be copied
// from there. A file is no place for a volume, but may be one for a part of a volume.
func source(rootfs, at, sub string) (string, error) {
	src, err := cfs.RootPath(rootfs, at)
	if err != nil {
		return "", err
	}
	info, err := os.Lstat(src)
	switch {
	case err != nil:
		return "", ignoreAbsent(err)
	case info.IsDir():
		return src, nil
	case sub != "":
		return "", nil
	}
	return "", fmt.Errorf("cannot mount volume over existing file, file exists %s", src)
}

// copyPlace is where a copy of image content is made before it is moved into a volume's data.
type copyPlace struct {
	stage string // not whole yet
	ready string // whole, on its way into the data
	data  string
}

// The names of a copy's two states within the data itself: where another file system, or another quota, begins there,
// and in a part of a volume.
const (
	innerStage = ".nereid-copying"
	innerReady = ".nereid-copied"
)

func copyPlaceOf(dir string, o Options) copyPlace {
	data := filepath.Join(dir, dataName)
	if o.Mounted() || o.Size > 0 {
		return copyPlaceWithin(data)
	}
	return copyPlace{filepath.Join(dir, "_copying"), filepath.Join(dir, "_copied"), data}
}

func copyPlaceWithin(data string) copyPlace {
	return copyPlace{filepath.Join(data, innerStage), filepath.Join(data, innerReady), data}
}

// fill copies src into the data when that is empty.
func (p copyPlace) fill(ctx context.Context, src string) error {
	if empty, err := Empty(p.data); err != nil || !empty {
		return err
	}
	return p.copy(ctx, src)
}

func (p copyPlace) copy(ctx context.Context, src string) (retErr error) {
	if err := os.RemoveAll(p.stage); err != nil {
		return err
	}
	if err := os.Mkdir(p.stage, 0o700); err != nil {
		return err
	}
	defer func() {
		if retErr != nil {
			os.RemoveAll(p.stage)
		}
	}()
	if err := copyTree(ctx, p.stage, src); err != nil {
		return err
	}
	if err := os.Rename(p.stage, p.ready); err != nil {
		return err
	}
	return p.finish()
}

// inside tells whether the copy is made within the data.
func (p copyPlace) inside() bool { return filepath.Dir(p.ready) == p.data }

// finish removes a copy that was never whole and moves a whole one into the data, entry by entry: the data directory
// itself may be mounted in a container and must stay the same one. What a container has made there meanwhile wins. On a
// file system that hosts share, a copy that is not whole may be another's under way, and is left to the next copy.
func (p copyPlace) finish() error {
	if !p.inside() {
		if err := os.RemoveAll(p.stage); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(p.ready)
	if err != nil {
		return ignoreAbsent(err)
	}
	info, err := os.Stat(p.ready)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(p.ready, e.Name()), unix.AT_FDCWD, filepath.Join(p.data, e.Name()), unix.RENAME_NOREPLACE)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("rename %s: %w", e.Name(), err)
		}
	}
	// Moving the entries changed ready's times; they go to data with the rest.
	if err := os.Chtimes(p.ready, info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	if err := copyAttributes(p.data, p.ready); err != nil {
		return err
	}
	return p.removeReady(info.ModTime())
}

// removeReady ends a copy. When it lay within the data, its removal touched the data's times.
func (p copyPlace) removeReady(modified time.Time) error {
	if err := os.RemoveAll(p.ready); err != nil || !p.inside() {
		return err
	}
	return os.Chtimes(p.data, modified, modified)
}

// Empty tells whether a directory holds nothing, a copy that was never whole left aside.
func Empty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return len(names) == 0 || len(names) == 1 && names[0] == innerStage, nil
}
