package volume

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
)

// Options of a volume of the local driver: what is mounted at its place instead of a directory of ours, and how large
// it may grow. The zero value is a plain directory.
type Options struct {
	Type   string // file system, as mount -t takes it
	Device string
	Mount  string // as mount -o takes it
	Size   uint64 // bytes; 0: as much as there is
}

// mandatoryOptions says which options each option needs beside it.
var mandatoryOptions = map[string][]string{
	"device": {"type"},
	"o":      {"device", "type"},
	"size":   nil,
	"type":   {"device"},
}

// ParseOptions reads the options of the local driver. Errors are errdefs.ErrInvalidArgument in Docker's words.
func ParseOptions(opts map[string]string) (Options, error) {
	o := Options{Type: opts["type"], Device: opts["device"], Mount: opts["o"]}
	for _, name := range sortedKeys(opts) {
		if _, ok := mandatoryOptions[name]; !ok {
			return Options{}, invalid("invalid option: %q", name)
		}
	}
	if err := o.checkDevice(); err != nil {
		return Options{}, err
	}
	if raw, ok := opts["size"]; ok {
		size, err := units.RAMInBytes(raw)
		if err != nil {
			return Options{}, invalid("%v", err)
		}
		o.Size = uint64(max(size, 0))
	}
	for _, name := range sortedKeys(opts) {
		for _, needs := range mandatoryOptions[name] {
			if _, ok := opts[needs]; !ok {
				return Options{}, invalid("missing required option: %q", needs)
			}
		}
	}
	return o, nil
}

// checkDevice refuses what no mount could make sense of.
func (o Options) checkDevice() error {
	if o.binds() && o.Device != "" && !filepath.IsAbs(o.Device) {
		return invalid("volume option device=%s: must be an absolute path", o.Device)
	}
	if o.Type != "cifs" || o.Device == "" {
		return nil
	}
	u, err := url.Parse(o.Device) // a Windows share is written as one
	switch {
	case err != nil:
		return invalid("error parsing mount device url: %v", err)
	case u.Port() != "":
		return invalid("port not allowed in CIFS device URL, include 'port' in 'o='")
	}
	return nil
}

// Mounted tells whether something is mounted at the volume's place while it is in use.
func (o Options) Mounted() bool { return o.Type != "" || o.Device != "" }

// sharedTypes are file systems that a server gives to every host alike.
var sharedTypes = []string{"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs"}

// Shared tells whether every host that mounts the volume finds the same data.
func (o Options) Shared() bool { return slices.Contains(sharedTypes, o.Type) }

// binds tells whether a directory of the host is mounted.
func (o Options) binds() bool { return o.has("bind") || o.has("rbind") }

// has tells whether a word stands among the mount options.
func (o Options) has(word string) bool {
	return slices.Contains(strings.Split(o.Mount, ","), word)
}

// value of a KEY=VALUE among the mount options; empty when there is none.
func (o Options) value(key string) string {
	for opt := range strings.SplitSeq(o.Mount, ",") {
		if v, ok := strings.CutPrefix(opt, key+"="); ok {
			return v
		}
	}
	return ""
}

// invalid makes an error whose whole text is for the user: the class is in the type, not in the words.
func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
