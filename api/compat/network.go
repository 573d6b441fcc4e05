package compat

import (
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
)

// NetworkCreate turns a create request of version v into the present one.
func NetworkCreate(v Version, req *network.CreateRequest) {
	if v < 48 {
		req.EnableIPv4 = nil
	}
}

// NetworkListInDetail tells whether version v expects the containers of each network in a list.
func NetworkListInDetail(v Version) bool { return v < 28 }

// VolumePrune has older versions prune named volumes too, as they always did.
func VolumePrune(v Version, f filters.Args) {
	if v < 42 {
		f.Add("all", "true")
	}
}
