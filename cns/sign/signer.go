package sign

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// Signatures are renewed a part of the names at a time, so that a large zone is never signed, and transferred, all at
// once. Time is counted in epochs. A signature is good for two rounds and made anew after one: what is left, a week, is
// how long a secondary answers without having heard of us (the expire timer of the SOA record).
const (
	epoch    = 12 * time.Hour
	round    = 14 // epochs until each name was signed anew
	validity = 2 * round * epoch
	// skew is how far behind ours the clocks of validators may be.
	skew = time.Hour
)

// Epoch is the number of the epoch a time is in.
func Epoch(now time.Time) int64 { return now.Unix() / int64(epoch/time.Second) }

// NextEpoch is when the epoch after it begins.
func NextEpoch(n int64) time.Time { return time.Unix((n+1)*int64(epoch/time.Second), 0) }

// Signer signs with some keys as of an epoch. It implements zone.Signer and never changes.
type Signer struct {
	keys  []*Key
	epoch int64
}

// New makes a Signer. While a key replaces another both sign (RFC 6781, section 4.1.2).
func New(keys []*Key, epoch int64) *Signer { return &Signer{keys: keys, epoch: epoch} }

// Keys implements zone.Signer: the keys, and what asks the parent to take them over (RFC 7344).
func (s *Signer) Keys(apex string, ttl uint32) []record.Record {
	var all []record.Record
	add := func(t record.Type, data func(*Key) string) {
		for _, k := range s.keys {
			all = append(all, record.Record{Name: apex, Type: t, TTL: ttl, Data: data(k)})
		}
	}
	public := func(k *Key) string { return k.dnskey }
	add(record.DNSKEY, public)
	add(record.CDNSKEY, public)
	add(record.CDS, func(k *Key) string { return k.ds(apex) })
	return all
}

// Same implements zone.Signer.
func (s *Signer) Same(other zone.Signer, name string) bool {
	o, ok := other.(*Signer)
	return ok && signedIn(s.epoch, name) == signedIn(o.epoch, name) &&
		slices.EqualFunc(s.keys, o.keys, func(a, b *Key) bool { return a.dnskey == b.dnskey })
}

// signedIn is the epoch, this one or one before, in which a name was signed last.
func signedIn(now int64, name string) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	turn := int64(h.Sum32() % round)
	return now - (now-turn)%round
}

// Sign implements zone.Signer (RFC 4034, section 3.1.8.1). The records have one name, type and TTL.
func (s *Signer) Sign(apex string, set []record.Record) []record.Record {
	sigs := make([]record.Record, len(s.keys))
	for i, k := range s.keys {
		sigs[i] = s.sign(k, apex, set)
	}
	return sigs
}

func (s *Signer) sign(k *Key, apex string, set []record.Record) record.Record {
	name, ttl := set[0].Name, set[0].TTL
	from := time.Unix(signedIn(s.epoch, name)*int64(epoch/time.Second), 0)
	data := binary.BigEndian.AppendUint16(nil, uint16(set[0].Type))
	data = append(data, Algorithm, labelCount(name))
	data = binary.BigEndian.AppendUint32(data, ttl)
	data = binary.BigEndian.AppendUint32(data, uint32(from.Add(validity).Unix()))
	data = binary.BigEndian.AppendUint32(data, uint32(from.Add(-skew).Unix()))
	data = binary.BigEndian.AppendUint16(data, k.tag)
	data = record.AppendName(data, apex)
	sum := sha256.Sum256(appendCanonical(slices.Clone(data), set))
	data = append(data, k.sign(sum[:])...)
	return record.Record{Name: name, Type: record.RRSIG, TTL: ttl, Data: string(data)}
}

// labelCount is how many labels a name has (RFC 4034, section 3.1.3).
func labelCount(name string) byte {
	return byte(strings.Count(strings.TrimPrefix(name, "*."), "."))
}

// appendCanonical appends records in the order of RFC 4034, section 6.3.
func appendCanonical(b []byte, set []record.Record) []byte {
	if len(set) == 1 {
		return record.Append(b, set[0])
	}
	all := make([][]byte, len(set))
	for i, r := range set {
		all[i] = record.Append(nil, r)
	}
	head := len(record.AppendName(nil, set[0].Name)) + 10 // all alike up to the data but for their length, which does not count
	slices.SortFunc(all, func(x, y []byte) int { return bytes.Compare(x[head:], y[head:]) })
	for _, r := range all {
		b = append(b, r...)
	}
	return b
}

// sign is the signature of a digest: r and s, 32 bytes each (RFC 6605, section 4).
func (k *Key) sign(digest []byte) []byte {
	der, err := k.private.Sign(nil, digest, crypto.SHA256) // no source of chance: RFC 6979
	if err != nil {
		panic(fmt.Sprintf("cns: sign: %v", err)) // of a digest's length alone
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		panic(fmt.Sprintf("cns: sign: %v", err))
	}
	out := make([]byte, 64)
	sig.R.FillBytes(out[:32])
	sig.S.FillBytes(out[32:])
	return out
}
