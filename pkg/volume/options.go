package volume

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Device is what a volume with options mounts instead of a directory of ours.
type Device struct {
	Source   string // empty: no device
	ReadOnly bool
}

// mandatoryOptions says which options each option needs beside it.
var mandatoryOptions = map[string][]string{
	"device": {"type"},
	"o":      {"device", "type"},
	"type":   {"device"},
}

// ParseOptions reads the options of the local driver. Of them, type=none with o=bind or rbind (and ro or rw) and an
// absolute device is honoured; what is not is errdefs.ErrInvalidArgument.
func ParseOptions(opts map[string]string) (Device, error) {
	for _, name := range sortedKeys(opts) {
		if !slices.Contains([]string{"type", "o", "device", "size"}, name) {
			return Device{}, invalid("invalid option: %q", name)
		}
		for _, needs := range mandatoryOptions[name] {
			if _, ok := opts[needs]; !ok {
				return Device{}, invalid("missing required option: %q", needs)
			}
		}
	}
	if _, ok := opts["size"]; ok {
		return Device{}, invalid("quota size requested but no quota support")
	}
	if len(opts) == 0 {
		return Device{}, nil
	}
	return bindDevice(opts)
}

func bindDevice(opts map[string]string) (Device, error) {
	dev := Device{Source: opts["device"]}
	bind := false
	for _, o := range strings.Split(opts["o"], ",") {
		switch o {
		case "bind", "rbind":
			bind = true
		case "ro":
			dev.ReadOnly = true
		case "rw":
			dev.ReadOnly = false
		default:
			return Device{}, invalid("volume option o=%s is not supported, only bind, rbind, ro and rw are", o)
		}
	}
	if opts["type"] != "none" && opts["type"] != "bind" || !bind {
		return Device{}, invalid("volume option type=%s is not supported, only type=none with o=bind is", opts["type"])
	}
	if !filepath.IsAbs(dev.Source) {
		return Device{}, invalid("volume option device=%s: must be an absolute path", dev.Source)
	}
	return dev, nil
}

// invalid makes an error whose whole text is for the user: the class is in the type, not in the words.
func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
