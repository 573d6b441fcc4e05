package state

import (
	"context"
	"expvar"
	"slices"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// electEvery is how often a lone member is told to elect itself until it has.
const electEvery = 5 * time.Millisecond

// elect has a member that is the only voter become the leader now: by itself it would wait one to two seconds for
// another that might be. It returns when there is a leader, when there are other voters, or with the context.
func (m *member) elect(ctx context.Context) {
	tick := time.NewTicker(electEvery)
	defer tick.Stop()
	server := m.etcd.Server
	for server.Leader() == 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		voters := slices.DeleteFunc(server.Cluster().Members(), func(m *membership.Member) bool { return m.IsLearner })
		if len(voters) > 1 {
			return
		}
		if self := uint64(server.MemberID()); len(voters) == 1 && uint64(voters[0].ID) == self && caughtUp(self) {
			// The message that a leader sends to the member it hands over to.
			kind := raftpb.MsgTimeoutNow
			_ = server.Process(ctx, &raftpb.Message{Type: &kind, To: &self, From: &self}) // the next try follows
		}
	}
}

// caughtUp tells whether raft has applied its log: it gives up when it is to elect and looks for entries that etcd has
// forgotten as applied. Only etcd's variable says; it is the newest member's of the process.
func caughtUp(self uint64) bool {
	f, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return false
	}
	s, ok := f.Value().(raft.Status)
	return ok && s.ID == self && s.Applied >= s.GetCommit() && s.GetCommit() > 0
}
