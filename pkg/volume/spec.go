package volume

import (
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/docker/docker/api/types/mount"
)

// Spec is a mount as a user wrote it, checked and made uniform.
type Spec struct {
	mount.Mount
	// Mode is the last part of a -v string, as inspect shows it.
	Mode string
	// NoCreate is set where a bind's source must be there already: everywhere but in -v and with CreateMountpoint.
	NoCreate bool
}

// Kinds of words that may stand in the mode of -v; one of each kind at most.
var modeKinds = [][]string{
	{"rw", "ro"},
	{"z", "Z"},
	{"private", "rprivate", "slave", "rslave", "shared", "rshared"},
	{"nocopy"},
	{"consistent", "cached", "delegated"},
}

const (
	kindPropagation = 2
	kindCopy        = 3
)

// ParseBind reads a -v string: NAME:/in, /host:/in, each with :MODE at will, or /in alone. The driver is for volumes.
// Errors are errdefs.ErrInvalidArgument in Docker's words.
func ParseBind(raw, driver string) (Spec, error) {
	s, err := splitBind(raw)
	if err != nil {
		return Spec{}, err
	}
	s.Type = mount.TypeVolume
	if path.IsAbs(s.Source) {
		s.Type = mount.TypeBind
	}
	s.applyMode(driver)
	if err := validate(&s.Mount); err != nil {
		return Spec{}, invalid("invalid volume specification: '%s': %v", raw, err)
	}
	s.clean()
	return s, nil
}

// splitBind cuts a -v string into its parts.
func splitBind(raw string) (Spec, error) {
	var s Spec
	parts := strings.SplitN(raw, ":", 4)
	switch {
	case parts[0] == "" || len(parts) > 3:
		return s, invalid("invalid volume specification: '%s'", raw)
	case len(parts) == 1:
		s.Target = parts[0]
		return s, nil
	case len(parts) == 2 && validMode(parts[1]):
		// A path and a mode: there is no anonymous volume with a mode.
		return s, invalid("invalid volume specification: '%s'", raw)
	}
	s.Source, s.Target = parts[0], parts[1]
	if len(parts) == 3 {
		s.Mode = parts[2]
	}
	if !validMode(s.Mode) {
		return s, invalid("invalid mode: %s", s.Mode)
	}
	return s, nil
}

// applyMode turns the words of the mode into the options they stand for.
func (s *Spec) applyMode(driver string) {
	s.ReadOnly = modeHas(s.Mode, "ro")
	if driver != "" && s.Type == mount.TypeVolume {
		s.VolumeOptions = &mount.VolumeOptions{DriverConfig: &mount.Driver{Name: driver}}
	}
	if modeHas(s.Mode, modeKinds[kindCopy]...) {
		if s.VolumeOptions == nil {
			s.VolumeOptions = &mount.VolumeOptions{}
		}
		s.VolumeOptions.NoCopy = true
	}
	for _, word := range modeKinds[kindPropagation] {
		if modeHas(s.Mode, word) {
			s.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(word)}
		}
	}
}

// ParseMount checks a mount of --mount. Errors are errdefs.ErrInvalidArgument in Docker's words.
func ParseMount(m mount.Mount) (Spec, error) {
	if err := validate(&m); err != nil {
		return Spec{}, err
	}
	s := Spec{Mount: m, NoCreate: m.BindOptions == nil || !m.BindOptions.CreateMountpoint}
	if m.Type == mount.TypeBind && s.NoCreate {
		if _, err := os.Stat(m.Source); err != nil {
			return Spec{}, mountError(&m, "bind source path does not exist: %s", m.Source)
		}
	}
	s.clean()
	return s, nil
}

// ParseFrom reads a --volumes-from string: a container and, at will, ro or rw.
func ParseFrom(raw string) (container string, readOnly bool, err error) {
	if raw == "" {
		return "", false, invalid("volumes-from specification cannot be an empty string")
	}
	container, mode, _ := strings.Cut(raw, ":")
	forbidden := append(append([]string{}, modeKinds[kindPropagation]...), modeKinds[kindCopy]...)
	if !validMode(mode) || modeHas(mode, forbidden...) {
		return "", false, invalid("invalid mode: %s", mode)
	}
	return container, modeHas(mode, "ro"), nil
}

// clean gives paths their one form and fills in defaults.
func (s *Spec) clean() {
	s.Target = path.Clean(s.Target)
	if s.Type != mount.TypeBind {
		return
	}
	s.Source = path.Clean(s.Source)
	if s.BindOptions == nil {
		s.BindOptions = &mount.BindOptions{}
	}
	if s.BindOptions.Propagation == "" {
		o := *s.BindOptions // the user's request stays as it is
		o.Propagation = mount.PropagationRPrivate
		s.BindOptions = &o
	}
}

