package state

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// lookup is a table's record under the view's lock.
func lookup[K comparable, R held](v *View, t *table[K, R], id K) (R, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	r, ok := t.byID[id]
	return r, ok
}

// listOf is a group under the view's lock; the slice is the caller's.
func listOf[G comparable, R held](v *View, g *grouping[G, R], group G) []R {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return g.list(group)
}

// Container by full id.
func (v *View) Container(a nereid.Account, id nereid.ContainerID) (*Container, bool) {
	return lookup(v, v.containers, owned[nereid.ContainerID]{a, id})
}

// Containers of an account, newest first. The slice is the caller's.
func (v *View) Containers(a nereid.Account) []*Container { return listOf(v, v.containersOf, a) }

// AppendContainers appends the containers of an account to dst, newest first: for who lists them often.
func (v *View) AppendContainers(dst []*Container, a nereid.Account) []*Container {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if set := v.containersOf.sets[a]; set != nil {
		return set.appendTo(dst)
	}
	return dst
}

// ContainersOn lists a host's containers of all accounts, newest first.
func (v *View) ContainersOn(h nereid.Host) []*Container { return listOf(v, v.containersOn, h) }

// ContainersOnNetwork lists the containers with an endpoint on a network, newest first.
func (v *View) ContainersOnNetwork(n nereid.NetworkID) []*Container {
	return listOf(v, v.containersIn, n)
}

// ContainersOfNetwork lists an account's containers with an endpoint on a network of the name, or of an id that begins
// so: those of each in their order, and one that is on several so often.
func (v *View) ContainersOfNetwork(a nereid.Account, ref string) []*Container {
	v.mu.RLock()
	defer v.mu.RUnlock()
	list := v.containersOfNet.list(owned[string]{a, ref})
	for id := range v.containersIn.sets {
		if strings.HasPrefix(string(id), ref) {
			list = append(list, v.containersIn.list(id)...)
		}
	}
	return slices.DeleteFunc(list, func(c *Container) bool { return c.Account != a })
}

// ContainersLabelled lists an account's containers that have a label of their own with a value, newest first.
func (v *View) ContainersLabelled(a nereid.Account, key, value string) []*Container {
	return slices.DeleteFunc(listOf(v, v.containersLabelled, v.labelGroup(a, key, value)), func(c *Container) bool {
		if c.Account != a || c.Config == nil {
			return true
		}
		has, ok := c.Config.Labels[key]
		return !ok || has != value
	})
}

// ContainersByPrefix returns an account's containers whose id starts so, at most n of them, by id.
func (v *View) ContainersByPrefix(a nereid.Account, prefix string, n int) []*Container {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.containersByPrefixLocked(a, prefix, n)
}

func (v *View) containersByPrefixLocked(a nereid.Account, prefix string, n int) []*Container {
	return v.containerIDs.upTo(n, a,
		func(c *Container) bool { return string(c.ID) >= prefix },
		func(c *Container) bool { return strings.HasPrefix(string(c.ID), prefix) })
}

// Linking lists an account's containers that link to others on the default network (--link), newest first.
func (v *View) Linking(a nereid.Account) []*Container { return listOf(v, v.linking, a) }

// Name is the claim of a container name, without the leading slash.
func (v *View) Name(a nereid.Account, name string) (*Name, bool) {
	return lookup(v, v.names, owned[string]{a, name})
}

// Network by full id.
func (v *View) Network(a nereid.Account, id nereid.NetworkID) (*Network, bool) {
	return lookup(v, v.networks, owned[nereid.NetworkID]{a, id})
}

// Networks of an account, newest first.
func (v *View) Networks(a nereid.Account) []*Network { return listOf(v, v.networksOf, a) }

// AllNetworks of all accounts, newest first.
func (v *View) AllNetworks() []*Network { return listOf(v, v.everyNetwork, whole{}) }

// NetworkName is the claim of a network's name.
func (v *View) NetworkName(a nereid.Account, name string) (*NetworkName, bool) {
	return lookup(v, v.networkNames, owned[string]{a, name})
}

