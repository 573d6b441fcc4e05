package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	apivolume "github.com/docker/docker/api/types/volume"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
)

const (
	// localDriver is the only volume driver there is.
	localDriver = "local"
	// anonymousLabel marks volumes that were made without a name, as Docker marks them: prune looks for it.
	anonymousLabel = "com.docker.volume.anonymous"
	// maxVolumeTries bounds how often a transaction on a volume is tried again because another one came first.
	maxVolumeTries = 8
)

// Volumes are the use cases of volumes. All methods may be called at once.
type Volumes struct {
	Deps
	locks   volumeLocks // over what happens to one volume's data
	holds   volumeHolds // guarded for each volume by its lock
	pruning atomic.Bool
}

// NewVolumes makes the use cases of volumes.
func NewVolumes(d Deps) *Volumes { return &Volumes{Deps: d} }

// volumeError words a failed operation on a volume as Docker does, keeping the error's class.
func volumeError(op, name string, err error) error { return fmt.Errorf("%s %s: %w", op, name, err) }

func errNoSuchVolume(name string) error {
	return volumeError("get", name, errdefs.ErrNotFound.WithMessage("no such volume"))
}

func errVolumeInUse(name string, users []*state.Container) error {
	ids := make([]string, len(users))
	for i, c := range users {
		ids[i] = string(c.ID)
	}
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("remove %s: volume is in use - [%s]", name, strings.Join(ids, ", ")))
}

