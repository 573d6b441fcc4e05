package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	apivolume "github.com/docker/docker/api/types/volume"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/volume"
)

// In the Options of a bind mount: bindNonRecursive keeps out what is mounted below its source. bindReadOnlyTop leaves
// that writable when the mount is read-only, bindReadOnlyAll makes it read-only or fails; with neither it is read-only
// where the kernel can make it.
const (
	bindNonRecursive = "bind"
	bindReadOnlyTop  = "ro"
	bindReadOnlyAll  = "rro"
)

// Resolve decides what a new container has mounted where, from its -v, --mount, --tmpfs, --volumes-from and the volumes
// of its configuration merged with its image's. It returns the mounts as inspect shows them, sorted by destination
// (--tmpfs is not among them, as with Docker), and the ops that make or hold the volumes. ReadOnlyTop is what clients
// before API 1.44 mean by a read-only bind: what is mounted below stays writable. The ops belong into the transaction
// that creates the container, so that a failed create leaves no volume; when that fails over a *state.Volume, another
// one made or removed the volume meanwhile: resolve again.
//
// Errors carry Docker's words; what a user got wrong is errdefs.ErrInvalidArgument.
func (v *Volumes) Resolve(ctx context.Context, a nereid.Account, hc *container.HostConfig, volumes map[string]struct{}, readOnlyTop bool) ([]state.Mount, []state.Op, error) {
	r := &mountResolver{
		v: v, account: a, hc: hc, readOnlyTop: readOnlyTop,
		mounts: map[string]state.Mount{},
		asked:  map[string]bool{},
		held:   map[string]*state.Volume{},
	}
	if r.hc == nil {
		r.hc = &container.HostConfig{}
	}
	steps := []func() error{r.tmpfs, r.from, r.binds, r.specs, func() error { return r.imageVolumes(volumes) }}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	mounts := slices.SortedFunc(maps.Values(r.mounts), func(a, b state.Mount) int { return cmp.Compare(a.Destination, b.Destination) })
	return mounts, r.ops, nil
}

// mountResolver collects the mounts of one container.
type mountResolver struct {
	v           *Volumes
	account     nereid.Account
	hc          *container.HostConfig
	readOnlyTop bool

	mounts map[string]state.Mount   // by destination
	asked  map[string]bool          // destinations of -v and --mount
	held   map[string]*state.Volume // by name
	ops    []state.Op
}

// tmpfs checks what --tmpfs asks for; it becomes a mount when the container starts.
func (r *mountResolver) tmpfs() error {
	for _, target := range slices.Sorted(maps.Keys(r.hc.Tmpfs)) {
		if err := volume.ValidateTarget(target); err != nil {
			return err
		}
		if _, err := volume.MergeTmpfs(strings.Split(r.hc.Tmpfs[target], ",")); err != nil {
			return err
		}
	}
	return nil
}

