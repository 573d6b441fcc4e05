// Package sign makes keys and signatures of DNSSEC. The same records, keys and time give the same signatures on every
// host.
package sign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/cns/record"
)

// Algorithm is ECDSA on P-256 with SHA-256 (RFC 6605): every validator knows it, and its signatures are small. They are
// made without chance (RFC 6979), so that all hosts make the same.
const Algorithm = 13

const (
	keyFlags = 257 // zone key and secure entry point: one key signs all (RFC 6781, section 3.1)
	protocol = 3   // RFC 4034, section 2.1.2
	digest   = 2   // SHA-256 (RFC 4509)
)

// Key signs a zone.
type Key struct {
	private *ecdsa.PrivateKey
	dnskey  string // as RDATA
	tag     uint16
}

// Generate makes a key, and the form in which the state keeps it.
func Generate() (*Key, []byte, error) {
	p, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	stored, err := x509.MarshalPKCS8PrivateKey(p)
	if err != nil {
		return nil, nil, err
	}
	k, err := newKey(p)
	return k, stored, err
}

// Parse reads a key as Generate stored it.
func Parse(stored []byte) (*Key, error) {
	p, err := x509.ParsePKCS8PrivateKey(stored)
	if err != nil {
		return nil, fmt.Errorf("a key of the name service is damaged: %w: %w", err, errdefs.ErrDataLoss)
	}
	ec, ok := p.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("a key of the name service is no ECDSA key on P-256: %w", errdefs.ErrDataLoss)
	}
	return newKey(ec)
}

func newKey(p *ecdsa.PrivateKey) (*Key, error) {
	point, err := p.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return nil, err
	}
	data := binary.BigEndian.AppendUint16(nil, keyFlags)
	data = append(data, protocol, Algorithm)
	data = append(data, point[1:]...)
	return &Key{private: p, dnskey: string(data), tag: keyTag(data)}, nil
}

// Tag is the key's number in signatures (RFC 4034, appendix B).
func (k *Key) Tag() uint16 { return k.tag }

func keyTag(data []byte) uint16 {
	var sum uint32
	for i, b := range data {
		if i&1 == 0 {
			sum += uint32(b) << 8
		} else {
			sum += uint32(b)
		}
	}
	return uint16(sum + sum>>16)
}

// ds is the RDATA of a DS record for the key.
func (k *Key) ds(apex string) string {
	sum := sha256.Sum256(append(record.AppendName(nil, apex), k.dnskey...))
	data := binary.BigEndian.AppendUint16(nil, k.tag)
	return string(append(append(data, Algorithm, digest), sum[:]...))
}

// DS is the record that the parent zone must have, as zone files have it.
func (k *Key) DS(apex string, ttl uint32) string {
	data := k.ds(apex)
	return fmt.Sprintf("%s %d IN DS %d %d %d %s", apex, ttl, k.tag, Algorithm, digest, hex.EncodeToString([]byte(data[4:])))
}
