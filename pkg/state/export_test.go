package state

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// What the tests need of the inside: a step of Run at a time of their choice.

func (s *Store) TrimEvents(ctx context.Context, now time.Time) error { return s.trimEvents(ctx, now) }
func (s *Store) Compact(ctx context.Context) error                   { return s.compact(ctx) }
func (s *Store) RenewLease(ctx context.Context) error                { return s.renewLease(ctx) }
func (s *Store) Client() *clientv3.Client                            { return s.client }
func (s *Store) LeaseID() clientv3.LeaseID                           { return s.lease.current() }

const (
	Root       = root
	SchemaKey  = schemaKey
	EventLimit = DefaultEvents
	EventAge   = eventAge
)

// NewView makes a view without a store, and Show fills it as a transaction of revision rev would.
func NewView() *View { return newView(DefaultEvents) }

func (v *View) Show(rev Revision, records ...Record) {
	var changes []change
	for _, r := range records {
		r.meta().Rev = rev
		changes = append(changes, change{key: r.key(), kind: r.kind(), rec: r})
	}
	v.learn(rev, changes)
}

func (v *View) Drop(rev Revision, records ...Record) {
	var changes []change
	for _, r := range records {
		changes = append(changes, change{key: r.key(), kind: r.kind()})
	}
	v.learn(rev, changes)
}

func (v *View) ShowEvent(rev Revision, e *Event) {
	e.Rev = rev
	if e.stamp == 0 {
		e.stamp = e.Message.TimeNano
	}
	v.learn(rev, []change{{event: e}})
}

// StopMember has the embedded etcd stop by itself.
func (s *Store) StopMember() { s.member.etcd.Server.HardStop() }

// EtcdLogger is the logger the embedded etcd has.
func (s *Store) EtcdLogger() *zap.Logger { return s.member.logger(zap.NewNop()) }
