package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// A daemon that is being replaced needs a moment to let go of its directory; one that runs on never does.
const (
	lockPatience = 3 * time.Second
	lockRetry    = 50 * time.Millisecond
)

// dirLock keeps a directory to this process: flock(2) on a file in it, gone with the process however it ends.
type dirLock struct{ file *os.File }

// lockDir takes the directory, or says within lockPatience that another process has it.
func lockDir(ctx context.Context, dir string) (_ *dirLock, retErr error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state: %w", err)
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, f.Close())
		}
	}()
	deadline := time.Now().Add(lockPatience)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &dirLock{f}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("lock the state in %q: %w", dir, err)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the state in %q is in use by another process: %w", dir, errdefs.ErrUnavailable)
		}
		if pause(ctx, lockRetry); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

func (l *dirLock) release() error { return l.file.Close() }
