package state

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// The kinds of records of the name service, and of what is known of hosts and containers that are not there.
const (
	KindZone    Kind = "cnszones"
	KindZoneKey Kind = "cnskeys"
	KindTSIG    Kind = "tsigkeys"
	KindNaming  Kind = "namings"
	KindAbsence Kind = "absences"
	KindVoid    Kind = "voids"
)

// Zone is a DNS zone that operators made, or whose settings they changed.
type Zone struct {
	Meta
	Apex    string // fully qualified, lower case
	Kind    string // one of the ZoneKinds
	Created time.Time
	// Networks whose addresses an inner zone lists: names, or ACCOUNT/NAME; none: those that no other inner zone lists.
	Networks []string `json:",omitempty"`
	// TTL and NegativeTTL in seconds; 0: the defaults.
	TTL, NegativeTTL uint32
	// Servers are names in NS records beside that of the fleet's hosts, or, with HiddenPrimary, alone. Primary is the one
	// in the SOA record, Mailbox its contact; empty: derived.
	Servers       []string `json:",omitempty"`
	HiddenPrimary bool     `json:",omitempty"`
	Primary       string   `json:",omitempty"`
	Mailbox       string   `json:",omitempty"`
	// Secondaries are told of changes and may transfer the zone: ADDR[:PORT][@KEY].
	Secondaries []string `json:",omitempty"`
	// Transfer are the addresses and CIDRs that may transfer the zone too, Keys the TSIG keys one of which a transfer
	// must be signed with, when there are any.
	Transfer []string `json:",omitempty"`
	Keys     []string `json:",omitempty"`
	// Notifiers are the hosts that tell secondaries; none: all.
	Notifiers []nereid.Host `json:",omitempty"`
	DNSSEC    bool          `json:",omitempty"`
	// Epoch counts the times that signatures were renewed; see package sign.
	Epoch int64 `json:",omitempty"`
	// SerialBase is added to the state's revision to make serials.
	SerialBase uint32 `json:",omitempty"`
}

// The values of Zone.Kind.
const (
	ZoneInner   = "inner"
	ZoneOuter   = "outer"
	ZoneReverse = "reverse"
)

// ZoneKey is a key that signs a zone.
type ZoneKey struct {
	Meta
	Apex      string
	Tag       uint16 // RFC 4034, appendix B
	Algorithm uint8  // of the IANA registry
	Created   time.Time
	Private   []byte // as package sign has it
}

// TSIG is a key shared with other name servers (RFC 8945).
type TSIG struct {
	Meta
	Name      string // fully qualified, lower case
	Algorithm string // "hmac-sha256."
	Secret    string // base64
	Created   time.Time
}

// Naming is what was said at run time of a container's names. It goes with the container.
type Naming struct {
	Meta
	Account   nereid.Account
	Container nereid.ContainerID
	// Status "down" takes the container out of its services, "up" puts it back whatever its label says, "" leaves it to
	// the label.
	Status string `json:",omitempty"`
	// Challenges of ACME, below each of its names.
	Challenges []string `json:",omitempty"`
}

// Absence says that a host cannot be reached: a rumour that enough believe in to hide what the host runs from DNS on
// every host alike.
type Absence struct {
	Meta
	Host  nereid.Host
	Since time.Time
	By    nereid.Host // who saw it first
}

// Void says that a container will never be: a host was asked to create it, did not answer, and was given up. The create
// of a container takes place only while there is none.
type Void struct {
	Meta
	Account   nereid.Account
	Container nereid.ContainerID
	Since     time.Time
}

func (r *Void) kind() Kind    { return KindVoid }
func (r *Void) key() string   { return key(KindVoid, string(r.Account), string(r.Container)) }
func (r *Zone) kind() Kind    { return KindZone }
func (r *ZoneKey) kind() Kind { return KindZoneKey }
func (r *TSIG) kind() Kind    { return KindTSIG }
func (r *Naming) kind() Kind  { return KindNaming }
func (r *Absence) kind() Kind { return KindAbsence }

func (r *Zone) key() string { return key(KindZone, r.Apex) }
func (r *ZoneKey) key() string {
	return key(KindZoneKey, r.Apex, string([]byte{hexDigit(r.Tag >> 12), hexDigit(r.Tag >> 8), hexDigit(r.Tag >> 4), hexDigit(r.Tag)}))
}
func (r *TSIG) key() string    { return key(KindTSIG, r.Name) }
func (r *Naming) key() string  { return key(KindNaming, string(r.Account), string(r.Container)) }
func (r *Absence) key() string { return key(KindAbsence, string(r.Host)) }

func hexDigit(n uint16) byte { return "0123456789abcdef"[n&15] }

// newNamesRecord is newRecord for the kinds of the name service.
func newNamesRecord(k Kind) Record {
	switch k {
	case KindZone:
		return &Zone{}
	case KindZoneKey:
		return &ZoneKey{}
	case KindTSIG:
		return &TSIG{}
	case KindNaming:
		return &Naming{}
	case KindAbsence:
		return &Absence{}
	case KindVoid:
		return &Void{}
	}
	return nil
}

