package engine

import (
	"slices"

	"github.com/docker/docker/api/types/container"
)

// checkNulls refuses a null in a list of objects: JSON allows it, and it means nothing.
func checkNulls(r *container.Resources) error {
	for _, list := range []struct {
		field string
		null  bool
	}{
		{"Ulimits", slices.Contains(r.Ulimits, nil)},
		{"BlkioWeightDevice", slices.Contains(r.BlkioWeightDevice, nil)},
		{"BlkioDeviceReadBps", slices.Contains(r.BlkioDeviceReadBps, nil)},
		{"BlkioDeviceWriteBps", slices.Contains(r.BlkioDeviceWriteBps, nil)},
		{"BlkioDeviceReadIOps", slices.Contains(r.BlkioDeviceReadIOps, nil)},
		{"BlkioDeviceWriteIOps", slices.Contains(r.BlkioDeviceWriteIOps, nil)},
	} {
		if list.null {
			return errInvalid("invalid %s: null is no element of it", list.field)
		}
	}
	return nil
}
