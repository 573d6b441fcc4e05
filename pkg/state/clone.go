package state

import (
	"maps"
	"slices"
)

// Clone copies a container so that the copy may be changed and committed: fields, networks, endpoints, mounts, health.
// Config and HostConfig are copied one level deep: replace the maps, slices and pointers in them, do not edit those.
func (r *Container) Clone() *Container {
	c := *r
	c.Args = slices.Clone(r.Args)
	c.Mounts = slices.Clone(r.Mounts)
	c.Config = clonePtr(r.Config)
	c.HostConfig = clonePtr(r.HostConfig)
	c.Manifest = clonePtr(r.Manifest)
	c.Networks = maps.Clone(r.Networks)
	for name, e := range c.Networks {
		c.Networks[name] = e.Clone()
	}
	if c.State.Health = clonePtr(r.State.Health); c.State.Health != nil {
		c.State.Health.Log = slices.Clone(r.State.Health.Log)
	}
	return &c
}

// Clone copies an endpoint with all it holds.
func (e *Endpoint) Clone() *Endpoint {
	if e == nil {
		return nil
	}
	c := *e
	c.Aliases = slices.Clone(e.Aliases)
	c.DNSNames = slices.Clone(e.DNSNames)
	c.Links = slices.Clone(e.Links)
	c.DriverOpts = maps.Clone(e.DriverOpts)
	c.LinkLocal = slices.Clone(e.LinkLocal)
	return &c
}

// Clone copies a network with all it holds.
func (r *Network) Clone() *Network {
	c := *r
	c.IPAMOptions = maps.Clone(r.IPAMOptions)
	c.Options = maps.Clone(r.Options)
	c.Labels = maps.Clone(r.Labels)
	c.Subnets = slices.Clone(r.Subnets)
	for i := range c.Subnets {
		c.Subnets[i].Auxiliary = maps.Clone(r.Subnets[i].Auxiliary)
	}
	return &c
}

// Clone copies the plan.
func (r *NetworkPlan) Clone() *NetworkPlan { return clonePtr(r) }

// Clone copies a port with its claims.
func (r *Port) Clone() *Port {
	c := *r
	c.Claims = slices.Clone(r.Claims)
	return &c
}

// Clone copies a volume with all it holds.
func (r *Volume) Clone() *Volume {
	c := *r
	c.Labels = maps.Clone(r.Labels)
	c.Options = maps.Clone(r.Options)
	return &c
}

// Clone copies an image. Its Config bytes and descriptors are shared: replace them, do not edit them.
func (r *Image) Clone() *Image {
	c := *r
	c.Layers = slices.Clone(r.Layers)
	c.Sizes = slices.Clone(r.Sizes)
	c.Digests = slices.Clone(r.Digests)
	c.Hosts = slices.Clone(r.Hosts)
	return &c
}

// Clone copies a host with its labels.
func (r *Host) Clone() *Host {
	c := *r
	c.Labels = maps.Clone(r.Labels)
	return &c
}

// Clone copies a member with its labels.
func (r *Member) Clone() *Member {
	c := *r
	c.Labels = maps.Clone(r.Labels)
	c.Facts.Labels = maps.Clone(r.Facts.Labels)
	return &c
}

// Clone copies a join token.
func (r *JoinToken) Clone() *JoinToken { return clonePtr(r) }

// Clone copies a tag.
func (r *Tag) Clone() *Tag { return clonePtr(r) }

// Clone copies an account.
func (r *Account) Clone() *Account { return clonePtr(r) }

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
