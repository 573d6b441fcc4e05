// Package record holds the naming rules of the container name service: which DNS records a container has, and why not.
package record

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// Type is a DNS record type, with the numbers of the IANA registry.
type Type uint16

// The types that zones hold.
const (
	A       Type = 1
	NS      Type = 2
	CNAME   Type = 5
	SOA     Type = 6
	PTR     Type = 12
	TXT     Type = 16
	AAAA    Type = 28
	SRV     Type = 33
	DS      Type = 43
	RRSIG   Type = 46
	NSEC    Type = 47
	DNSKEY  Type = 48
	CDS     Type = 59
	CDNSKEY Type = 60
)

// String is the type as zone files write it.
func (t Type) String() string {
	switch t {
	case A:
		return "A"
	case NS:
		return "NS"
	case CNAME:
		return "CNAME"
	case SOA:
		return "SOA"
	case PTR:
		return "PTR"
	case TXT:
		return "TXT"
	case AAAA:
		return "AAAA"
	case SRV:
		return "SRV"
	case DS:
		return "DS"
	case RRSIG:
		return "RRSIG"
	case NSEC:
		return "NSEC"
	case DNSKEY:
		return "DNSKEY"
	case CDS:
		return "CDS"
	case CDNSKEY:
		return "CDNSKEY"
	}
	return fmt.Sprintf("TYPE%d", uint16(t)) // RFC 3597, section 5
}

const (
	// TTL of what containers have, in seconds. It is what a client may still believe after a container has gone: short
	// enough for fail-over, long enough that a busy client asks twice a minute and not with every connection.
	TTL = 30
	// NegativeTTL is how long a client may believe that a name is not there. People ask for a service while it starts;
	// they should not wait for more than a moment once it is up.
	NegativeTTL = 5
)

// Record is one DNS record. It is comparable; which fields count depends on the type.
type Record struct {
	Name   string // fully qualified, lower case
	Type   Type
	Port   uint16 // SRV
	TTL    uint32
	Addr   netip.Addr // A, AAAA
	Target string     // CNAME, PTR, SRV, NS: fully qualified
	// Data is the text of TXT, and what SOA and the types of DNSSEC say, in wire form.
	Data string
	// Priority and Weight are those of SRV.
	Priority, Weight uint16
}

// String is the record as a zone file has it; types whose Data is in wire form as RFC 3597, section 5, has them.
func (r Record) String() string {
	return fmt.Sprintf("%s %d IN %s %s", r.Name, r.TTL, r.Type, r.data())
}

func (r Record) data() string {
	switch r.Type {
	case A, AAAA:
		return r.Addr.String()
	case SRV:
		return fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, r.Target)
	case TXT:
		return quote(r.Data)
	case CNAME, PTR, NS:
		return r.Target
	}
	return fmt.Sprintf(`\# %d %s`, len(r.Data), hex.EncodeToString([]byte(r.Data)))
}

// quote is a text as zone files have it: strings of at most 255 octets, what is not printable as \DDD (RFC 1035,
// section 5.1).
func quote(text string) string {
	var b strings.Builder
	for i, part := range split(text) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte('"')
		for _, c := range []byte(part) {
			switch {
			case c == '"' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < ' ' || c > '~':
				fmt.Fprintf(&b, "\\%03d", c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('"')
	}
	return b.String()
}

// maxString is what one character string of a TXT record holds (RFC 1035, section 3.3).
const maxString = 255

// split cuts a text into character strings. There is always one.
func split(text string) []string {
	parts := []string{}
	for len(text) > maxString {
		parts = append(parts, text[:maxString])
		text = text[maxString:]
	}
	return append(parts, text)
}
