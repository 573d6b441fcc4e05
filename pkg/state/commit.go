package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/nereid-paas/nereid/pkg/trace"
)

// Commit applies the ops in one transaction and returns its revision once the local view shows it (read your own
// writes), so a caller may reply to a user and serve the next request from the view. Records get their new Rev.
// The view keeps what was stored, not the records given: these stay the caller's.
//
// After a Conflict the view shows at least what the transaction stumbled over, so re-reading and trying again makes
// progress. Nothing at all is stored then. One record may be in one op only, and one transaction hold 1,024 ops (128
// with an external etcd of default settings); more is of class errdefs.ErrInvalidArgument.
//
// A context that ends first stops nothing: a transaction under way is seen to its end, or nobody would know whether it
// took place. It is bounded by requestTimeout; errdefs.ErrUnavailable then means that its outcome is unknown.
func (s *Store) Commit(ctx context.Context, ops ...Op) (Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.Writable(ctx); err != nil {
		return 0, err
	}
	noteAttempt(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	ctx, span := trace.Start(ctx, "commit")
	defer span.End()
	rev, err := s.commit(ctx, ops)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		if err := s.grantLease(ctx); err != nil {
			return 0, err
		}
		return s.commit(ctx, ops)
	}
	return rev, err
}

func (s *Store) commit(ctx context.Context, ops []Op) (Revision, error) {
	t, err := s.newTxn(ops)
	if err != nil {
		return 0, err
	}
	resp, err := s.client.Txn(s.leaderRequired(ctx)).If(t.conditions...).Then(t.writes...).Else(t.reads...).Commit()
	if err != nil {
		return 0, fmt.Errorf("commit to the state: %w", classify(err))
	}
	if !resp.Succeeded {
		return 0, s.conflict(ctx, t, resp)
	}
	return s.committed(ctx, t, resp)
}

// txn is a transaction made ready: per op one write and what the view will hold; per condition the op it guards and
// the read that tells what stood in the way.
type txn struct {
	ops        []Op
	writes     []clientv3.Op
	changes    []change
	conditions []clientv3.Cmp
	reads      []clientv3.Op
	guarded    []Op
}

