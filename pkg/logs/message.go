package logs

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// message is one record for a receiver of logs: a line, or a piece of one too long.
type message struct {
	stream  string
	line    []byte // without newline
	time    time.Time
	partial *partial // nil for a whole line
}

// partial tells how the pieces of a line belong together.
type partial struct {
	id      string // the same for all
	ordinal int    // from 1
	last    bool
}

// splitter makes messages of one stream's batches. The line that goes on from batch to batch is its state.
type splitter struct {
	id      string // of the line that is not at its end; empty: none
	ordinal int
}

// split yields the messages of a batch, with the times that their records have in a file.
func (s *splitter) split(b Batch, yield func(message)) {
	began := unixNano(b.Partial)
	nanos := unixNano(b.Time)
	for data := b.Data; len(data) > 0; nanos++ {
		n, ended := cut(data)
		m := message{stream: b.Stream, line: data[:n], time: time.Unix(0, nanos)}
		if ended {
			m.line = m.line[:n-1]
		}
		if began != 0 {
			m.time = time.Unix(0, began)
		}
		began = unixNano(m.time)
		if ended {
			began = 0
		}
		m.partial = s.piece(ended)
		yield(m)
		data = data[n:]
	}
}

// piece says what part of a line comes next.
func (s *splitter) piece(ended bool) *partial {
	if s.id == "" && ended {
		return nil
	}
	if s.id == "" {
		s.id, s.ordinal = newPartialID(), 0
	}
	s.ordinal++
	p := &partial{id: s.id, ordinal: s.ordinal, last: ended}
	if ended {
		s.id = ""
	}
	return p
}

func newPartialID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails, by its contract
	return hex.EncodeToString(b[:])
}
