package transfer

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/pkg/state"
)

// Algorithms of TSIG keys, by their names in the protocol (RFC 8945, section 6).
var algorithms = map[string]func() hash.Hash{
	dns.HmacSHA1:   sha1.New,
	dns.HmacSHA224: sha256.New224,
	dns.HmacSHA256: sha256.New,
	dns.HmacSHA384: sha512.New384,
	dns.HmacSHA512: sha512.New,
}

// Algorithm is the name in the protocol of a TSIG algorithm as people write it: "hmac-sha256".
func Algorithm(name string) (string, bool) {
	fqdn := dns.CanonicalName(name)
	_, ok := algorithms[fqdn]
	return fqdn, ok
}

// Generate implements dns.TsigProvider with the keys of the state.
func (t *Transfers) Generate(msg []byte, sig *dns.TSIG) ([]byte, error) {
	k, ok := t.cfg.View.TSIG(dns.CanonicalName(sig.Hdr.Name))
	if !ok || k.Algorithm != dns.CanonicalName(sig.Algorithm) {
		return nil, dns.ErrSecret
	}
	secret, err := base64.StdEncoding.DecodeString(k.Secret)
	if err != nil {
		return nil, fmt.Errorf("TSIG key %q: %w", k.Name, err)
	}
	h := hmac.New(algorithms[k.Algorithm], secret)
	h.Write(msg)
	return h.Sum(nil), nil
}

// Verify implements dns.TsigProvider.
func (t *Transfers) Verify(msg []byte, sig *dns.TSIG) error {
	want, err := t.Generate(msg, sig)
	if err != nil {
		return err
	}
	got, err := hex.DecodeString(sig.MAC)
	if err != nil || !hmac.Equal(got, want) {
		return dns.ErrSig
	}
	return nil
}

// may tells whether somebody at an address, who signed with a key or with none (""), may have a zone. Where a zone has
// keys, one of them is needed; the address must be a secondary's or on the list. A zone without either is nobody's.
func may(z *state.Zone, from netip.Addr, key string) bool {
	if z == nil {
		return false
	}
	if len(z.Keys) > 0 && !slices.Contains(z.Keys, key) {
		return false
	}
	if len(z.Transfer) == 0 && len(z.Secondaries) == 0 {
		return len(z.Keys) > 0
	}
	for _, s := range z.Secondaries {
		if p, err := ParseSecondary(s); err == nil && p.Addr.Addr() == from {
			return true
		}
	}
	return slices.ContainsFunc(z.Transfer, func(s string) bool {
		p, err := ParseNetwork(s)
		return err == nil && p.Contains(from)
	})
}

// ParseNetwork reads an address or CIDR.
func ParseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a CIDR", s)
	}
	return p.Masked(), nil
}

// Secondary is another name server that a zone is for.
type Secondary struct {
	Addr netip.AddrPort
	Key  string // that it and we sign with, fully qualified; empty: none
}

// dnsPort is where name servers listen.
const dnsPort = 53

// ParseSecondary reads ADDR[:PORT][@KEY].
func ParseSecondary(s string) (Secondary, error) {
	where, key, signed := strings.Cut(s, "@")
	p := Secondary{}
	if signed {
		if key == "" {
			return p, fmt.Errorf("%q: no key after @", s)
		}
		p.Key = dns.CanonicalName(key)
	}
	if a, err := netip.ParseAddr(where); err == nil {
		p.Addr = netip.AddrPortFrom(a.Unmap(), dnsPort)
		return p, nil
	}
	ap, err := netip.ParseAddrPort(where)
	if err != nil {
		return p, fmt.Errorf("%q is not ADDR[:PORT][@KEY]", s)
	}
	p.Addr = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	return p, nil
}

// remote is the address a request came from.
func remote(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
