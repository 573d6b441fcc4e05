package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/zone"
)

// A journal is blocks: a type, the length of what follows and its checksum, 9 octets, then as many as the length says.
// Changes before the zone's block are history, those after it have changed it since. A zone begins with its serial and
// may take several blocks.
const (
	blockChange = 'c'
	blockZone   = 'z'
	headerSize  = 9
	// zoneBlock is how much of a zone goes into one block.
	zoneBlock = 1 << 20
	// maxBlock is more than any block has: a change of that size is not kept.
	maxBlock = 1 << 30
)

func writeBlock(w io.Writer, kind byte, payload []byte) error {
	var head [headerSize]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	binary.BigEndian.PutUint32(head[5:], crc32.ChecksumIEEE(payload))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

// readBlock returns io.EOF at the end, be it clean or within a block that was being written.
func readBlock(r io.Reader) (kind byte, payload []byte, err error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, endOf(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxBlock {
		return 0, nil, fmt.Errorf("a block of %d octets", n)
	}
	payload, err = io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return 0, nil, err
	}
	if len(payload) < int(n) || crc32.ChecksumIEEE(payload) != binary.BigEndian.Uint32(head[5:]) {
		return 0, nil, io.EOF
	}
	return head[0], payload, nil
}

func endOf(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}

func appendDiff(b []byte, d zone.Diff) []byte {
	for _, n := range []uint32{d.From, d.Until, d.To, uint32(len(d.Removed))} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for _, r := range d.Removed {
		b = record.Append(b, r)
	}
	for _, r := range d.Added {
		b = record.Append(b, r)
	}
	return b
}

func parseDiff(apex string, b []byte) (zone.Diff, error) {
	if len(b) < 16 {
		return zone.Diff{}, errors.New("a change without serials")
	}
	d := zone.Diff{Apex: apex, From: binary.BigEndian.Uint32(b), Until: binary.BigEndian.Uint32(b[4:]), To: binary.BigEndian.Uint32(b[8:])}
	removed := int(binary.BigEndian.Uint32(b[12:]))
	all, err := parseRecords(b[16:])
	if err != nil {
		return zone.Diff{}, err
	}
	if removed > len(all) || removed < 1 || removed == len(all) {
		return zone.Diff{}, fmt.Errorf("a change of %d records removes %d", len(all), removed)
	}
	d.Removed, d.Added = all[:removed:removed], all[removed:]
	return d, nil
}

func parseRecords(b []byte) ([]record.Record, error) {
	var all []record.Record
	for len(b) > 0 {
		r, rest, err := record.Parse(b)
		if err != nil {
			return nil, err
		}
		all, b = append(all, r), rest
	}
	return all, nil
}

func writeZone(w io.Writer, set *zone.Set, apex string) (err error) {
	z, ok := set.Zone(apex)
	if !ok {
		return fmt.Errorf("no zone %q", apex)
	}
	head := binary.BigEndian.AppendUint32(nil, z.Serial)
	b := head
	set.Each(apex, func(r record.Record) bool {
		if b = record.Append(b, r); len(b) > zoneBlock {
			err = writeBlock(w, blockZone, b)
			b = head[:4:4]
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	return writeBlock(w, blockZone, b)
}

// read takes in a journal.
func (p *past) read(r *bufio.Reader) error {
	for {
		kind, b, err := readBlock(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.take(kind, b); err != nil {
			return err
		}
	}
}

func (p *past) take(kind byte, b []byte) error {
	switch kind {
	case blockChange:
		d, err := parseDiff(p.apex, b)
		if err != nil {
			return err
		}
		p.entries = append(p.entries, d)
		p.size += size(d)
		if len(p.records) > 0 {
			p.apply(d)
		}
	case blockZone:
		if len(b) < 4 {
			return errors.New("a zone without a serial")
		}
		p.serial = binary.BigEndian.Uint32(b)
		all, err := parseRecords(b[4:])
		if err != nil {
			return err
		}
		for _, r := range all {
			p.records[r] = true
		}
	default:
		return fmt.Errorf("a block of kind %q", kind)
	}
	return nil
}
