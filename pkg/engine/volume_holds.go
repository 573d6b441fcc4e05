package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
	"github.com/nereid-paas/nereid/runtime"
)

// A volume with a device (an NFS export, a tmpfs, a disk) is mounted on its home while somebody there uses it: a
// container that runs, a copy into or out of one, a copy of image content. Each of them is a holder; when the last lets
// go, the device is unmounted. A daemon that starts learns the holders from what runs.

// volumeHolder names who uses volumes.
type volumeHolder string

// holderOf is a container that runs, or is about to.
func holderOf(key runtime.Key) volumeHolder { return volumeHolder("container " + string(key.ID)) }

// volumeHolds are the mounted volumes of this host and their holders. The zero value is ready.
type volumeHolds struct {
	mu    sync.Mutex
	by    map[volumeKey]map[volumeHolder]bool
	views int
}

// another names a holder that is no container.
func (h *volumeHolds) another(what string) volumeHolder {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.views++
	return volumeHolder(fmt.Sprintf("%s %d", what, h.views))
}

func (h *volumeHolds) add(k volumeKey, who volumeHolder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[volumeKey]map[volumeHolder]bool{}
	}
	if h.by[k] == nil {
		h.by[k] = map[volumeHolder]bool{}
	}
	h.by[k][who] = true
}

// drop tells whether nobody holds the volume any more.
func (h *volumeHolds) drop(k volumeKey, who volumeHolder) (free bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.by[k], who)
	if len(h.by[k]) > 0 {
		return false
	}
	delete(h.by, k)
	return true
}

func (h *volumeHolds) held(k volumeKey) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.by[k]) > 0
}

// of lists what a holder holds.
func (h *volumeHolds) of(who volumeHolder) []volumeKey {
	h.mu.Lock()
	defer h.mu.Unlock()
	var keys []volumeKey
	for k, holders := range h.by {
		if holders[who] {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b volumeKey) int { return strings.Compare(a.name, b.name) })
	return keys
}

// mounts tells whether a volume has a device that is mounted while it is in use.
func mounts(r *state.Volume) bool {
	o, err := volume.ParseOptions(r.Options)
	return err == nil && o.Mounted()
}

// use makes a volume ready for a holder and returns its directory. LetGo ends it.
func (v *Volumes) use(ctx context.Context, r *state.Volume, who volumeHolder) (string, error) {
	unlock, err := v.locks.lock(ctx, r)
	if err != nil {
		return "", err
	}
	defer unlock()
	dir, err := v.Volumes.Path(ctx, r)
	if err == nil && mounts(r) {
		v.holds.add(keyOfVolume(r), who)
	}
	return dir, err
}

// LetGo ends all that a holder holds. What cannot be unmounted is logged, stays mounted and serves the next user, or is
// unmounted when the daemon starts.
func (v *Volumes) LetGo(ctx context.Context, who volumeHolder) {
	for _, k := range v.holds.of(who) {
		r := &state.Volume{Account: k.account, Name: k.name}
		unlock, err := v.locks.lock(ctx, r)
		if err != nil {
			return
		}
		if v.holds.drop(k, who) {
			if err := v.Volumes.Unmount(ctx, r); err != nil {
				v.Log.Warn("volume not unmounted", zap.String("volume", k.name), zap.Error(err))
			}
		}
		unlock()
	}
}

// Adopt takes up the volumes of containers that run, unmounts those that nobody uses, and deletes the data of those that
// were being removed: the daemon ended before it could. Call it before a container is started or an exit dealt with.
func (v *Volumes) Adopt(ctx context.Context, running []*state.Container) error {
	for _, c := range running {
		for _, m := range c.Mounts {
			if r, err := v.volumeOf(c, m); err == nil && mounts(r) {
				v.holds.add(keyOfVolume(r), holderOf(keyOf(c)))
			}
		}
	}
	if err := v.unmountUnused(ctx); err != nil {
		return err
	}
	return v.deleteDoomed(ctx)
}

func (v *Volumes) unmountUnused(ctx context.Context) error {
	mounted, err := v.Volumes.Mounted(ctx)
	if err != nil {
		return fmt.Errorf("mounted volumes: %w", err)
	}
	for _, r := range mounted {
		if v.holds.held(keyOfVolume(r)) {
			continue
		}
		if err := v.Volumes.Unmount(ctx, r); err != nil {
			v.Log.Warn("volume that nobody uses not unmounted", zap.String("volume", r.Name), zap.Error(err))
		}
	}
	return nil
}

func (v *Volumes) deleteDoomed(ctx context.Context) error {
	doomed, err := v.Volumes.Doomed(ctx)
	if err != nil {
		return fmt.Errorf("volumes being removed: %w", err)
	}
	for _, r := range doomed {
		if err := v.deleteData(ctx, r); err != nil {
			v.Log.Warn("data of a removed volume not deleted", zap.String("volume", r.Name), zap.Error(err))
		}
	}
	return nil
}
