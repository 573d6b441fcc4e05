package volume

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/mount"
	sysmount "github.com/moby/sys/mount"
)

// TmpfsOptions are the mount(8) options that a tmpfs of --mount asks for.
func TmpfsOptions(m *mount.Mount) ([]string, error) {
	var out []string
	if m.ReadOnly {
		out = append(out, "ro")
	}
	o := m.TmpfsOptions
	if o == nil {
		return out, nil
	}
	if o.Mode != 0 {
		out = append(out, fmt.Sprintf("mode=%o", o.Mode))
	}
	if o.SizeBytes != 0 {
		out = append(out, "size="+shortSize(o.SizeBytes))
	}
	for _, opt := range o.Options {
		if len(opt) < 1 || len(opt) > 2 {
			return nil, invalid("invalid option array length")
		}
		if opt[0] != "exec" && opt[0] != "noexec" {
			return nil, invalid("invalid option: %s", opt[0])
		}
		out = append(out, strings.Join(opt, "="))
	}
	return out, nil
}

// shortSize writes bytes with the largest unit that divides them.
func shortSize(n int64) string {
	for i, unit := range []string{"g", "m", "k"} {
		if div := int64(1) << (10 * (3 - i)); n%div == 0 {
			return strconv.FormatInt(n/div, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// MergeTmpfs puts a user's options for a tmpfs over Docker's defaults.
func MergeTmpfs(options []string) ([]string, error) {
	all := []string{"noexec", "nosuid", "nodev", "rprivate"}
	for _, o := range options {
		if o != "" {
			all = append(all, o)
		}
	}
	merged, err := sysmount.MergeTmpfsOptions(all)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return merged, nil
}
