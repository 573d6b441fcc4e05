package state

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// owned is a thing's name or id within its account.
type owned[T ~string] struct {
	account nereid.Account
	id      T
}

type portKey struct {
	proto string
	port  uint16
}

type addressKey struct {
	network nereid.NetworkID
	address netip.Addr
}

// whole is the one group of a grouping that lists a kind over all accounts.
type whole struct{}

// indexes are the ways into the records.
type indexes struct {
	containers   *table[owned[nereid.ContainerID], *Container]
	names        *table[owned[string], *Name]
	networks     *table[owned[nereid.NetworkID], *Network]
	networkNames *table[owned[string], *NetworkName]
	networkPlan  *table[whole, *NetworkPlan]
	addresses    *table[addressKey, *Address]
	ports        *table[portKey, *Port]
	volumes      *table[owned[string], *Volume]
	images       *table[owned[nereid.ImageID], *Image]
	tags         *table[owned[string], *Tag]
	accounts     *table[nereid.Account, *Account]
	hosts        *table[nereid.Host, *Host]
	members      *table[nereid.Host, *Member]
	joinTokens   *table[string, *JoinToken]

	containersOf       *grouping[nereid.Account, *Container]
	containerIDs       *grouping[nereid.Account, *Container]
	containersOn       *grouping[nereid.Host, *Container]
	containersIn       *grouping[nereid.NetworkID, *Container]
	containersOfNet    *grouping[owned[string], *Container] // by the network's name
	containersLabelled *grouping[uint16, *Container]        // by labelGroup
	linking            *grouping[nereid.Account, *Container]
	volumeUsers        *grouping[owned[string], *Container]
	imageUsers         *grouping[owned[nereid.ImageID], *Container]
	networksOf         *grouping[nereid.Account, *Network]
	networkIDs         *grouping[nereid.Account, *Network]
	everyNetwork       *grouping[whole, *Network]
	addressesIn        *grouping[nereid.NetworkID, *Address]
	everyPort          *grouping[whole, *Port]
	volumesOf          *grouping[nereid.Account, *Volume]
	imagesOf           *grouping[nereid.Account, *Image]
	imageIDs           *grouping[nereid.Account, *Image]
	imagesOfTarget     *grouping[owned[digest.Digest], *Image]
	tagsOfAccount      *grouping[nereid.Account, *Tag]
	tagsOfImage        *grouping[owned[nereid.ImageID], *Tag]
	everyAccount       *grouping[whole, *Account]
	everyHost          *grouping[whole, *Host]
	everyMember        *grouping[whole, *Member]
	everyJoinToken     *grouping[whole, *JoinToken]
	indexersByKind     map[Kind]indexer
	labelSeed          maphash.Seed
	namesIndexes
}

func newIndexes() *indexes {
	x := &indexes{labelSeed: maphash.MakeSeed()}
	x.indexContainers()
	x.indexNetworks()
	x.indexVolumesAndImages()
	x.indexFleet()
	x.indexNames()
	x.indexersByKind = map[Kind]indexer{
		KindAccount: x.accounts, KindHost: x.hosts, KindContainer: x.containers, KindName: x.names,
		KindNetwork: x.networks, KindNetworkName: x.networkNames, KindNetworkPlan: x.networkPlan,
		KindAddress: x.addresses, KindPort: x.ports,
		KindVolume: x.volumes, KindImage: x.images, KindTag: x.tags,
		KindMember: x.members, KindJoinToken: x.joinTokens,
	}
	x.namesIndexers(x.indexersByKind)
	return x
}

func (x *indexes) indexContainers() {
	t := newTable(func(r *Container) owned[nereid.ContainerID] { return owned[nereid.ContainerID]{r.Account, r.ID} })
	byID := func(a, b *Container) int { return strings.Compare(string(a.ID), string(b.ID)) }
	newest := NewestFirst
	account := func(r *Container, in func(nereid.Account)) { in(r.Account) }
	x.containers = t
	x.containersOf = groupBy(t, newest, account)
	x.containerIDs = groupBy(t, byID, account)
	x.containersOn = groupBy(t, newest, func(r *Container, in func(nereid.Host)) { in(r.Host) })
	x.containersIn = groupBy(t, newest, eachNetwork)
	x.containersOfNet = groupBy(t, newest, func(r *Container, in func(owned[string])) {
		for name := range r.Networks {
			in(owned[string]{r.Account, name})
		}
	})
	x.containersLabelled = groupBy(t, newest, x.eachLabel)
	x.linking = groupBy(t, newest, func(r *Container, in func(nereid.Account)) {
		for range r.Links() {
			in(r.Account)
			return
		}
	})
	x.volumeUsers = groupBy(t, newest, eachVolume)
	x.imageUsers = groupBy(t, newest, func(r *Container, in func(owned[nereid.ImageID])) {
		in(owned[nereid.ImageID]{r.Account, r.ImageID})
	})
	x.names = newTable(func(r *Name) owned[string] { return owned[string]{r.Account, r.Name} })
}

func eachNetwork(r *Container, in func(nereid.NetworkID)) {
	for _, e := range r.Networks {
		if e != nil {
			in(e.Network)
		}
	}
}

// labelGroups bounds the groups of labels: those that each container has another value of do not take a set each.
const labelGroups = 1 << 14

