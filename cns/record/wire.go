package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// AppendName appends a name (fully qualified, lower case, of labels as this package makes them) in wire form, not
// compressed: as RFC 4034, section 6.2, wants names for signatures.
func AppendName(b []byte, name string) []byte {
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" { // the root
			break
		}
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return append(b, 0)
}

// AppendData appends what a record says (RDATA) in its canonical wire form (RFC 4034, section 6.2).
func AppendData(b []byte, r Record) []byte {
	switch r.Type {
	case A, AAAA:
		return append(b, r.Addr.AsSlice()...)
	case CNAME, PTR, NS:
		return AppendName(b, r.Target)
	case SRV:
		b = binary.BigEndian.AppendUint16(b, r.Priority)
		b = binary.BigEndian.AppendUint16(b, r.Weight)
		b = binary.BigEndian.AppendUint16(b, r.Port)
		return AppendName(b, r.Target)
	case TXT:
		for _, part := range split(r.Data) {
			b = append(b, byte(len(part)))
			b = append(b, part...)
		}
		return b
	}
	return append(b, r.Data...)
}

// Append appends a whole record in wire form, names not compressed.
func Append(b []byte, r Record) []byte {
	b = AppendName(b, r.Name)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Type))
	b = binary.BigEndian.AppendUint16(b, 1) // class IN
	b = binary.BigEndian.AppendUint32(b, r.TTL)
	at := len(b)
	b = append(b, 0, 0)
	b = AppendData(b, r)
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

// Parse reads a record as Append wrote it, and returns what follows.
func Parse(b []byte) (r Record, rest []byte, err error) {
	if r.Name, b, err = parseName(b); err != nil {
		return Record{}, nil, err
	}
	if len(b) < 10 {
		return Record{}, nil, errShort
	}
	r.Type, r.TTL = Type(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[4:])
	n := int(binary.BigEndian.Uint16(b[8:]))
	if b = b[10:]; len(b) < n {
		return Record{}, nil, errShort
	}
	if err := r.parseData(b[:n]); err != nil {
		return Record{}, nil, err
	}
	return r, b[n:], nil
}

var errShort = errors.New("a record is cut short")

func parseName(b []byte) (name string, rest []byte, err error) {
	var n strings.Builder
	for {
		if len(b) == 0 || len(b) < int(b[0])+1 {
			return "", nil, errShort
		}
		l := int(b[0])
		if l > maxLabel {
			return "", nil, fmt.Errorf("a label of %d octets", l)
		}
		label := string(b[1 : l+1])
		b = b[l+1:]
		if l == 0 {
			break
		}
		if strings.ContainsAny(label, `.\\`) {
			return "", nil, fmt.Errorf("a label that holds %q", label)
		}
		n.WriteString(label)
		n.WriteByte('.')
	}
	if n.Len() == 0 {
		return ".", b, nil
	}
	return n.String(), b, nil
}

func (r *Record) parseData(b []byte) (err error) {
	switch r.Type {
	case A, AAAA:
		var ok bool
		if r.Addr, ok = netip.AddrFromSlice(b); !ok {
			return fmt.Errorf("an address of %d octets", len(b))
		}
	case CNAME, PTR, NS:
		r.Target, _, err = parseName(b)
	case SRV:
		if len(b) < 6 {
			return errShort
		}
		r.Priority, r.Weight, r.Port = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
		r.Target, _, err = parseName(b[6:])
	case TXT:
		for len(b) > 0 {
			if len(b) < int(b[0])+1 {
				return errShort
			}
			r.Data += string(b[1 : int(b[0])+1])
			b = b[int(b[0])+1:]
		}
	default:
		r.Data = string(b)
	}
	return err
}
