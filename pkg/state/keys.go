package state

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Record is one of the pointer types of records.go.
type Record interface {
	kind() Kind
	key() string
	meta() *Meta
}

// Kind names a type of record.
type Kind string

// The kinds of records. Events have no kind: they are read with View.Events.
const (
	KindAccount     Kind = "accounts"
	KindHost        Kind = "hosts"
	KindContainer   Kind = "containers"
	KindName        Kind = "names"
	KindNetwork     Kind = "networks"
	KindNetworkName Kind = "networknames"
	KindNetworkPlan Kind = "networkplan"
	KindAddress     Kind = "addresses"
	KindPort        Kind = "ports"
	KindVolume      Kind = "volumes"
	KindImage       Kind = "images"
	KindTag         Kind = "tags"
	KindMember      Kind = "members"
	KindJoinToken   Kind = "jointokens"
)

const (
	root        = "/nereid/v1/"
	eventPrefix = root + "events/"
	schemaKey   = "/nereid/schema"
)

func (r *Account) kind() Kind     { return KindAccount }
func (r *Host) kind() Kind        { return KindHost }
func (r *Container) kind() Kind   { return KindContainer }
func (r *Name) kind() Kind        { return KindName }
func (r *Network) kind() Kind     { return KindNetwork }
func (r *NetworkName) kind() Kind { return KindNetworkName }
func (r *NetworkPlan) kind() Kind { return KindNetworkPlan }
func (r *Address) kind() Kind     { return KindAddress }
func (r *Port) kind() Kind        { return KindPort }
func (r *Volume) kind() Kind      { return KindVolume }
func (r *Image) kind() Kind       { return KindImage }
func (r *Tag) kind() Kind         { return KindTag }
func (r *Member) kind() Kind      { return KindMember }
func (r *JoinToken) kind() Kind   { return KindJoinToken }

func (m *Meta) meta() *Meta { return m }

func (r *Account) key() string { return key(KindAccount, string(r.Name)) }
func (r *Host) key() string    { return key(KindHost, string(r.Name)) }
func (r *Container) key() string {
	return key(KindContainer, string(r.Host), string(r.Account), string(r.ID))
}
func (r *Name) key() string        { return key(KindName, string(r.Account), r.Name) }
func (r *Network) key() string     { return key(KindNetwork, string(r.Account), string(r.ID)) }
func (r *NetworkName) key() string { return key(KindNetworkName, string(r.Account), r.Name) }
func (r *NetworkPlan) key() string { return key(KindNetworkPlan, "fleet") }
func (r *Port) key() string        { return key(KindPort, r.Proto, strconv.Itoa(int(r.Port))) }
func (r *Volume) key() string      { return key(KindVolume, string(r.Account), r.Name) }
func (r *Image) key() string       { return key(KindImage, string(r.Account), string(r.ID)) }
func (r *Tag) key() string         { return key(KindTag, string(r.Account), r.Ref) }
func (r *Member) key() string      { return key(KindMember, string(r.Name)) }
func (r *JoinToken) key() string   { return key(KindJoinToken, r.Hash) }

func (r *Address) key() string {
	if !r.Address.IsValid() {
		return key(KindAddress, string(r.Network), "")
	}
	return key(KindAddress, string(r.Network), r.Address.String())
}

// addressesOf begins the keys of a network's addresses.
func addressesOf(id nereid.NetworkID) string { return key(KindAddress, string(id)) + "/" }

// key joins the parts below the kind's prefix. A record that lacks a part of its identity gives the empty key.
func key(k Kind, parts ...string) string {
	var b strings.Builder
	b.WriteString(root)
	b.WriteString(string(k))
	for _, p := range parts {
		if p == "" {
			return ""
		}
		b.WriteByte('/')
		b.WriteString(escape(p))
	}
	return b.String()
}

func escape(part string) string {
	if !strings.ContainsAny(part, "/%") {
		return part
	}
	return url.PathEscape(part)
}

// eventKey orders a host's events by the stamp the host's clock gave them.
func eventKey(e *Event) string {
	return fmt.Sprintf("%s%020d/%s", hostEvents(e.Host), e.stamp, escape(string(e.Account)))
}

func hostEvents(h nereid.Host) string { return eventPrefix + escape(string(h)) + "/" }

// newRecord makes an empty record for a key, nil for a key of no kind we know.
func newRecord(key string) Record {
	kind, _, _ := strings.Cut(strings.TrimPrefix(key, root), "/")
	switch Kind(kind) {
	case KindAccount:
		return &Account{}
	case KindHost:
		return &Host{}
	case KindContainer:
		return &Container{}
	case KindName:
		return &Name{}
	case KindNetwork:
		return &Network{}
	case KindNetworkName:
		return &NetworkName{}
	case KindNetworkPlan:
		return &NetworkPlan{}
	case KindAddress:
		return &Address{}
	case KindPort:
		return &Port{}
	case KindVolume:
		return &Volume{}
	case KindImage:
		return &Image{}
	case KindTag:
		return &Tag{}
	case KindMember:
		return &Member{}
	case KindJoinToken:
		return &JoinToken{}
	}
	return newNamesRecord(Kind(kind))
}

// containerOf reads whose key a container's is.
func containerOf(key string) (id owned[nereid.ContainerID], ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, root), "/")
	if len(parts) != 4 || Kind(parts[0]) != KindContainer {
		return id, false
	}
	account, err1 := url.PathUnescape(parts[2])
	cid, err2 := url.PathUnescape(parts[3])
	return owned[nereid.ContainerID]{nereid.Account(account), nereid.ContainerID(cid)}, err1 == nil && err2 == nil
}
