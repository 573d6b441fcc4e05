package logs

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// What Fluentd's forward protocol needs of MessagePack: strings, arrays, maps of strings, integers and its own time.

func packArray(b []byte, n int) []byte { return append(b, 0x90|byte(n)) } // up to 15

func packString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 1<<5:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func packInt(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

// packEventTime is Fluentd's extension 0: seconds and nanoseconds.
func packEventTime(b []byte, t time.Time) []byte {
	b = append(b, 0xd7, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(t.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

func packMap(b []byte, m map[string]string) []byte {
	if n := len(m); n < 1<<4 {
		b = append(b, 0x80|byte(n))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0xde), uint16(n))
	}
	for _, k := range sortedNames(m) {
		b = packString(packString(b, k), m[k])
	}
	return b
}

// awaitAck reads the receiver's answer, a map with the id under "ack".
func awaitAck(r io.Reader, id string) error {
	want := packString(packString([]byte{0x81}, "ack"), id)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	if got[0] != 0x81 || string(got[len(got)-len(id):]) != id {
		return fmt.Errorf("the receiver acknowledged something else than %s", id)
	}
	return nil
}