func (s *Store) newTxn(ops []Op) (*txn, error) {
	t := &txn{ops: ops}
	for _, op := range ops {
		if err := s.addOp(t, op); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (s *Store) addOp(t *txn, op Op) error {
	if op.verb == opEmit {
		return t.emit(s.stampEvent(op.event))
	}
	key := op.rec.key()
	if key == "" {
		return fmt.Errorf("record %T %+v lacks a part of its identity: %w", op.rec, op.rec, errdefs.ErrInvalidArgument)
	}
	switch op.verb {
	case opDelete:
		t.write(clientv3.OpDelete(key), change{key: key, kind: op.rec.kind()})
		return nil
	case opRemove:
		t.guard(op, clientv3.Compare(clientv3.ModRevision(key), "=", int64(op.rec.meta().Rev)))
		t.write(clientv3.OpDelete(key), change{key: key, kind: op.rec.kind()})
		return nil
	case opKeep:
		t.guard(op, clientv3.Compare(clientv3.ModRevision(key), "=", int64(op.rec.meta().Rev)))
		return nil
	case opVacant:
		t.guardVacant(op)
		return nil
	case opCreate:
		t.guard(op, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
	case opUpdate:
		t.guard(op, clientv3.Compare(clientv3.ModRevision(key), "=", int64(op.rec.meta().Rev)))
	}
	return s.put(t, key, op.rec)
}

func (s *Store) put(t *txn, key string, r Record) error {
	value, err := encode(r)
	if err != nil {
		return err
	}
	// The view holds what etcd holds: a record reads the same before and after a restart of ours.
	own, _, err := decode(key, []byte(value), 0)
	if err != nil {
		return err
	}
	t.write(clientv3.OpPut(key, value, s.leaseFor(r)...), change{key: key, kind: r.kind(), rec: own})
	return nil
}

func (t *txn) emit(e *Event) error {
	value, err := encode(e)
	if err != nil {
		return err
	}
	key := eventKey(e)
	t.write(clientv3.OpPut(key, value), change{key: key, event: e})
	return nil
}

func (t *txn) write(op clientv3.Op, c change) {
	t.writes = append(t.writes, op)
	t.changes = append(t.changes, c)
}

func (t *txn) guard(op Op, cond clientv3.Cmp) {
	t.conditions = append(t.conditions, cond)
	t.reads = append(t.reads, clientv3.OpGet(op.rec.key()))
	t.guarded = append(t.guarded, op)
}

// guardVacant guards with a range that must be empty.
func (t *txn) guardVacant(op Op) {
	prefix := addressesOf(op.rec.(*Network).ID)
	t.conditions = append(t.conditions, clientv3.Compare(clientv3.CreateRevision(prefix), "=", 0).WithPrefix())
	t.reads = append(t.reads, clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithLimit(1)))
	t.guarded = append(t.guarded, op)
}

// committed brings the transaction into the view and its revision into the caller's records.
func (s *Store) committed(ctx context.Context, t *txn, resp *clientv3.TxnResponse) (Revision, error) {
	rev := Revision(resp.Header.Revision)
	changes := t.changes[:0:0]
	for i, r := range resp.Responses {
		if d := r.GetResponseDeleteRange(); d == nil || d.Deleted > 0 {
			changes = append(changes, t.changes[i])
		}
	}
	if len(changes) == 0 { // nothing was there to delete: the revision is somebody else's
		return rev, s.view.waitFor(ctx, func() bool { return t.absentLocked(s.view, rev) })
	}
	for _, op := range t.ops {
		switch {
		case op.verb == opEmit:
			op.event.Rev = rev
		case op.verb.stores():
			op.rec.meta().Rev = rev
		}
	}
	for _, c := range changes {
		switch {
		case c.event != nil:
			c.event.Rev = rev
		case c.rec != nil:
			c.rec.meta().Rev = rev
		}
	}
	s.lease.note(s.cfg.Host, changes)
	return rev, s.view.show(ctx, rev, changes)
}

// absentLocked tells whether the view shows none of the records as of rev.
func (t *txn) absentLocked(v *View, rev Revision) bool {
	if v.rev >= rev {
		return true
	}
	for _, c := range t.changes {
		if v.records[c.key] != nil {
			return false
		}
	}
	return true
}

// conflict finds the first op whose condition failed and waits until the view has learned why.
func (s *Store) conflict(ctx context.Context, t *txn, resp *clientv3.TxnResponse) error {
	for i, op := range t.guarded {
		var found Record
		var rev Revision
		if kvs := resp.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			rev = Revision(kvs[0].GetModRevision())
			var err error
			if found, _, err = decode(string(kvs[0].GetKey()), kvs[0].GetValue(), rev); err != nil {
				return err
			}
		}
		if holds(op, rev) {
			continue
		}
		if err := s.view.waitFor(ctx, func() bool { return s.view.knowsLocked(op.rec, rev) }); err != nil {
			return err
		}
		return &Conflict{Record: op.rec, Existing: found, class: classOf(op)}
	}
	return fmt.Errorf("transaction refused for no reason: %w", errdefs.ErrInternal)
}

func holds(op Op, rev Revision) bool {
	if op.verb == opCreate || op.verb == opVacant {
		return rev == 0
	}
	return rev == op.rec.meta().Rev
}

func classOf(op Op) error {
	if op.verb == opCreate {
		return errdefs.ErrAlreadyExists
	}
	return errdefs.ErrAborted
}

// classify gives an error of etcd its class. errdefs.ErrUnavailable: nobody knows whether the transaction took place.
func classify(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return err
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrDuplicateKey),
		errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	case errors.Is(err, rpctypes.ErrNoLeader):
		return errNoQuorum
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: %w", err, errdefs.ErrResourceExhausted)
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
}
