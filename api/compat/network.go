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

// networkInspect is a network as versions below 1.48 know it: all have IPv4.
type networkInspect struct {
	network.Inspect
	EnableIPv4 *bool `json:",omitempty"`
}

// NetworkInspect gives a network the form of version v, ready for JSON.
func NetworkInspect(v Version, n network.Inspect) any {
	if v < 48 {
		return networkInspect{Inspect: n}
	}
	return n
}

// NetworkList is NetworkInspect of each; it is never null.
func NetworkList(v Version, list []network.Inspect) any {
	all := make([]any, len(list))
	for i, n := range list {
		all[i] = NetworkInspect(v, n)
	}
	return all
}

// NetworkListInDetail tells whether version v expects the containers of each network in a list.
func NetworkListInDetail(v Version) bool { return v < 28 }

// VolumePrune has older versions prune named volumes too, as they always did.
func VolumePrune(v Version, f filters.Args) {
	if v < 42 {
		f.Add("all", "true")
	}
}
