package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Server is one member of the cluster that holds the state.
type Server struct {
	Host    nereid.Host // empty for one that was added and has not started yet
	Peer    string      // URL at which the others reach it
	Learner bool        // gets all changes, and has no vote yet
}

// errNoQuorum answers writes while most servers do not answer.
var errNoQuorum = errdefs.ErrUnavailable.WithMessage("the state of the fleet cannot be changed now: most of its servers do not answer")

// quorumPatience is how long a write waits for a leader: an election takes one to two seconds.
const quorumPatience = 4 * time.Second

// Writable tells, after a while at most, whether the state can be changed as far as this host knows: its servers have a leader.
// errdefs.ErrUnavailable: it cannot.
func (s *Store) Writable(ctx context.Context) error {
	late := time.Now().Add(quorumPatience)
	for s.member == nil && s.mute.Load() {
		if time.Now().After(late) {
			return errNoQuorum
		}
		if pause(ctx, rewatchFirst); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return s.hasLeader(ctx)
}

// hasLeader waits a while for the cluster to have a leader.
func (s *Store) hasLeader(ctx context.Context) error {
	if s.member == nil {
		return nil // the servers say
	}
	etcd := s.member.etcd.Server
	late := time.NewTimer(quorumPatience)
	defer late.Stop()
	for {
		changed := etcd.LeaderChangedNotify()
		if etcd.Leader() != 0 {
			return nil
		}
		select {
		case <-changed:
		case <-late.C:
			return errNoQuorum
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Servers lists the members of the cluster, by host.
func (s *Store) Servers(ctx context.Context) ([]Server, error) {
	members, err := s.members(ctx)
	if err != nil {
		return nil, err
	}
	servers := make([]Server, 0, len(members))
	for _, m := range members {
		servers = append(servers, Server{Host: nereid.Host(m.Name), Peer: peerOf(m), Learner: m.IsLearner})
	}
	slices.SortFunc(servers, func(a, b Server) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Peer, b.Peer)) })
	return servers, nil
}

func peerOf(m *etcdserverpb.Member) string { return strings.Join(m.PeerURLs, ",") }

// members asks again when an election came in between: who takes a dead server out does so just then.
func (s *Store) members(ctx context.Context) ([]*etcdserverpb.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.MemberList(ctx)
	for errors.Is(err, rpctypes.ErrLeaderChanged) && ctx.Err() == nil {
		pause(ctx, rewatchFirst)
		resp, err = s.client.MemberList(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("list the servers of the state: %w", classify(err))
	}
	return resp.Members, nil
}

// AddServer has the cluster expect a member at a URL: first without a vote, which PromoteSelf gives it. One that is
// expected there already is no error. errdefs.ErrUnavailable: the cluster takes no member now; try again.
func (s *Store) AddServer(ctx context.Context, peer string) error {
	members, err := s.members(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(members, func(m *etcdserverpb.Member) bool { return slices.Contains(m.PeerURLs, peer) }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := s.client.MemberAddAsLearner(ctx, []string{peer}); err != nil {
		return fmt.Errorf("add a server of the state at %q: %w", peer, classify(err))
	}
	return nil
}

// RemoveServer takes a host's member, or the one expected at a URL, out of the cluster. One that is not there is no
// error. The last member, and one without which the rest would have no quorum, is errdefs.ErrFailedPrecondition.
func (s *Store) RemoveServer(ctx context.Context, h nereid.Host, peer string) error {
	members, err := s.members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		if nereid.Host(m.Name) != h && (m.Name != "" || peerOf(m) != peer) {
			continue
		}
		if len(members) == 1 {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("host %s is the last server of the fleet", h))
		}
		if err := s.removeMember(ctx, m.ID); err != nil {
			return fmt.Errorf("remove the server of host %q: %w", h, err)
		}
	}
	return nil
}

func (s *Store) removeMember(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := s.client.MemberRemove(ctx, id)
	for errors.Is(err, rpctypes.ErrUnhealthy) && ctx.Err() == nil { // until the others have been connected for five seconds
		pause(ctx, rewatchMax/2)
		_, err = s.client.MemberRemove(ctx, id)
	}
	switch {
	case errors.Is(err, rpctypes.ErrMemberNotFound), err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrMemberNotEnoughStarted):
		return fmt.Errorf("the others would not be enough: %w", errdefs.ErrFailedPrecondition)
	}
	return classify(err)
}

// keepSeat makes the cluster know this member as it is: reached at cfg.Peer, and with a vote once it has caught up.
// It tries until the context ends.
func (s *Store) keepSeat(ctx context.Context) error {
	for ctx.Err() == nil {
		done, err := s.takeSeat(ctx)
		if done {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			s.log.Info("this server has no vote yet; trying again", zap.Error(err))
		}
		pause(ctx, rewatchMax/2)
	}
	return nil
}

func (s *Store) takeSeat(ctx context.Context) (done bool, err error) {
	members, err := s.members(ctx)
	if err != nil {
		return false, err
	}
	self := uint64(s.member.etcd.Server.MemberID())
	i := slices.IndexFunc(members, func(m *etcdserverpb.Member) bool { return m.ID == self })
	if i < 0 {
		return true, nil // removed: etcd stops
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if peerOf(members[i]) != s.cfg.Peer {
		if _, err := s.client.MemberUpdate(ctx, self, []string{s.cfg.Peer}); err != nil {
			return false, classify(err)
		}
	}
	if members[i].IsLearner {
		if _, err := s.client.MemberPromote(ctx, self); err != nil {
			return false, classify(err)
		}
		s.log.Info("this server has a vote now")
	}
	return true, nil
}

// handlers are what other members and other hosts talk to: raft's HTTP and etcd's gRPC.
func (m *member) handlers(log *zap.Logger) (peers, clients http.Handler) {
	return etcdhttp.NewPeerHandler(log, m.etcd.Server), v3rpc.Server(m.etcd.Server, nil, nil)
}

// SetEndpoints tells a store without a member of its own where the servers are now. Others keep theirs.
func (s *Store) SetEndpoints(endpoints []string) {
	if s.member == nil && len(endpoints) > 0 {
		s.client.SetEndpoints(endpoints...)
	}
}

// WaitRevision blocks until the view shows a revision.
func (v *View) WaitRevision(ctx context.Context, rev Revision) error {
	return v.waitFor(ctx, func() bool { return v.rev >= rev })
}

// leaderRequired has servers without a leader refuse instead of letting the request wait.
func (s *Store) leaderRequired(ctx context.Context) context.Context {
	if s.member != nil {
		return ctx
	}
	return clientv3.WithRequireLeader(ctx)
}