func (x *indexes) eachLabel(r *Container, in func(uint16)) {
	if r.Config == nil {
		return
	}
	for key, value := range r.Config.Labels {
		in(x.labelGroup(r.Account, key, value))
	}
}

// labelGroup is the group of a label with its value, which others may be in, too.
func (x *indexes) labelGroup(a nereid.Account, key, value string) uint16 {
	return uint16(maphash.Comparable(x.labelSeed, [3]string{string(a), key, value}) % labelGroups)
}

func eachVolume(r *Container, in func(owned[string])) {
	for _, m := range r.Mounts {
		if m.Type == "volume" && m.Name != "" {
			in(owned[string]{r.Account, m.Name})
		}
	}
}

func (x *indexes) indexNetworks() {
	t := newTable(func(r *Network) owned[nereid.NetworkID] { return owned[nereid.NetworkID]{r.Account, r.ID} })
	byID := func(a, b *Network) int { return strings.Compare(string(a.ID), string(b.ID)) }
	newest := func(a, b *Network) int {
		return cmp.Or(newer(a.Created, b.Created), byID(a, b), strings.Compare(string(a.Account), string(b.Account)))
	}
	account := func(r *Network, in func(nereid.Account)) { in(r.Account) }
	x.networks = t
	x.networksOf = groupBy(t, newest, account)
	x.networkIDs = groupBy(t, byID, account)
	x.everyNetwork = groupBy(t, newest, func(_ *Network, in func(whole)) { in(whole{}) })
	x.networkNames = newTable(func(r *NetworkName) owned[string] { return owned[string]{r.Account, r.Name} })
	x.networkPlan = newTable(func(*NetworkPlan) whole { return whole{} })

	x.addresses = newTable(func(r *Address) addressKey { return addressKey{r.Network, r.Address} })
	x.addressesIn = groupBy(x.addresses, func(a, b *Address) int { return a.Address.Compare(b.Address) },
		func(r *Address, in func(nereid.NetworkID)) { in(r.Network) })
	x.ports = newTable(func(r *Port) portKey { return portKey{r.Proto, r.Port} })
	x.everyPort = groupBy(x.ports, func(a, b *Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Proto, b.Proto))
	}, func(_ *Port, in func(whole)) { in(whole{}) })
}

func (x *indexes) indexVolumesAndImages() {
	x.volumes = newTable(func(r *Volume) owned[string] { return owned[string]{r.Account, r.Name} })
	x.volumesOf = groupBy(x.volumes, func(a, b *Volume) int { return strings.Compare(a.Name, b.Name) },
		func(r *Volume, in func(nereid.Account)) { in(r.Account) })

	byID := func(a, b *Image) int { return strings.Compare(string(a.ID), string(b.ID)) }
	account := func(r *Image, in func(nereid.Account)) { in(r.Account) }
	x.images = newTable(func(r *Image) owned[nereid.ImageID] { return owned[nereid.ImageID]{r.Account, r.ID} })
	newest := func(a, b *Image) int { return cmp.Or(newer(a.Created, b.Created), byID(a, b)) }
	x.imagesOf = groupBy(x.images, newest, account)
	x.imageIDs = groupBy(x.images, byID, account)

	x.imagesOfTarget = groupBy(x.images, newest, func(r *Image, in func(owned[digest.Digest])) {
		in(owned[digest.Digest]{r.Account, r.Target.Digest})
	})

	byRef := func(a, b *Tag) int { return strings.Compare(a.Ref, b.Ref) }
	x.tags = newTable(func(r *Tag) owned[string] { return owned[string]{r.Account, r.Ref} })
	x.tagsOfAccount = groupBy(x.tags, byRef, func(r *Tag, in func(nereid.Account)) { in(r.Account) })
	x.tagsOfImage = groupBy(x.tags, byRef, func(r *Tag, in func(owned[nereid.ImageID])) {
		in(owned[nereid.ImageID]{r.Account, r.Image})
	})
}

func (x *indexes) indexFleet() {
	x.accounts = newTable(func(r *Account) nereid.Account { return r.Name })
	x.everyAccount = groupBy(x.accounts, func(a, b *Account) int { return strings.Compare(string(a.Name), string(b.Name)) },
		func(_ *Account, in func(whole)) { in(whole{}) })
	x.hosts = newTable(func(r *Host) nereid.Host { return r.Name })
	x.everyHost = groupBy(x.hosts, func(a, b *Host) int { return strings.Compare(string(a.Name), string(b.Name)) },
		func(_ *Host, in func(whole)) { in(whole{}) })
	x.members = newTable(func(r *Member) nereid.Host { return r.Name })
	x.everyMember = groupBy(x.members, func(a, b *Member) int { return strings.Compare(string(a.Name), string(b.Name)) },
		func(_ *Member, in func(whole)) { in(whole{}) })
	x.joinTokens = newTable(func(r *JoinToken) string { return r.Hash })
	x.everyJoinToken = groupBy(x.joinTokens, func(a, b *JoinToken) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Hash, b.Hash))
	}, func(_ *JoinToken, in func(whole)) { in(whole{}) })
}

// NewestFirst is the order of lists of containers.
func NewestFirst(a, b *Container) int {
	return cmp.Or(newer(a.Created, b.Created), strings.Compare(string(a.ID), string(b.ID)), strings.Compare(string(a.Account), string(b.Account)))
}

// newer orders times newest first.
func newer(a, b time.Time) int { return b.Compare(a) }