func validMode(mode string) bool {
	if mode == "" {
		return true
	}
	seen := map[int]bool{}
	for word := range strings.SplitSeq(mode, ",") {
		kind := modeKind(word)
		if kind < 0 || seen[kind] {
			return false
		}
		seen[kind] = true
	}
	return true
}

func modeKind(word string) int {
	for kind, words := range modeKinds {
		for _, w := range words {
			if w == word {
				return kind
			}
		}
	}
	return -1
}

func modeHas(mode string, words ...string) bool {
	for word := range strings.SplitSeq(mode, ",") {
		for _, w := range words {
			if word == w {
				return true
			}
		}
	}
	return false
}

// ValidateTarget checks a place in a container where something is to be mounted.
func ValidateTarget(target string) error {
	if path.Clean(target) == "/" {
		return invalid("invalid specification: destination can't be '/'")
	}
	if !path.IsAbs(target) {
		return invalid("invalid mount path: '%s' mount path must be absolute", target)
	}
	return nil
}

// mountError words what is wrong with a mount.
func mountError(m *mount.Mount, format string, args ...any) error {
	return invalid("invalid mount config for type %q: %v", m.Type, invalid(format, args...))
}

func missing(m *mount.Mount, field string) error {
	return mountError(m, "field %s must not be empty", field)
}

func extra(m *mount.Mount, field string) error {
	return mountError(m, "field %s must not be specified", field)
}

// validate checks a mount without looking at the host.
func validate(m *mount.Mount) error {
	if m.Target == "" {
		return missing(m, "Target")
	}
	if err := ValidateTarget(m.Target); err != nil {
		return mountError(m, "%v", err)
	}
	switch m.Type {
	case mount.TypeBind:
		return validateBind(m)
	case mount.TypeVolume:
		return validateVolume(m)
	case mount.TypeTmpfs:
		return validateTmpfs(m)
	case mount.TypeImage:
		return validateImage(m)
	case mount.TypeNamedPipe, mount.TypeCluster:
		fallthrough
	default:
		return mountError(m, "mount type unknown")
	}
}

func validateBind(m *mount.Mount) error {
	o := m.BindOptions
	switch {
	case m.Source == "":
		return missing(m, "Source")
	case o != nil && o.Propagation != "" && modeKind(string(o.Propagation)) != kindPropagation:
		return mountError(m, "invalid propagation mode: %s", o.Propagation)
	case m.VolumeOptions != nil:
		return extra(m, "VolumeOptions")
	case m.ImageOptions != nil:
		return extra(m, "ImageOptions")
	case !path.IsAbs(m.Source):
		return mountError(m, "invalid mount path: '%s' mount path must be absolute", m.Source)
	case o != nil && !m.ReadOnly && o.ReadOnlyNonRecursive:
		return invalid("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
	case o != nil && !m.ReadOnly && o.ReadOnlyForceRecursive:
		return invalid("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
	case o != nil && o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive:
		return invalid("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
	}
	return nil
}

func validateVolume(m *mount.Mount) error {
	anonymous := m.Source == ""
	subpath := ""
	if m.VolumeOptions != nil {
		subpath = m.VolumeOptions.Subpath
	}
	switch {
	case m.BindOptions != nil:
		return extra(m, "BindOptions")
	case m.ImageOptions != nil:
		return extra(m, "ImageOptions")
	case subpath != "" && anonymous:
		return mountError(m, "must not set Subpath when using anonymous volumes")
	case subpath != "" && !filepath.IsLocal(subpath):
		return mountError(m, "subpath must be a relative path within the volume")
	case m.ReadOnly && anonymous:
		return mountError(m, "must not set ReadOnly mode when using anonymous volumes")
	}
	return nil
}

func validateImage(m *mount.Mount) error {
	switch {
	case m.BindOptions != nil:
		return extra(m, "BindOptions")
	case m.VolumeOptions != nil:
		return extra(m, "VolumeOptions")
	case m.Source == "":
		return missing(m, "Source")
	case m.ImageOptions != nil && m.ImageOptions.Subpath != "" && !filepath.IsLocal(m.ImageOptions.Subpath):
		return mountError(m, "subpath must be a relative path within the volume")
	}
	return nil
}

func validateTmpfs(m *mount.Mount) error {
	switch {
	case m.BindOptions != nil:
		return extra(m, "BindOptions")
	case m.ImageOptions != nil:
		return extra(m, "ImageOptions")
	case m.Source != "":
		return extra(m, "Source")
	}
	if _, err := TmpfsOptions(m); err != nil {
		return mountError(m, "%v", err)
	}
	return nil
}