type zoneKeyID struct {
	apex string
	tag  uint16
}

// namesIndexes are the ways into the records of the name service.
type namesIndexes struct {
	zones     *table[string, *Zone]
	zoneKeys  *table[zoneKeyID, *ZoneKey]
	tsig      *table[string, *TSIG]
	namings   *table[owned[nereid.ContainerID], *Naming]
	absences  *table[nereid.Host, *Absence]
	everyZone *grouping[whole, *Zone]
	keysOf    *grouping[string, *ZoneKey]
	everyTSIG *grouping[whole, *TSIG]
	everyGone *grouping[whole, *Absence]
	voids     *table[owned[nereid.ContainerID], *Void]
	everyVoid *grouping[whole, *Void]
}

func (x *indexes) indexNames() {
	x.zones = newTable(func(r *Zone) string { return r.Apex })
	x.everyZone = groupBy(x.zones, func(a, b *Zone) int { return strings.Compare(a.Apex, b.Apex) },
		func(_ *Zone, in func(whole)) { in(whole{}) })
	x.zoneKeys = newTable(func(r *ZoneKey) zoneKeyID { return zoneKeyID{r.Apex, r.Tag} })
	x.keysOf = groupBy(x.zoneKeys, func(a, b *ZoneKey) int { return int(a.Tag) - int(b.Tag) },
		func(r *ZoneKey, in func(string)) { in(r.Apex) })
	x.tsig = newTable(func(r *TSIG) string { return r.Name })
	x.everyTSIG = groupBy(x.tsig, func(a, b *TSIG) int { return strings.Compare(a.Name, b.Name) },
		func(_ *TSIG, in func(whole)) { in(whole{}) })
	x.namings = newTable(func(r *Naming) owned[nereid.ContainerID] { return owned[nereid.ContainerID]{r.Account, r.Container} })
	x.absences = newTable(func(r *Absence) nereid.Host { return r.Host })
	x.everyGone = groupBy(x.absences, func(a, b *Absence) int { return strings.Compare(string(a.Host), string(b.Host)) },
		func(_ *Absence, in func(whole)) { in(whole{}) })
	x.voids = newTable(func(r *Void) owned[nereid.ContainerID] { return owned[nereid.ContainerID]{r.Account, r.Container} })
	x.everyVoid = groupBy(x.voids, func(a, b *Void) int { return strings.Compare(string(a.Container), string(b.Container)) },
		func(_ *Void, in func(whole)) { in(whole{}) })
}

// namesIndexers are the name service's part of indexersByKind.
func (x *indexes) namesIndexers(byKind map[Kind]indexer) {
	maps.Copy(byKind, map[Kind]indexer{
		KindZone: x.zones, KindZoneKey: x.zoneKeys, KindTSIG: x.tsig, KindNaming: x.namings, KindAbsence: x.absences,
		KindVoid: x.voids,
	})
}

// Zone by apex, fully qualified.
func (v *View) Zone(apex string) (*Zone, bool) { return lookup(v, v.zones, apex) }

// Zones that operators made or changed, by apex.
func (v *View) Zones() []*Zone { return listOf(v, v.everyZone, whole{}) }

// ZoneKeys sign a zone, by tag.
func (v *View) ZoneKeys(apex string) []*ZoneKey { return listOf(v, v.keysOf, apex) }

// TSIG key by name, fully qualified.
func (v *View) TSIG(name string) (*TSIG, bool) { return lookup(v, v.tsig, name) }

// TSIGs are the keys shared with other name servers, by name.
func (v *View) TSIGs() []*TSIG { return listOf(v, v.everyTSIG, whole{}) }

// Naming is what was said at run time of a container's names.
func (v *View) Naming(a nereid.Account, id nereid.ContainerID) (*Naming, bool) {
	return lookup(v, v.namings, owned[nereid.ContainerID]{a, id})
}

// Absence of a host that cannot be reached.
func (v *View) Absence(h nereid.Host) (*Absence, bool) { return lookup(v, v.absences, h) }

// Absences are the hosts that cannot be reached, by name.
func (v *View) Absences() []*Absence { return listOf(v, v.everyGone, whole{}) }

// Voids are the containers that will never be, by id.
func (v *View) Voids() []*Void { return listOf(v, v.everyVoid, whole{}) }

// Clone copies a zone with all it holds.
func (r *Zone) Clone() *Zone {
	c := *r
	c.Networks = slices.Clone(r.Networks)
	c.Servers = slices.Clone(r.Servers)
	c.Secondaries = slices.Clone(r.Secondaries)
	c.Transfer = slices.Clone(r.Transfer)
	c.Keys = slices.Clone(r.Keys)
	c.Notifiers = slices.Clone(r.Notifiers)
	return &c
}

// Clone copies what was said of a container's names.
func (r *Naming) Clone() *Naming {
	c := *r
	c.Challenges = slices.Clone(r.Challenges)
	return &c
}
