package state_test

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// seat is where one server of a test's cluster is reached: raft and clients on one port, as hosts have it.
type seat struct {
	url      string
	srv      *http.Server
	taken    chan struct{} // closed with the first of handlers
	handlers atomic.Pointer[[2]http.Handler]
}

// newSeat listens, and answers nothing until it is somebody's: messages of raft wait for that, as at a host.
func newSeat(t *testing.T, addr string) *seat {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	assert.NilError(t, err)
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &seat{url: "http://" + l.Addr().String(), taken: make(chan struct{})}
	s.srv = &http.Server{Protocols: p, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/raft" {
			select {
			case <-s.taken:
			case <-t.Context().Done():
			}
		}
		h := s.handlers.Load()
		switch {
		case h == nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
			h[1].ServeHTTP(w, r)
		default:
			h[0].ServeHTTP(w, r)
		}
	})}
	go func() { _ = s.srv.Serve(l) }()
	t.Cleanup(s.close)
	return s
}

func (s *seat) close() { _ = s.srv.Close() }

func (s *seat) config(t *testing.T, host nereid.Host, join []state.Server) state.Config {
	t.Helper()
	return state.Config{
		Dir: filepath.Join(tempDir(t), "etcd"), Host: host, Peer: s.url, Join: join,
		Serve: func(servers, hosts http.Handler) {
			if s.handlers.Swap(&[2]http.Handler{servers, hosts}) == nil {
				close(s.taken)
			}
		},
	}
}

// join adds a server to the cluster that another is in, as a host that joins does.
func join(t *testing.T, by *state.Store, host nereid.Host) (*state.Store, *seat, func(), state.Config) {
	t.Helper()
	at := newSeat(t, "127.0.0.1:0")
	succeeds(t, "the cluster takes "+string(host), func() error { return by.AddServer(testContext(t), at.url) })
	succeeds(t, "a second time is no error", func() error { return by.AddServer(testContext(t), at.url) })
	cfg := at.config(t, host, servers(t, by))
	s, stop := run(t, cfg)
	until(t, string(host)+" has a vote", func() bool { return voters(t, by)[host] })
	return s, at, stop, cfg
}

func servers(t *testing.T, s *state.Store) (all []state.Server) {
	t.Helper()
	succeeds(t, "the servers are told", func() (err error) {
		all, err = s.Servers(testContext(t))
		return err
	})
	return all
}

func voters(t *testing.T, s *state.Store) map[nereid.Host]bool {
	t.Helper()
	has := map[nereid.Host]bool{}
	for _, m := range servers(t, s) {
		has[m.Host] = !m.Learner
	}
	return has
}

func TestAFleetOfOneGrowsToThreeServersAndLosesOne(t *testing.T) {
	t.Parallel()
	first := newSeat(t, "127.0.0.1:0")
	s1, stop1 := run(t, first.config(t, "h1", nil))
	a := newContainer(id("a"), "a")
	commit(t, s1, state.Create(a))

	s2, at2, stop2, _ := join(t, s1, "h2")
	s3, _, stop3, cfg3 := join(t, s1, "h3")
	_, ok := s3.View().Container(nereid.Admin, a.ID)
	assert.Assert(t, ok, "who joins has all there is")

	// A host without a member of its own reads and writes through the servers.
	client, _ := run(t, state.Config{Host: "h4", Endpoints: []string{first.url, at2.url}})
	b := newContainer(id("b"), "b")
	var rev state.Revision
	succeeds(t, "the client writes", func() (err error) {
		rev, err = client.Commit(testContext(t), state.Put(b))
		return err
	})
	assert.NilError(t, s3.View().WaitRevision(testContext(t), rev))

	// The first dies: two of three go on, and take it out.
	first.close()
	stop1()
	c := newContainer(id("c"), "c")
	until(t, "the two others write", func() bool { _, err := s2.Commit(testContext(t), state.Put(c)); return err == nil })
	until(t, "the client writes", func() bool { _, err := client.Commit(testContext(t), state.Put(c)); return err == nil })
	until(t, "it is removed", func() bool { return s2.RemoveServer(testContext(t), "h1", "") == nil })
	assert.DeepEqual(t, voters(t, s3), map[nereid.Host]bool{"h2": true, "h3": true})

	// One of two is no quorum: reads go on, writes say so, and soon.
	at2.close()
	stop2()
	_, ok = s3.View().Container(nereid.Admin, b.ID)
	assert.Assert(t, ok)
	until(t, "the last one knows that it is alone", func() bool {
		_, err := s3.Commit(testContext(t), state.Put(c))
		return errdefs.IsUnavailable(err) && strings.Contains(err.Error(), "most of its servers do not answer")
	})

	// The last one goes on alone, with all there was, and takes others again.
	t.Run("alone", func(t *testing.T) {
		stop3()
		cfg3.Alone = true
		s3, stop := run(t, cfg3)
		_, ok := s3.View().Container(nereid.Admin, c.ID)
		assert.Assert(t, ok)
		commit(t, s3, state.Put(c))
		assert.DeepEqual(t, voters(t, s3), map[nereid.Host]bool{"h3": true})
		_, at, stop5, _ := join(t, s3, "h5")
		at.close()
		stop5()
		stop()
	})
}

func TestAServerComesBackWhereItWas(t *testing.T) {
	t.Parallel()
	s3, _ := run(t, newSeat(t, "127.0.0.1:0").config(t, "h3", nil))
	_, at2, stop2, cfg2 := join(t, s3, "h2")
	at2.close()
	stop2()
	c := newContainer(id("c"), "c")
	again := newSeat(t, strings.TrimPrefix(at2.url, "http://"))
	cfg2.Serve = again.config(t, "h2", nil).Serve
	s2, _ := run(t, cfg2)
	until(t, "two of two write", func() bool { _, err := s3.Commit(testContext(t), state.Put(c)); return err == nil })
	until(t, "and see it", func() bool { return s2.View().Revision() == s3.View().Revision() })
}

func TestTheLastServerStays(t *testing.T) {
	t.Parallel()
	first := newSeat(t, "127.0.0.1:0")
	s1, _ := run(t, first.config(t, "h1", nil))
	err := s1.RemoveServer(testContext(t), "h1", "")
	assert.ErrorIs(t, err, errdefs.ErrFailedPrecondition)
	assert.NilError(t, s1.RemoveServer(testContext(t), "h9", "http://nobody"))
}

func TestAServerThatMovesSaysSo(t *testing.T) {
	t.Parallel()
	cfg := newSeat(t, "127.0.0.1:0").config(t, "h1", nil)
	_, stop := run(t, cfg)
	stop()
	moved := newSeat(t, "127.0.0.1:0")
	cfg.Peer, cfg.Serve = moved.url, moved.config(t, "h1", nil).Serve
	s, _ := run(t, cfg)
	until(t, "the cluster knows where", func() bool {
		servers, err := s.Servers(testContext(t))
		return err == nil && servers[0].Peer == moved.url
	})
}
