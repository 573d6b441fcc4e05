package transfer_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/server"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	apex   = "dc1.cns.internal."
	key    = "xfer."
	secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI="
)

// openState runs a real state of one host until the test ends.
func openState(t *testing.T) *state.Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "cns") // short: a unix socket's path holds 107 bytes
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	s, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "s"), Host: "h1"})
	assert.NilError(t, err)
	background(t, s.Run, s.Close)
	commit(t, s, state.Create(&state.TSIG{Name: key, Algorithm: dns.HmacSHA256, Secret: secret}))
	return s
}

// background runs something until the test ends, then finishes with after.
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

// primary is a name server whose zone a test changes as it likes.
type primary struct {
	*transfer.Transfers
	t    *testing.T
	addr netip.AddrPort
	stop func()

	mu     sync.Mutex
	set    *zone.Set
	serial uint32
}

// start runs a primary on a port of the system's choice, or on the one given.
func start(t *testing.T, s *state.Store, dir, listen string, raise func(string, uint32)) *primary {
	t.Helper()
	p := &primary{t: t, set: zone.New(), serial: 100}
	p.Transfers = transfer.New(transfer.Config{Host: "h1", Dir: dir, View: s.View(), Raise: raise, Log: zap.NewNop()})
	srv := server.New(p, server.Config{Listen: []string{listen}, Transfers: p.Transfers}, zap.NewNop())
	assert.NilError(t, srv.Listen(t.Context()))
	p.addr = netip.MustParseAddrPort(srv.Addrs()[0].String())
	stopServer, stopTransfers := background(t, srv.Run, nil), background(t, p.Run, nil)
	p.stop = func() { stopServer(); stopTransfers() }
	return p
}

// Zones implements server.Source.
func (p *primary) Zones() *zone.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set
}

// change makes the next set, some revisions later.
func (p *primary) change(edit func(*zone.Edit)) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.set.Edit()
	edit(e)
	p.serial += 3
	p.set = e.Done(p.serial)
	p.Changed(p.set, e.Diffs())
}

func declare(signer zone.Signer) func(*zone.Edit) {
	return func(e *zone.Edit) {
		e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "hostmaster." + apex, Signer: signer})
	}
}

func newSigner(t *testing.T) zone.Signer {
	t.Helper()
	k, _, err := sign.Generate()
	assert.NilError(t, err)
	return sign.New([]*sign.Key{k}, sign.Epoch(time.Now()))
}

// host is one of many records.
func host(i int) record.Record {
	return record.Address(fmt.Sprintf("c%d.inst.admin.%s", i, apex), 30, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
}

// transferred asks for a transfer and returns the records as they come.
func (p *primary) transferred(q *dns.Msg, keyName string) ([]string, error) {
	tr := &dns.Transfer{DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute} // the whole of a large zone takes its time
	if keyName != "" {
		q.SetTsig(keyName, dns.HmacSHA256, 300, time.Now().Unix())
		tr.TsigSecret = map[string]string{keyName: secret}
	}
	envelopes, err := tr.In(q, p.addr.String())
	if err != nil {
		return nil, err
	}
	var lines []string
	for e := range envelopes {
		if e.Error != nil {
			err = e.Error
		}
		for _, rr := range e.RR {
			lines = append(lines, text(rr))
		}
	}
	return lines, err
}

func text(rr dns.RR) string { return strings.Join(strings.Fields(rr.String()), " ") }

func axfr() *dns.Msg { return new(dns.Msg).SetAxfr(apex) }

func ixfr(serial uint32) *dns.Msg {
	return new(dns.Msg).SetIxfr(apex, serial, "ns."+apex, "hostmaster."+apex)
}

// content is what a set has in the zone, sorted.
func content(set *zone.Set) []string {
	m := map[string]bool{}
	set.Each(apex, func(r record.Record) bool {
		m[r.String()] = true
		return true
	})
	return sorted(m)
}

func sorted(m map[string]bool) []string {
	var all []string
	for s := range m {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

func serialOf(t *testing.T, set *zone.Set) uint32 {
	t.Helper()
	z, ok := set.Zone(apex)
	assert.Assert(t, ok)
	return z.Serial
}
