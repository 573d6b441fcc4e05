package compat

import (
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
)

// endpoint is a container's endpoint as versions below 1.48 know it: the fields here stand before those of the same
// name within.
type endpoint struct {
	*network.EndpointSettings
	GwPriority *int      `json:",omitempty"` // since 1.48
	DNSNames   *[]string `json:",omitempty"` // since 1.44
}

func endpoints(v Version, all map[string]*network.EndpointSettings) map[string]*endpoint {
	if all == nil {
		return nil
	}
	old := make(map[string]*endpoint, len(all))
	for name, ep := range all {
		if ep == nil {
			old[name] = nil
			continue
		}
		old[name] = &endpoint{EndpointSettings: ep}
		if v >= 44 {
			old[name].DNSNames = &ep.DNSNames
		}
	}
	return old
}

// summary is a container in a list as versions below 1.48 know it.
type summary struct {
	*container.Summary
	NetworkSettings *summaryNetworks
}

type summaryNetworks struct{ Networks map[string]*endpoint }

func summaries(v Version, list []*container.Summary) []summary {
	if list == nil {
		return nil
	}
	old := make([]summary, len(list))
	for i, c := range list {
		old[i].Summary = c
		if c.NetworkSettings != nil {
			old[i].NetworkSettings = &summaryNetworks{endpoints(v, c.NetworkSettings.Networks)}
		}
	}
	return old
}

// settings are a container's network settings as versions below 1.48 know them.
type settings struct {
	*container.NetworkSettings
	Networks map[string]*endpoint
}
