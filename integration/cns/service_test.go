//go:build integration

package cns

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/cns/admin"
	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/server"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	plain  = "dc1.cns.internal."
	signed = "signed.example."
)

// service is the name service as the daemon wires it, over a real state whose containers a test starts and stops.
type service struct {
	*admin.Admin
	store     *state.Store
	publisher *publish.Publisher
	transfers *transfer.Transfers
	addr      netip.AddrPort
	stop      func()
}

func openState(t *testing.T) *state.Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "cns") // short: a unix socket's path holds 107 bytes
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	s, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "s"), Host: "h1", Log: zap.NewNop()})
	assert.NilError(t, err)
	background(t, s.Run, s.Close)
	commit(t, s, state.Create(&state.Host{Name: "h1", Advertise: netip.MustParseAddr("192.0.2.1")}), state.Create(&state.Network{
		Account: nereid.Admin, ID: "n1", Name: "bridge", Predefined: true, Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}}))
	return s
}

func background(t *testing.T, run func(context.Context) error, after func() error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.Check(t, <-done)
		if after != nil {
			assert.Check(t, after())
		}
	})
	t.Cleanup(stop)
	return stop
}

func commit(t *testing.T, s *state.Store, ops ...state.Op) {
	t.Helper()
	_, err := s.Commit(t.Context(), ops...)
	assert.NilError(t, err)
}

// serve runs the name service of the state, with its journals in a folder.
func serve(t *testing.T, s *state.Store, dir, listen string) *service {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	v := &service{store: s}
	v.transfers = transfer.New(transfer.Config{Host: "h1", Dir: dir, View: s.View(), Log: log, Exact: func() bool { return v.publisher.Exact() }})
	p, err := publish.New(s, publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal", Changed: v.transfers.Changed, Log: log})
	assert.NilError(t, err)
	v.publisher = p
	v.Admin = admin.New("h1", s, p, v.transfers, log)
	srv := server.New(p, server.Config{Listen: []string{listen}, Transfers: v.transfers}, log)
	assert.NilError(t, srv.Listen(t.Context()))
	v.addr = netip.MustParseAddrPort(srv.Addrs()[0].String())
	stops := []func(){background(t, p.Run, nil), background(t, srv.Run, nil), background(t, v.transfers.Run, nil)}
	v.settle(t)
	v.stop = func() {
		for _, stop := range stops {
			stop()
		}
	}
	return v
}

// settle waits until the zones are those of the state.
func (v *service) settle(t *testing.T) {
	t.Helper()
	want := v.store.View().Revision()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if v.publisher.Zones() != nil && v.publisher.Revision() >= want {
			return poll.Success()
		}
		return poll.Continue("zones of %d, not %d", v.publisher.Revision(), want)
	}, poll.WithTimeout(limit), poll.WithDelay(time.Millisecond))
}

// serial is the one of a zone as it is served, or was when the service stopped.
func (v *service) serial(zone string) uint32 {
	z, _ := v.publisher.Zones().Zone(zone)
	return z.Serial
}

// fake is the i-th container: an instance, a service and a project's service.
func fake(i int, status string) *state.Container {
	c := &state.Container{
		Account: nereid.Admin, ID: nereid.ContainerID(fmt.Sprintf("%064x", 0xabc000000000+i)), Name: fmt.Sprintf("c%d", i), Host: "h1",
		Config: &container.Config{Labels: map[string]string{
			"nereid.cns.services":        fmt.Sprintf("web%d:80", i%50),
			"com.docker.compose.service": "db", "com.docker.compose.project": fmt.Sprintf("shop%d", i%100),
		}},
		State:    state.RunState{Status: status},
		Networks: map[string]*state.Endpoint{"bridge": {Network: "n1", Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 16)}},
	}
	c.ID = nereid.ContainerID(strings.Repeat(fmt.Sprintf("%08x", 0xa0000000+i), 8))
	return c
}
