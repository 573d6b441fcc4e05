// Package record holds the naming rules of the container name service: which DNS records a container has, and why not.
package record

import (
	"fmt"
	"net/netip"
)

// Type is a DNS record type, with the numbers of the IANA registry.
type Type uint16

// The types that are published.
const (
	A    Type = 1
	NS   Type = 2
	SOA  Type = 6
	PTR  Type = 12
	AAAA Type = 28
	SRV  Type = 33
)

// String is the type as zone files write it.
func (t Type) String() string {
	switch t {
	case A:
		return "A"
	case NS:
		return "NS"
	case SOA:
		return "SOA"
	case PTR:
		return "PTR"
	case AAAA:
		return "AAAA"
	case SRV:
		return "SRV"
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
	TTL    uint32
	Addr   netip.Addr // A, AAAA
	Target string     // PTR, SRV, NS: fully qualified
	Port   uint16     // SRV
	// Priority and Weight are those of SRV.
	Priority, Weight uint16
}

// String is the record as a zone file has it.
func (r Record) String() string {
	return fmt.Sprintf("%s %d IN %s %s", r.Name, r.TTL, r.Type, r.data())
}

func (r Record) data() string {
	switch r.Type {
	case A, AAAA:
		return r.Addr.String()
	case SRV:
		return fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, r.Target)
	default:
		return r.Target
	}
}
