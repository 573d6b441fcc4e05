// Package volume keeps the data of one host's volumes and knows how mounts are written down.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/quota"
	"github.com/nereid-paas/nereid/pkg/state"
)

// The parts of a volume's directory.
const (
	dataName  = "_data"   // what containers see
	birthName = "created" // when the volume was made that the data belongs to
	doomName  = "doomed"  // the volume is about to be removed
)

// trashName starts the names of directories whose volumes are gone, below the store's root.
const trashName = ".gone-"

// Store keeps the data of this host's volumes below one directory. Calls on different volumes may run at once; those
// on one volume are ordered by the caller.
type Store struct {
	root     string
	underWay sync.Map // places where the kernel is about to mount something
}

// NewStore makes a Store for the data root of the daemon. It touches nothing.
func NewStore(dataRoot string) *Store {
	return &Store{root: root(dataRoot)}
}

func root(dataRoot string) string { return filepath.Join(dataRoot, "volumes") }

// Mountpoint is where a volume's data lies on its home, whether it is there yet or not.
func Mountpoint(dataRoot string, a nereid.Account, name string) string {
	return filepath.Join(root(dataRoot), string(a), name, dataName)
}

// Check tells whether this host can give a volume these options. Errors are errdefs.ErrInvalidArgument in Docker's words.
func (s *Store) Check(opts map[string]string) error {
	o, err := ParseOptions(opts)
	if err != nil {
		return err
	}
	if o.Size > 0 && !quota.Supported(s.nearest()) {
		return invalid("quota size requested but no quota support")
	}
	return nil
}

// nearest is the root, or what there is of the way to it.
func (s *Store) nearest() string {
	for dir := s.root; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
	}
}

// Path makes the volume ready for use and returns its directory: made when it is not there, with the device of its
// options mounted and its size bounded. Data left by an earlier volume of the same name is set aside first.
func (s *Store) Path(ctx context.Context, v *state.Volume) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	dir, err := s.dir(v)
	if err != nil {
		return "", err
	}
	o, err := ParseOptions(v.Options)
	if err != nil {
		return "", err
	}
	if err := s.setAsideStale(dir, v); err != nil {
		return "", err
	}
	if err := s.make(dir, v); err != nil {
		return "", fmt.Errorf("error while creating volume root path '%s': %w", dir, err)
	}
	data := filepath.Join(dir, dataName)
	if err := s.outfit(ctx, data, o); err != nil {
		return "", fmt.Errorf("error while mounting volume '%s': %w", data, err)
	}
	if err := copyPlaceOf(dir, o).finish(); err != nil {
		return "", fmt.Errorf("error while finishing the copy into volume %q: %w", v.Name, err)
	}
	return data, nil
}

// outfit gives a volume's directory what its options ask for.
func (s *Store) outfit(ctx context.Context, data string, o Options) error {
	if o.Mounted() {
		if err := s.mount(ctx, data, o); err != nil {
			return err
		}
	}
	if o.Size > 0 {
		return quota.Limit(int64(o.Size), data)
	}
	return nil
}

// make creates what is missing of a volume's directory; the birth mark comes before the data, so that data without
// one is never taken for this volume's.
func (s *Store) make(dir string, v *state.Volume) error {
	if err := os.MkdirAll(dir, 0o701); err != nil {
		return err
	}
	if err := writeBirth(dir, v.Created); err != nil {
		return err
	}
	err := os.Mkdir(filepath.Join(dir, dataName), 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(filepath.Join(dir, dataName), 0o755) // whatever the umask
}

// writeBirth marks the directory with the time its volume was made, unless it is marked.
func writeBirth(dir string, created time.Time) error {
	f, err := os.OpenFile(filepath.Join(dir, birthName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(birth(created))
	return errors.Join(err, f.Close())
}

func birth(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// setAsideStale moves away a directory whose birth mark is another volume's: the daemon ended between removing that
// volume's record and its data.
func (s *Store) setAsideStale(dir string, v *state.Volume) error {
	mark, err := os.ReadFile(filepath.Join(dir, birthName))
	if err != nil || string(mark) == birth(v.Created) || len(mark) == 0 {
		return ignoreAbsent(err)
	}
	_, err = s.setAside(dir)
	return err
}

// setAside renames a volume's directory so that nothing finds it any more, and returns where it is. What is mounted
// there is not ours to delete and comes off first.
func (s *Store) setAside(dir string) (string, error) {
	if err := unmount(filepath.Join(dir, dataName)); err != nil {
		return "", err
	}
	trash, err := os.MkdirTemp(s.root, trashName)
	if err != nil {
		return "", err
	}
	return trash, os.Rename(dir, filepath.Join(trash, filepath.Base(dir)))
}

// Delete removes the volume's data: at once out of sight, then from the disk. Not there is no error. The device of a
// volume made with options is not touched.
func (s *Store) Delete(ctx context.Context, v *state.Volume) error {
	dir, err := s.dir(v)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dir); err != nil {
		return ignoreAbsent(err)
	}
	if _, ok := v.Options["size"]; ok {
		if err := ignoreAbsent(quota.Forget(filepath.Join(dir, dataName))); err != nil {
			return fmt.Errorf("error removing volume path '%s': %w", dir, err)
		}
	}
	trash, err := s.setAside(dir)
	if err != nil {
		return fmt.Errorf("error removing volume path '%s': %w", dir, err)
	}
	return os.RemoveAll(trash)
}

// Sweep removes what deletions and starts of containers that did not end left behind. It is meant for the daemon's start.
func (s *Store) Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return ignoreAbsent(err)
	}
	var errs []error
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch path := filepath.Join(s.root, e.Name()); {
		case strings.HasPrefix(e.Name(), trashName):
			errs = append(errs, os.RemoveAll(path))
		case strings.HasPrefix(e.Name(), partName):
			errs = append(errs, removePart(path))
		}
	}
	return errors.Join(errs...)
}

// Usage sums the sizes of the volume's files in bytes, each once however many links it has.
func (s *Store) Usage(ctx context.Context, v *state.Volume) (int64, error) {
	data, err := s.data(v)
	if err != nil {
		return 0, err
	}
	var sum int64
	seen := map[inode]bool{}
	err = filepath.WalkDir(data, func(_ string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || e.IsDir() {
			return ignoreAbsent(err)
		}
		info, err := e.Info()
		if err != nil {
			return ignoreAbsent(err)
		}
		id := inodeOf(info.Sys().(*syscall.Stat_t))
		if !seen[id] {
			seen[id] = true
			sum += info.Size()
		}
		return nil
	})
	return sum, err
}

// data is the directory that containers see of a volume.
func (s *Store) data(v *state.Volume) (string, error) {
	dir, err := s.dir(v)
	return filepath.Join(dir, dataName), err
}

// dir is the volume's directory. Names come validated; one that would lead elsewhere is refused all the same.
func (s *Store) dir(v *state.Volume) (string, error) {
	for _, part := range []string{string(v.Account), v.Name} {
		if !filepath.IsLocal(part) || filepath.Base(part) != part || strings.HasPrefix(part, ".") {
			return "", invalid("volume %q of account %q: not a directory name", v.Name, v.Account)
		}
	}
	return filepath.Join(s.root, string(v.Account), v.Name), nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