// NetworkPlan is the fleet's; before the first network it is one not stored yet. What it returns is the caller's.
func (v *View) NetworkPlan() *NetworkPlan {
	if p, ok := lookup(v, v.networkPlan, whole{}); ok {
		return p.Clone()
	}
	return &NetworkPlan{}
}

// Address is the claim of an address, given as text; what is no address is not found.
func (v *View) Address(n nereid.NetworkID, addr string) (*Address, bool) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, false
	}
	return lookup(v, v.addresses, addressKey{n, ip})
}

// Addresses claimed on a network, in numeric order.
func (v *View) Addresses(n nereid.NetworkID) []*Address { return listOf(v, v.addressesIn, n) }

// Port is the record of a host port, with all claims of it.
func (v *View) Port(proto string, port uint16) (*Port, bool) {
	return lookup(v, v.ports, portKey{proto, port})
}

// Ports with claims, in numeric order.
func (v *View) Ports() []*Port { return listOf(v, v.everyPort, whole{}) }

// Volume by name.
func (v *View) Volume(a nereid.Account, name string) (*Volume, bool) {
	return lookup(v, v.volumes, owned[string]{a, name})
}

// Volumes of an account, by name.
func (v *View) Volumes(a nereid.Account) []*Volume { return listOf(v, v.volumesOf, a) }

// VolumeUsers are the containers that mount a volume, running or not, newest first.
func (v *View) VolumeUsers(a nereid.Account, name string) []*Container {
	return listOf(v, v.volumeUsers, owned[string]{a, name})
}

// Image by full id, "sha256:" included.
func (v *View) Image(a nereid.Account, id nereid.ImageID) (*Image, bool) {
	return lookup(v, v.images, owned[nereid.ImageID]{a, id})
}

// Images of an account, newest first.
func (v *View) Images(a nereid.Account) []*Image { return listOf(v, v.imagesOf, a) }

// Tag by full reference.
func (v *View) Tag(a nereid.Account, ref string) (*Tag, bool) {
	return lookup(v, v.tags, owned[string]{a, ref})
}

// Tags of an account, by reference.
func (v *View) Tags(a nereid.Account) []*Tag { return listOf(v, v.tagsOfAccount, a) }

// TagsOf lists the tags of an image, by reference.
func (v *View) TagsOf(a nereid.Account, id nereid.ImageID) []*Tag {
	return listOf(v, v.tagsOfImage, owned[nereid.ImageID]{a, id})
}

// ImagesOfTarget lists an account's images that came by one manifest or index, newest first.
func (v *View) ImagesOfTarget(a nereid.Account, target digest.Digest) []*Image {
	return listOf(v, v.imagesOfTarget, owned[digest.Digest]{a, target})
}

// CountImageUsers counts ImageUsers.
func (v *View) CountImageUsers(a nereid.Account, id nereid.ImageID) int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.imageUsers.size(owned[nereid.ImageID]{a, id})
}

// ImageUsers are the containers made from an image, running or not, newest first.
func (v *View) ImageUsers(a nereid.Account, id nereid.ImageID) []*Container {
	return listOf(v, v.imageUsers, owned[nereid.ImageID]{a, id})
}

// Accounts of the fleet, by name.
func (v *View) Accounts() []*Account { return listOf(v, v.everyAccount, whole{}) }

// Host by name; not found when it is not in the fleet or its lease ended.
func (v *View) Host(h nereid.Host) (*Host, bool) { return lookup(v, v.hosts, h) }

// Hosts that hold their lease, by name.
func (v *View) Hosts() []*Host { return listOf(v, v.everyHost, whole{}) }

// Member is a host as the fleet admitted it, alive or not.
func (v *View) Member(h nereid.Host) (*Member, bool) { return lookup(v, v.members, h) }

// Members of the fleet by name. The slice is the caller's.
func (v *View) Members() []*Member { return listOf(v, v.everyMember, whole{}) }

// JoinToken by the hash of its secret.
func (v *View) JoinToken(hash string) (*JoinToken, bool) { return lookup(v, v.joinTokens, hash) }

// JoinTokens are all there are, oldest first. The slice is the caller's.
func (v *View) JoinTokens() []*JoinToken { return listOf(v, v.everyJoinToken, whole{}) }