// List returns the account's volumes that pass the filters dangling, name, label and driver, by name.
func (v *Volumes) List(ctx context.Context, f filters.Args) (*apivolume.ListResponse, error) {
	keep, err := v.filter(f, "dangling", "name", "driver", "label")
	if err != nil {
		return nil, err
	}
	list := &apivolume.ListResponse{Volumes: []*apivolume.Volume{}}
	for _, r := range v.State.View().Volumes(nereid.AccountFrom(ctx)) {
		if keep(r) {
			list.Volumes = append(list.Volumes, v.describe(r))
		}
	}
	slices.SortFunc(list.Volumes, func(a, b *apivolume.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Inspect returns one volume.
func (v *Volumes) Inspect(ctx context.Context, name string) (*apivolume.Volume, error) {
	r, ok := v.State.View().Volume(nereid.AccountFrom(ctx), name)
	if !ok {
		return nil, errNoSuchVolume(name)
	}
	return v.describe(r), nil
}

// Create makes a volume, or returns the one there is by that name. No host is chosen: the first container that uses
// the volume decides where its data lies.
func (v *Volumes) Create(ctx context.Context, opts apivolume.CreateOptions) (*apivolume.Volume, error) {
	if opts.ClusterVolumeSpec != nil {
		return nil, errdefs.ErrUnavailable.WithMessage(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	}
	if opts.Name == "" {
		opts.Name = randomVolumeName()
		opts.Labels = anonymousLabels(opts.Labels)
	}
	a := nereid.AccountFrom(ctx)
	for try := 1; ; try++ {
		r, ops, err := v.findOrNew(a, opts)
		if err != nil {
			return nil, err
		}
		here := len(ops) > 0 && !manyHosts(v.State.View()) && !shared(r)
		if here {
			r.Home = v.Host
		}
		if len(ops) > 0 {
			_, err = v.State.Commit(ctx, ops...)
		}
		if err == nil && here {
			err = v.makeDirectory(ctx, r)
		}
		if err == nil {
			return v.describe(r), nil
		}
		if !errdefs.IsAlreadyExists(err) || try == maxVolumeTries {
			return nil, volumeError("create", opts.Name, err)
		}
	}
}

// makeDirectory makes the directory of a volume of this host, so that its creator can put something in. A volume without one
// is none.
func (v *Volumes) makeDirectory(ctx context.Context, r *state.Volume) error {
	if mounts(r) {
		return nil
	}
	_, err := v.use(ctx, r, "")
	if err == nil {
		return nil
	}
	ctx, cancel := work(ctx)
	defer cancel()
	return errors.Join(err, v.removeHere(ctx, r))
}

// findOrNew returns the account's volume of that name, or a new one and the ops that store it.
func (v *Volumes) findOrNew(a nereid.Account, opts apivolume.CreateOptions) (*state.Volume, []state.Op, error) {
	if err := v.check(opts); err != nil {
		return nil, nil, volumeError("create", opts.Name, err)
	}
	if r, ok := v.State.View().Volume(a, opts.Name); ok {
		return r, nil, nil // as it is, whatever options were given with it
	}
	if err := v.Volumes.Check(opts.DriverOpts); err != nil {
		return nil, nil, volumeError("create", opts.Name, err)
	}
	_, anonymous := opts.Labels[anonymousLabel]
	r := &state.Volume{
		Account:   a,
		Name:      opts.Name,
		Driver:    localDriver,
		Created:   time.Now().UTC(),
		Labels:    opts.Labels,
		Options:   opts.DriverOpts,
		Anonymous: anonymous,
	}
	event := volumeEvent(a, v.Host, r.Name, events.ActionCreate, map[string]string{"driver": r.Driver})
	return r, []state.Op{state.Create(r), state.Emit(event)}, nil
}

// volumeName is what Docker lets a volume be called, less the single characters.
var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// maxVolumeName is the longest name a directory can have on the file systems we meet.
const maxVolumeName = 255

func (v *Volumes) check(opts apivolume.CreateOptions) error {
	if d := opts.Driver; d != "" && d != localDriver {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("error looking up volume plugin %s: plugin %q not found", d, d))
	}
	switch n := opts.Name; {
	case len(n) == 1:
		return errdefs.ErrInvalidArgument.WithMessage("volume name is too short, names should be at least two alphanumeric characters")
	case !volumeName.MatchString(n):
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q includes invalid characters for a local volume name, only %q are allowed. If you intended to pass a host directory, use absolute path", n, "[a-zA-Z0-9][a-zA-Z0-9_.-]"))
	case len(n) > maxVolumeName:
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("volume name is too long, names should be at most %d characters", maxVolumeName))
	}
	return nil
}

// randomVolumeName names an anonymous volume: 64 hex digits.
func randomVolumeName() string { return string(nereid.NewContainerID()) }

// anonymousLabels are the labels of an anonymous volume.
func anonymousLabels(labels map[string]string) map[string]string {
	all := map[string]string{anonymousLabel: ""}
	maps.Copy(all, labels)
	return all
}

// Remove removes a volume and its data. One that a container uses, running or not, is errdefs.ErrConflict; with force
// one that is not there is no error.
func (v *Volumes) Remove(ctx context.Context, name string, force bool) error {
	a := nereid.AccountFrom(ctx)
	r, ok := v.State.View().Volume(a, name)
	if !ok {
		if force {
			return nil
		}
		return errNoSuchVolume(name)
	}
	return v.remove(ctx, r)
}

// removeHere takes a volume out of the state, then its data off this host's disk.
func (v *Volumes) removeHere(ctx context.Context, r *state.Volume) error {
	unlock, err := v.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	for try := 1; ; try++ {
		now, ok := v.State.View().Volume(r.Account, r.Name)
		if !ok {
			return nil // another removed it meanwhile
		}
		if users := v.State.View().VolumeUsers(r.Account, r.Name); len(users) > 0 {
			return errVolumeInUse(r.Name, users)
		}
		if err := v.Volumes.Unmount(ctx, now); err != nil {
			return volumeError("remove", r.Name, err)
		}
		if err := v.Volumes.Doom(ctx, now); err != nil {
			return volumeError("remove", r.Name, err)
		}
		_, err := v.State.Commit(ctx, v.removeOps(now)...)
		if err == nil {
			break
		}
		if !errdefs.IsAborted(err) || try == maxVolumeTries {
			return volumeError("remove", r.Name, err)
		}
	}
	return v.deleteData(ctx, r)
}

// removeOps take a volume that nobody uses out of the state. They fail when a container has come to use it since.
func (v *Volumes) removeOps(r *state.Volume) []state.Op {
	event := volumeEvent(r.Account, v.Host, r.Name, events.ActionDestroy, map[string]string{"driver": r.Driver})
	return []state.Op{state.Remove(r), state.Emit(event)}
}

// deleteData removes the data of a volume whose record is gone; the caller holds its lock. The record being back means
// that a container was created with the volume meanwhile, which takes it as it is.
func (v *Volumes) deleteData(ctx context.Context, r *state.Volume) error {
	if _, back := v.State.View().Volume(r.Account, r.Name); back {
		return v.Volumes.Spare(ctx, r)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostTimeout)
	defer cancel()
	if err := v.Volumes.Delete(ctx, r); err != nil {
		return volumeError("remove", r.Name, err)
	}
	return nil
}

// Prune removes the account's volumes that no container uses: anonymous ones, or all with the filter all=true. Volumes
// with options are kept, as there is nothing of ours to win back.
func (v *Volumes) Prune(ctx context.Context, f filters.Args) (*apivolume.PruneReport, error) {
	if !v.pruning.CompareAndSwap(false, true) {
		return nil, errdefs.ErrConflict.WithMessage("a prune operation is already running")
	}
	defer v.pruning.Store(false)
	all, err := pruneAll(f)
	if err != nil {
		return nil, err
	}
	keep, err := v.filter(f, "label", "label!", "all")
	if err != nil {
		return nil, err
	}
	a := nereid.AccountFrom(ctx)
	report := &apivolume.PruneReport{VolumesDeleted: []string{}}
	for _, r := range v.State.View().Volumes(a) {
		if ctx.Err() != nil {
			break
		}
		if _, anonymous := r.Labels[anonymousLabel]; (all || anonymous) && len(r.Options) == 0 && keep(r) {
			v.pruneOne(ctx, r, report)
		}
	}
	event := pruneEvent(a, v.Host, events.VolumeEventType, map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	_, err = v.State.Commit(context.WithoutCancel(ctx), state.Emit(event))
	return report, err
}

// pruneOne removes a volume if nobody uses it and adds it to the report. What cannot be removed stays for the next time.
func (v *Volumes) pruneOne(ctx context.Context, r *state.Volume, report *apivolume.PruneReport) {
	if len(v.State.View().VolumeUsers(r.Account, r.Name)) > 0 {
		return
	}
	size, err := v.usage(ctx, r)
	if err == nil {
		err = v.remove(ctx, r)
	}
	if err != nil {
		v.Log.Warn("volume not pruned", zap.String("volume", r.Name), zap.Error(err))
		return
	}
	report.VolumesDeleted = append(report.VolumesDeleted, r.Name)
	report.SpaceReclaimed += uint64(size)
}

// pruneAll reads the filter "all".
func pruneAll(f filters.Args) (bool, error) {
	switch given := f.Get("all"); len(given) {
	case 0:
		return false, nil
	case 1:
		all, err := strconv.ParseBool(given[0])
		if err != nil {
			return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter 'all': %v", err))
		}
		return all, nil
	default:
		return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter 'all=%s': only one value is expected", given))
	}
}

// filter checks a user's filters against those accepted and returns what they ask of a volume.
func (v *Volumes) filter(f filters.Args, accepted ...string) (func(*state.Volume) bool, error) {
	known := map[string]bool{}
	for _, name := range accepted {
		known[name] = true
	}
	if err := f.Validate(known); err != nil {
		return nil, err
	}
	dangling, err := f.GetBoolOrDefault("dangling", false)
	if err != nil {
		return nil, err
	}
	return func(r *state.Volume) bool {
		switch {
		case f.Contains("name") && !f.Match("name", r.Name),
			f.Contains("driver") && !f.ExactMatch("driver", r.Driver),
			f.Contains("label") && !f.MatchKVList("label", r.Labels),
			f.Contains("label!") && f.MatchKVList("label!", r.Labels):
			return false
		case f.Contains("dangling"):
			return dangling == (len(v.State.View().VolumeUsers(r.Account, r.Name)) == 0)
		}
		return true
	}, nil
}

// describe is a volume as the API shows it.
func (v *Volumes) describe(r *state.Volume) *apivolume.Volume {
	return &apivolume.Volume{
		CreatedAt:  r.Created.Local().Format(time.RFC3339),
		Driver:     r.Driver,
		Labels:     r.Labels,
		Mountpoint: v.mountpoint(r),
		Name:       r.Name,
		Options:    r.Options,
		Scope:      "local",
		Status:     v.status(r),
	}
}

func (v *Volumes) mountpoint(r *state.Volume) string {
	return volume.Mountpoint(v.DataRoot, r.Account, r.Name)
}

// DiskUsage measures the account's volumes that have no options, each where it lies.
func (v *Volumes) DiskUsage(ctx context.Context) (*apivolume.DiskUsage, error) {
	du := &apivolume.DiskUsage{Items: []*apivolume.Volume{}}
	for _, r := range v.State.View().Volumes(nereid.AccountFrom(ctx)) {
		if len(r.Options) > 0 {
			continue
		}
		size, err := v.usage(ctx, r)
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			v.Log.Warn("volume not measured", zap.String("volume", r.Name), zap.Error(err))
			size = -1
		}
		item := v.describe(r)
		item.UsageData = &apivolume.UsageData{Size: size, RefCount: int64(len(v.State.View().VolumeUsers(r.Account, r.Name)))}
		du.Items = append(du.Items, item)
		if size > 0 {
			du.TotalSize += size
			if item.UsageData.RefCount == 0 {
				du.Reclaimable += size
			}
		}
	}
	slices.SortFunc(du.Items, func(a, b *apivolume.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return du, nil
}
