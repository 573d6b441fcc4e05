package record

import (
	"fmt"
	"net/netip"
	"strings"
)

// Limits of names: RFC 1035, section 2.3.4.
const (
	maxLabel = 63
	maxName  = 253 // characters of the text form, without the root's dot
)

// Label makes one label of a host name (RFC 1123, section 2.1) of a word: lower case, letters, digits and hyphens. The
// error says why there is none.
func Label(word string) (string, error) {
	l := strings.ToLower(word)
	switch {
	case l == "":
		return "", fmt.Errorf("an empty name is no DNS label")
	case len(l) > maxLabel:
		return "", fmt.Errorf("%q has %d characters, a DNS label has at most %d", word, len(l), maxLabel)
	case l[0] == '-' || l[len(l)-1] == '-':
		return "", fmt.Errorf("%q begins or ends with a hyphen, which a host name must not", word)
	}
	for _, c := range []byte(l) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return "", fmt.Errorf("%q holds %q: a DNS label has letters, digits and hyphens only", word, c)
		}
	}
	return l, nil
}

// Fold makes a label of a word that people did not choose for DNS, a container's or a network's name: what no label may
// hold becomes a hyphen, as Triton does it, so that quirky_turing is found as quirky-turing.
func Fold(word string) (string, error) {
	var b strings.Builder
	for _, c := range []byte(strings.ToLower(word)) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteByte(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-") || c == '-':
			b.WriteByte('-')
		}
	}
	return Label(strings.Trim(b.String(), "-"))
}

// FQDN checks a host name of several labels and returns it fully qualified, in lower case.
func FQDN(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if len(name) > maxName {
		return "", fmt.Errorf("%q has %d characters, a DNS name has at most %d", name, len(name), maxName)
	}
	labels := strings.Split(name, ".")
	for i, l := range labels {
		var err error
		if labels[i], err = Label(l); err != nil {
			return "", err
		}
	}
	return strings.Join(labels, ".") + ".", nil
}

// Join makes a fully qualified name of labels before a suffix that is one. A name too long is an error.
func Join(suffix string, labels ...string) (string, error) {
	name := strings.Join(labels, ".") + "." + suffix
	if len(name)-1 > maxName {
		return "", fmt.Errorf("%q has %d characters, a DNS name has at most %d", name, len(name)-1, maxName)
	}
	return name, nil
}

// ReverseName is the name below which an address has its PTR record: in-addr.arpa (RFC 1035, section 3.5) or ip6.arpa
// (RFC 3596, section 2.5).
func ReverseName(a netip.Addr) string {
	a = a.Unmap()
	return reverse(a, a.BitLen())
}

// ReverseZones are the apexes of the zones for a subnet's addresses: cut where labels are, at octets or, for IPv6, at
// half octets. A subnet between two such cuts takes several zones; one smaller than the last cut takes the whole of
// its octet.
func ReverseZones(p netip.Prefix) []string {
	if !p.IsValid() {
		return nil
	}
	p = p.Masked()
	step, last := 8, 24
	if p.Addr().Is6() {
		step, last = 4, 124
	}
	bits := min((p.Bits()+step-1)/step*step, last)
	if bits <= p.Bits() {
		return []string{reverse(p.Addr(), bits)}
	}
	var zones []string
	for a := p.Addr(); a.IsValid() && p.Contains(a); a = nextPrefix(a, bits) {
		zones = append(zones, reverse(a, bits))
	}
	return zones
}

// nextPrefix is the first address after the prefix of that many bits; invalid after the last.
func nextPrefix(a netip.Addr, bits int) netip.Addr {
	b := a.AsSlice()
	add := 1 << (7 - (bits-1)%8)
	for i := (bits - 1) / 8; i >= 0; i-- {
		sum := int(b[i]) + add
		b[i] = byte(sum)
		if sum < 256 {
			next, _ := netip.AddrFromSlice(b)
			return next
		}
		add = 1
	}
	return netip.Addr{}
}

// reverse is the name of an address's first bits.
func reverse(a netip.Addr, bits int) string {
	var b strings.Builder
	if a.Is4() {
		octets := a.As4()
		for i := bits/8 - 1; i >= 0; i-- {
			fmt.Fprintf(&b, "%d.", octets[i])
		}
		return b.String() + "in-addr.arpa."
	}
	octets := a.As16()
	for i := bits/4 - 1; i >= 0; i-- {
		half := octets[i/2]
		if i%2 == 0 {
			half >>= 4
		}
		fmt.Fprintf(&b, "%x.", half&0xf)
	}
	return b.String() + "ip6.arpa."
}
