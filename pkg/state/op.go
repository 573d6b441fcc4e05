package state

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// Op is one step of a transaction, made by Create, Update, Put, Delete, Remove and Emit.
type Op struct {
	verb  verb
	rec   Record
	event *Event
}

type verb int

const (
	opCreate verb = iota
	opUpdate
	opPut
	opDelete
	opRemove
	opEmit
	opKeep
	opVacant
)

// stores tells whether the record of an op is there after it.
func (v verb) stores() bool { return v == opCreate || v == opUpdate || v == opPut }

// Create stores a record whose key must be free. A taken key fails the transaction with a Conflict of class
// errdefs.ErrAlreadyExists.
func Create(r Record) Op { return Op{verb: opCreate, rec: r} }

// Update stores a record that must still be at its Rev; otherwise Conflict of class errdefs.ErrAborted (re-read from
// the view and try again). A Rev of 0 means that there must be none yet.
func Update(r Record) Op { return Op{verb: opUpdate, rec: r} }

// Put stores a record whatever is there: for records with one writer.
func Put(r Record) Op { return Op{verb: opPut, rec: r} }

// Delete removes a record whatever its revision; one that is not there is no error.
func Delete(r Record) Op { return Op{verb: opDelete, rec: r} }

// Remove deletes a record that must still be at its Rev; otherwise Conflict of class errdefs.ErrAborted. It is for
// records that others may come to rely on at the same time.
func Remove(r Record) Op { return Op{verb: opRemove, rec: r} }

// Keep changes nothing: the transaction takes place only if a record is still at its Rev; otherwise Conflict of class
// errdefs.ErrAborted. It is for records that what is stored relies on.
func Keep(r Record) Op { return Op{verb: opKeep, rec: r} }

// Vacant changes nothing: the transaction takes place only if no address is claimed on a network; otherwise Conflict of
// class errdefs.ErrAborted with an Address as what exists.
func Vacant(n *Network) Op { return Op{verb: opVacant, rec: n} }

// Emit appends an event. Its Rev is the transaction's; several in one transaction keep their order. The store sets
// Host where it is empty, and Time and TimeNano where they are zero, strictly growing per host.
func Emit(e *Event) Op { return Op{verb: opEmit, event: e} }

// Conflict says which record a transaction stumbled over.
type Conflict struct {
	Record   Record // as given to the Op
	Existing Record // as etcd has it, nil when it is gone
	class    error
}

func (c *Conflict) Error() string {
	if errdefs.IsAlreadyExists(c.class) {
		return fmt.Sprintf("record %q: %v", c.Record.key(), c.class)
	}
	return fmt.Sprintf("record %q has changed since revision %d: %v", c.Record.key(), c.Record.meta().Rev, c.class)
}

// Unwrap gives the class: errdefs.ErrAlreadyExists or errdefs.ErrAborted.
func (c *Conflict) Unwrap() error { return c.class }

// AsConflict tells whether an error is a Conflict, and which.
func AsConflict(err error) (*Conflict, bool) {
	var c *Conflict
	return c, errors.As(err, &c)
}

// eventClock stamps this host's events, strictly growing whatever the system's clock does.
type eventClock struct{ last atomic.Int64 }

func (c *eventClock) startAfter(stamp int64) { c.last.Store(stamp) }

func (c *eventClock) next(now time.Time) int64 {
	for {
		last := c.last.Load()
		stamp := max(now.UnixNano(), last+1)
		if c.last.CompareAndSwap(last, stamp) {
			return stamp
		}
	}
}

// stampEvent completes an event of the caller and returns the copy that the view may keep.
func (s *Store) stampEvent(e *Event) *Event {
	e.stamp = s.clock.next(time.Now())
	if e.Host == "" {
		e.Host = s.cfg.Host
	}
	if e.Message.TimeNano == 0 {
		e.Message.TimeNano = e.stamp
	}
	if e.Message.Time == 0 {
		e.Message.Time = e.Message.TimeNano / int64(time.Second)
	}
	own := *e
	own.Message.Actor.Attributes = maps.Clone(e.Message.Actor.Attributes)
	return &own
}
