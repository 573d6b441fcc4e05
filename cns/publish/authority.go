package publish

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/state"
)

// serverLabel is the label, right below a zone's apex, of the hosts as name servers.
const serverLabel = "ns"

// authority is what the SOA and NS records of a zone say, with the settings that operators gave it, if any.
func (b *Builder) authority(apex string, z *state.Zone) zone.Authority {
	home := apex
	if strings.HasSuffix(apex, ".arpa.") {
		home = b.apex // a reverse zone has no addresses
	}
	own := serverLabel + "." + home
	a := zone.Authority{Apex: apex, Servers: []string{own}, Mailbox: "hostmaster." + home}
	if z == nil {
		return a
	}
	a.TTL, a.NegativeTTL, a.SerialBase = z.TTL, z.NegativeTTL, z.SerialBase
	a.Mailbox = cmp.Or(z.Mailbox, a.Mailbox)
	a.Primary = z.Primary
	if z.HiddenPrimary {
		a.Servers = nil
	}
	a.Servers = append(a.Servers, z.Servers...)
	if z.DNSSEC {
		if s := b.signer(apex, z.Epoch); s != nil {
			a.Signer = s
		}
	}
	return a
}

// signer is a zone's and what it was made of: another one means that a zone is signed anew.
type signer struct {
	*sign.Signer
	epoch int64
	keys  []*state.ZoneKey
}

// signer is a zone's signer; nil without a key that can be read.
func (b *Builder) signer(apex string, epoch int64) *sign.Signer {
	keys := slices.SortedFunc(maps.Values(b.keys[apex]), func(a, b *state.ZoneKey) int { return cmp.Compare(a.Tag, b.Tag) })
	if s, ok := b.signers[apex]; ok && s.epoch == epoch && slices.Equal(s.keys, keys) {
		return s.Signer
	}
	var parsed []*sign.Key
	for _, k := range keys {
		if p, err := sign.Parse(k.Private); err == nil {
			parsed = append(parsed, p)
		}
	}
	if len(parsed) == 0 {
		return nil
	}
	s := signer{Signer: sign.New(parsed, epoch), epoch: epoch, keys: keys}
	b.signers[apex] = s
	return s.Signer
}

func (b *Builder) key(k *state.ZoneKey, gone bool) {
	if b.keys[k.Apex] == nil {
		b.keys[k.Apex] = map[uint16]*state.ZoneKey{}
	}
	keep(b.keys[k.Apex], k.Tag, k, gone)
}

// reverseZones makes the reverse zones of all networks ours, and those that operators added. A network whose zone would
// lie within one of these has none of its own.
func (b *Builder) reverseZones(e *zone.Edit, settings bool) {
	wanted := map[string]bool{}
	for apex, z := range b.zones {
		if z.Kind == state.ZoneReverse {
			wanted[apex] = true
		}
	}
	added := maps.Clone(wanted)
	for _, n := range b.networks {
		for _, s := range n.Subnets {
			for _, apex := range record.ReverseZones(s.Prefix) {
				if !within(apex, added) {
					wanted[apex] = true
				}
			}
		}
	}
	for apex := range b.reverse {
		if !wanted[apex] {
			e.RemoveZone(apex)
			delete(b.signers, apex)
		}
	}
	for apex := range wanted {
		if b.reverse[apex] && !settings {
			continue
		}
		e.AddZone(b.authority(apex, b.zones[apex]))
	}
	b.reverse = wanted
}

// within tells whether a zone is one of some, or lies below one.
func within(apex string, zones map[string]bool) bool {
	for rest := apex; rest != ""; {
		if zones[rest] {
			return true
		}
		_, rest, _ = strings.Cut(rest, ".")
	}
	return false
}