// from takes over the mounts of other containers.
func (r *mountResolver) from() error {
	for _, raw := range r.hc.VolumesFrom {
		ref, readOnly, err := volume.ParseFrom(raw)
		if err != nil {
			return err
		}
		c, err := r.v.State.View().FindContainer(r.account, ref)
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		for _, m := range c.Mounts {
			if err := r.takeOver(m, readOnly); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *mountResolver) takeOver(m state.Mount, readOnly bool) error {
	m.RW = m.RW && !readOnly
	m.Mode = ""
	if m.Type == string(mount.TypeVolume) {
		m.NoCopy = true
		if _, err := r.hold(apivolume.CreateOptions{Name: m.Name, Driver: m.Driver}); err != nil {
			return err
		}
	}
	r.mounts[m.Destination] = m
	return nil
}

// binds reads -v.
func (r *mountResolver) binds() error {
	for _, raw := range r.hc.Binds {
		s, err := volume.ParseBind(raw, r.hc.VolumeDriver)
		if err != nil {
			return err
		}
		if _, ok := r.hc.Tmpfs[s.Target]; ok {
			return errDuplicateMount(s.Target)
		}
		if err := r.add(s); err != nil {
			return err
		}
	}
	return nil
}

// specs reads --mount.
func (r *mountResolver) specs() error {
	for _, m := range r.hc.Mounts {
		s, err := volume.ParseMount(m)
		if err != nil {
			return err
		}
		if err := r.add(s); err != nil {
			return err
		}
	}
	return nil
}

// imageVolumes makes an anonymous volume for each volume of the configuration whose place is still free.
func (r *mountResolver) imageVolumes(volumes map[string]struct{}) error {
	for _, raw := range slices.Sorted(maps.Keys(volumes)) {
		if err := volume.ValidateTarget(raw); err != nil {
			return err
		}
		target := path.Clean(raw)
		_, mounted := r.mounts[target]
		_, tmpfs := r.hc.Tmpfs[target]
		if mounted || tmpfs {
			continue
		}
		rec, err := r.hold(apivolume.CreateOptions{Driver: r.hc.VolumeDriver})
		if err != nil {
			return err
		}
		r.mounts[target] = r.volumeMount(rec, volume.Spec{Mount: mount.Mount{Target: target}})
	}
	return nil
}

func errDuplicateMount(target string) error {
	return errdefs.ErrInvalidArgument.WithMessage("Duplicate mount point: " + target)
}

// add enters what -v or --mount asks for.
func (r *mountResolver) add(s volume.Spec) error {
	if r.asked[s.Target] {
		return errDuplicateMount(s.Target)
	}
	r.asked[s.Target] = true
	m, err := r.mount(s)
	if err != nil {
		return err
	}
	r.mounts[s.Target] = m
	return nil
}

func (r *mountResolver) mount(s volume.Spec) (state.Mount, error) {
	switch s.Type {
	case mount.TypeVolume:
		rec, err := r.hold(wantedVolume(s))
		if err != nil {
			return state.Mount{}, err
		}
		m := r.volumeMount(rec, s)
		if m.Mode == "" {
			m.Mode = "z" // what Docker shows for the local driver
		}
		return m, nil
	case mount.TypeBind:
		return r.bindMount(s)
	case mount.TypeImage:
		return imageMount(s), nil
	default: // tmpfs: the parser lets nothing else pass
		options, err := volume.TmpfsOptions(&s.Mount)
		return state.Mount{Type: string(s.Type), Destination: s.Target, RW: !s.ReadOnly, Options: options}, err
	}
}

// wantedVolume says which volume a mount asks for.
func wantedVolume(s volume.Spec) apivolume.CreateOptions {
	want := apivolume.CreateOptions{Name: s.Source}
	if o := s.VolumeOptions; o != nil {
		want.Labels = o.Labels
		if o.DriverConfig != nil {
			want.Driver = o.DriverConfig.Name
			want.DriverOpts = o.DriverConfig.Options
		}
	}
	return want
}

func (r *mountResolver) volumeMount(rec *state.Volume, s volume.Spec) state.Mount {
	m := state.Mount{
		Type:        string(mount.TypeVolume),
		Name:        rec.Name,
		Source:      r.v.mountpoint(rec),
		Destination: s.Target,
		Driver:      rec.Driver,
		Mode:        s.Mode,
		RW:          !s.ReadOnly,
		Anonymous:   s.Source == "",
	}
	if o := s.VolumeOptions; o != nil {
		m.NoCopy = o.NoCopy
		m.Subpath = o.Subpath
	}
	return m
}

func (r *mountResolver) bindMount(s volume.Spec) (state.Mount, error) {
	m := state.Mount{
		Type:        string(mount.TypeBind),
		Source:      s.Source,
		Destination: s.Target,
		Mode:        s.Mode,
		RW:          !s.ReadOnly,
		Propagation: string(s.BindOptions.Propagation),
	}
	if s.BindOptions.NonRecursive {
		m.Options = append(m.Options, bindNonRecursive)
	}
	switch {
	case s.ReadOnly && (r.readOnlyTop || s.BindOptions.ReadOnlyNonRecursive):
		m.Options = append(m.Options, bindReadOnlyTop)
	case s.ReadOnly && s.BindOptions.ReadOnlyForceRecursive:
		m.Options = append(m.Options, bindReadOnlyAll)
	}
	return m, r.guardDataRoot(&m, s)
}

// guardDataRoot sees to it that a bind mount of, or around, the daemon's own data does not keep its mounts from being
// unmounted on the host.
func (r *mountResolver) guardDataRoot(m *state.Mount, s volume.Spec) error {
	if !r.v.holdsDataRoot(m.Source) {
		return nil
	}
	switch {
	case m.Propagation == string(mount.PropagationRSlave), m.Propagation == string(mount.PropagationRShared):
		return nil
	case !r.propagationGiven(s):
		m.Propagation = string(mount.PropagationRSlave)
		return nil
	}
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(`invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q`, r.v.DataRoot, m.Source, m.Propagation))
}

// propagationGiven tells whether the user chose the propagation of a bind mount.
func (r *mountResolver) propagationGiven(s volume.Spec) bool {
	for _, m := range r.hc.Mounts {
		if path.Clean(m.Target) == s.Target && m.BindOptions != nil && m.BindOptions.Propagation != "" {
			return true
		}
	}
	return slices.Contains(strings.Split(s.Mode, ","), string(s.BindOptions.Propagation))
}

// holdsDataRoot tells whether a path is the data root, lies in it or holds it.
func (v *Volumes) holdsDataRoot(p string) bool {
	return within(p, v.DataRoot) || within(v.DataRoot, p)
}

// within tells whether a path is a directory or lies below it.
func within(p, dir string) bool {
	rel, err := filepath.Rel(dir, p)
	return err == nil && filepath.IsLocal(rel)
}

// hold returns the volume asked for, new or not, and enters the ops that keep it there for this container: a volume
// without a home gets this host for one, and one that a remove is about to take away is put back.
func (r *mountResolver) hold(want apivolume.CreateOptions) (*state.Volume, error) {
	if want.Name == "" {
		want.Name = randomVolumeName()
		want.Labels = anonymousLabels(want.Labels)
	}
	if rec, ok := r.held[want.Name]; ok {
		return rec, nil
	}
	rec, ops, err := r.v.findOrNew(r.account, want)
	if err != nil {
		return nil, err
	}
	switch {
	case shared(rec):
		if len(ops) == 0 {
			kept := *rec
			rec, ops = &kept, []state.Op{state.Put(&kept)}
		}
		rec.Home = "" // it has none: every host can mount it
	case len(ops) > 0:
		rec.Home = r.v.Host
	case rec.Home == "":
		claimed := *rec
		claimed.Home = r.v.Host
		rec, ops = &claimed, []state.Op{state.Update(&claimed)}
	case rec.Home != r.v.Host:
		return nil, &volumeElsewhere{rec}
	default:
		kept := *rec
		rec, ops = &kept, []state.Op{state.Put(&kept)}
	}
	r.held[want.Name] = rec
	r.ops = append(r.ops, ops...)
	return rec, nil
}

// volumeElsewhere says that a volume's data is on another host: it was given that home after the container was placed.
type volumeElsewhere struct{ volume *state.Volume }

func (e *volumeElsewhere) Error() string {
	return fmt.Sprintf("volume %s is on host %s", e.volume.Name, e.volume.Home)
}

// Unwrap gives the class.
func (e *volumeElsewhere) Unwrap() error { return errdefs.ErrFailedPrecondition }

// IsVolumeConflict tells whether a transaction with Resolve's ops failed because a volume changed meanwhile.
func IsVolumeConflict(err error) bool {
	conflict, ok := state.AsConflict(err)
	if !ok {
		return false
	}
	_, ok = conflict.Record.(*state.Volume)
	return ok
}
