package state

import (
	"context"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Attempt notes whether anything was changed on behalf of a context.
type Attempt struct{ changed atomic.Bool }

type attemptKey struct{}

// WithAttempt returns a context, and what tells whether a transaction was tried with it or one made from it.
func WithAttempt(ctx context.Context) (context.Context, *Attempt) {
	a := &Attempt{}
	return context.WithValue(ctx, attemptKey{}, a), a
}

// Changed tells whether there was a transaction.
func (a *Attempt) Changed() bool { return a.changed.Load() }

// noteAttempt is called for each transaction.
func noteAttempt(ctx context.Context) {
	if a, ok := ctx.Value(attemptKey{}).(*Attempt); ok {
		a.changed.Store(true)
	}
}

// presentTimeout bounds the look at the present: a state that does not answer must not hold back what a host knows.
const presentTimeout = time.Second

// Present brings the view up to what the servers have agreed on by now: they are asked, and what was committed before
// the call is shown after it. Without an answer in a second the view stays as it is.
func (s *Store) Present(ctx context.Context) {
	if s.mute.Load() || s.member != nil && s.member.etcd.Server.Leader() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, presentTimeout)
	defer cancel()
	resp, err := s.client.Get(s.leaderRequired(ctx), schemaKey, clientv3.WithKeysOnly())
	if err != nil || Revision(resp.Header.Revision) <= s.view.Revision() {
		return
	}
	if len(s.cfg.Endpoints) > 0 { // others may write there, too: the watch says that nothing of ours is missing
		_ = s.client.RequestProgress(clientv3.WithRequireLeader(ctx))
	}
	_ = s.view.WaitRevision(ctx, Revision(resp.Header.Revision))
}
