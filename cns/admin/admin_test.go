package admin_test

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/cns/admin"
	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

const apex = "dc1.cns.internal."

// rig is a name service over a real state, with a container.
type rig struct {
	*admin.Admin
	t         *testing.T
	ctx       context.Context
	store     *state.Store
	publisher *publish.Publisher
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "cns") // short: a unix socket's path holds 107 bytes
	assert.NilError(t, err)
	t.Cleanup(func() { assert.Check(t, os.RemoveAll(dir)) })
	s, err := state.Open(t.Context(), state.Config{Dir: filepath.Join(dir, "etcd"), Socket: filepath.Join(dir, "s"), Host: "h1"})
	assert.NilError(t, err)
	tr := transfer.New(transfer.Config{Host: "h1", View: s.View()})
	p, err := publish.New(s, publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal", Changed: tr.Changed})
	assert.NilError(t, err)
	background(t, s.Run, s.Close)
	background(t, p.Run, nil)
	background(t, tr.Run, nil)
	r := &rig{Admin: admin.New("h1", s, p, tr, zap.NewNop()), t: t, ctx: nereid.WithAccount(t.Context(), nereid.Admin), store: s, publisher: p}
	c := &state.Container{
		Account: nereid.Admin, ID: nereid.ContainerID(strings.Repeat("ab", 32)), Name: "web", Host: "h1",
		Config:   &container.Config{Labels: map[string]string{"nereid.cns.services": "web:80,bad_one"}},
		State:    state.RunState{Status: state.StatusRunning},
		Networks: map[string]*state.Endpoint{"bridge": {Network: "n1", Address: netip.MustParsePrefix("10.1.2.3/24")}},
	}
	_, err = s.Commit(t.Context(), state.Create(c), state.Create(&state.Name{Account: nereid.Admin, Name: "web", Container: c.ID}),
		state.Create(&state.Host{Name: "h1", Advertise: netip.MustParseAddr("192.0.2.1")}),
		state.Create(&state.Network{Account: nereid.Admin, ID: "n1", Name: "bridge", Predefined: true, Subnets: []state.Subnet{{Prefix: netip.MustParsePrefix("10.1.2.0/24")}}}))
	assert.NilError(t, err)
	r.settle()
	return r
}

func background(t *testing.T, run func(context.Context) error, after func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.Check(t, <-done)
		if after != nil {
			assert.Check(t, after())
		}
	})
}

// settle waits until the zones are those of the state.
func (r *rig) settle() {
	r.t.Helper()
	want := r.store.View().Revision()
	poll.WaitOn(r.t, func(poll.LogT) poll.Result {
		if r.publisher.Revision() >= want {
			return poll.Success()
		}
		return poll.Continue("at %d, not %d", r.publisher.Revision(), want)
	}, poll.WithTimeout(30*time.Second), poll.WithDelay(time.Millisecond))
}

func (r *rig) zone(apex string) nereid.CNSZone {
	r.t.Helper()
	r.settle()
	all, err := r.Zones(r.ctx)
	assert.NilError(r.t, err)
	for _, z := range all {
		if z.Apex == apex {
			return z
		}
	}
	return nereid.CNSZone{}
}

func TestZonesComeAndGo(t *testing.T) {
	r := newRig(t)
	assert.DeepEqual(t, r.zone(apex).Made, "default")
	assert.DeepEqual(t, r.zone("2.1.10.in-addr.arpa.").Made, "networks")

	warnings, err := r.AddZone(r.ctx, "Shop.example.com", []string{"networks=shop,bridge", "ttl=60", "mailbox=ops@example.com"})
	assert.NilError(t, err)
	assert.DeepEqual(t, warnings, []string{`there is no network "shop" yet`})
	z := r.zone("shop.example.com.")
	assert.DeepEqual(t, z.Settings, []string{"kind=inner", "networks=shop,bridge", "ttl=60", "mailbox=ops.example.com."})
	_, err = r.AddZone(r.ctx, "shop.example.com", nil)
	assert.Assert(t, errdefs.IsAlreadyExists(err), "%v", err)
	_, err = r.AddZone(r.ctx, "dc1.cns.internal", nil)
	assert.Assert(t, errdefs.IsAlreadyExists(err), "%v", err)

	_, err = r.SetZone(r.ctx, "shop.example.com", []string{"networks-=shop", "networks+=db", "ttl="})
	assert.NilError(t, err)
	assert.DeepEqual(t, r.zone("shop.example.com.").Settings, []string{"kind=inner", "networks=bridge,db", "mailbox=ops.example.com."})
	_, err = r.SetZone(r.ctx, "nope.example.com", []string{"ttl=5"})
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)

	assert.NilError(t, r.RemoveZone(r.ctx, "shop.example.com"))
	assert.Equal(t, r.zone("shop.example.com.").Apex, "")
	assert.Assert(t, errdefs.IsNotFound(r.RemoveZone(r.ctx, "shop.example.com")))
	assert.Assert(t, errdefs.IsFailedPrecondition(r.RemoveZone(r.ctx, "dc1.cns.internal")))
	assert.Assert(t, errdefs.IsFailedPrecondition(r.RemoveZone(r.ctx, "2.1.10.in-addr.arpa")))

	assert.NilError(t, r.Ensure(r.ctx, "ext.example.com", []string{"kind=outer"}))
	assert.NilError(t, r.Ensure(r.ctx, "ext.example.com", []string{"kind=outer", "ttl=7"}))
	assert.DeepEqual(t, r.zone("ext.example.com.").Settings, []string{"kind=outer", "ttl=7"})
}

func TestSettingsAreValidated(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		zone string
		word string
		want []string // each in the error
	}{
		{"a_b.example", "", []string{`"a_b.example"`}},
		{"x.example", "ttl", []string{"KEY=VALUE"}},
		{"x.example", "ttl=0 ttl=99999 negative-ttl=x", []string{`ttl: "0"`, `ttl: "99999"`, `negative-ttl: "x"`}},
		{"x.example", "colour=red", []string{`no setting "colour"`}},
		{"x.example", "kind=round", []string{"inner, outer, reverse"}},
		{"x.example", "kind=reverse", []string{"in-addr.arpa"}},
		{"10.in-addr.arpa", "kind=inner", []string{"in-addr.arpa"}},
		{"x.example", "kind=outer networks=a", []string{"lists no networks"}},
		{"x.example", "networks=*", []string{"no network's name"}},
		{"x.example", "hidden-primary=on", []string{"servers must name"}},
		{"x.example", "hidden-primary=maybe", []string{"neither on nor off"}},
		{"x.example", "servers=a..b", []string{"empty name"}},
		{"x.example", "mailbox=a.b@example.com", []string{"must not hold a dot"}},
		{"x.example", "secondaries=ns1.example.com", []string{"ADDR[:PORT][@KEY]"}},
		{"x.example", "secondaries=192.0.2.1@nokey", []string{`no TSIG key "nokey"`}},
		{"x.example", "keys=nokey", []string{`no TSIG key "nokey"`}},
		{"x.example", "transfer=here", []string{"neither an address nor a CIDR"}},
		{"x.example", "notifiers=h_1", []string{"h_1"}},
		{"x.example", "dnssec+=on", []string{"no list"}},
		{"x.dc1.cns.internal", "", []string{"must not lie within another: dc1.cns.internal"}},
		{"internal", "", []string{"must not lie within another: dc1.cns.internal"}},
	} {
		_, err := r.AddZone(r.ctx, c.zone, strings.Fields(c.word))
		assert.Assert(t, errdefs.IsInvalidArgument(err), "%s %s: %v", c.zone, c.word, err)
		for _, w := range c.want {
			assert.Check(t, is.ErrorContains(err, w), "%s %s", c.zone, c.word)
		}
	}
	_, err := r.SetZone(r.ctx, "dc1.cns.internal", []string{"kind=outer"})
	assert.ErrorContains(t, err, "default zone is inner")
	_, err = r.SetZone(r.ctx, "dc1.cns.internal", []string{"serial-base=100"})
	assert.NilError(t, err)
	_, err = r.SetZone(r.ctx, "dc1.cns.internal", []string{"serial-base=50"})
	assert.ErrorContains(t, err, "only grow")
	assert.Equal(t, len(r.store.View().Zones()), 1, "what was refused left something")
}

func TestKeys(t *testing.T) {
	r := newRig(t)
	_, err := r.SetZone(r.ctx, "dc1.cns.internal", []string{"dnssec=on"})
	assert.NilError(t, err)
	assert.Assert(t, r.zone(apex).Signed)
	keys, err := r.Keys(r.ctx, apex)
	assert.NilError(t, err)
	assert.Equal(t, len(keys), 1)
	_, err = dns.NewRR(keys[0].DS)
	assert.NilError(t, err)
	assert.Assert(t, errdefs.IsFailedPrecondition(r.RemoveKey(r.ctx, apex, keys[0].Tag)), "the only key")
	second, err := r.AddKey(r.ctx, apex)
	assert.NilError(t, err)
	assert.Assert(t, second.Tag != keys[0].Tag)
	assert.NilError(t, r.RemoveKey(r.ctx, apex, keys[0].Tag))
	assert.Assert(t, errdefs.IsNotFound(r.RemoveKey(r.ctx, apex, keys[0].Tag)))
	_, err = r.AddZone(r.ctx, "x.example", nil)
	assert.NilError(t, err)
	_, err = r.AddKey(r.ctx, "x.example")
	assert.Assert(t, errdefs.IsFailedPrecondition(err), "%v", err)
	_, err = r.Keys(r.ctx, "nope.example")
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
}

func TestTSIG(t *testing.T) {
	r := newRig(t)
	made, err := r.AddTSIG(r.ctx, "Xfer", nereid.CNSTSIG{})
	assert.NilError(t, err)
	assert.Equal(t, made.Algorithm, "hmac-sha256")
	assert.Assert(t, len(made.Secret) > 40)
	_, err = r.AddTSIG(r.ctx, "xfer", nereid.CNSTSIG{})
	assert.Assert(t, errdefs.IsAlreadyExists(err), "%v", err)
	for _, k := range []nereid.CNSTSIG{{Algorithm: "md5"}, {Secret: "c2hvcnQ="}, {Secret: "!"}} {
		_, err = r.AddTSIG(r.ctx, "other", k)
		assert.Assert(t, errdefs.IsInvalidArgument(err), "%v", err)
	}
	all, err := r.TSIGs(r.ctx)
	assert.NilError(t, err)
	assert.Equal(t, len(all), 1)
	assert.Equal(t, all[0].Secret, "")
	_, err = r.SetZone(r.ctx, "dc1.cns.internal", []string{"secondaries=192.0.2.7@xfer"})
	assert.NilError(t, err)
	assert.ErrorContains(t, r.RemoveTSIG(r.ctx, "xfer"), "is used by zone dc1.cns.internal")
	_, err = r.SetZone(r.ctx, "dc1.cns.internal", []string{"secondaries-=192.0.2.7@XFER"})
	assert.NilError(t, err)
	assert.NilError(t, r.RemoveTSIG(r.ctx, "xfer"))
	assert.Assert(t, errdefs.IsNotFound(r.RemoveTSIG(r.ctx, "xfer")))
}

func TestContainersAtRunTime(t *testing.T) {
	r := newRig(t)
	explain := func(what string) string {
		t.Helper()
		r.settle()
		e, err := r.Explain(r.ctx, what)
		assert.NilError(t, err)
		lines := append([]string{e.Verdict}, e.Reasons...)
		for _, z := range e.Zones {
			lines = append(append(lines, z.Records...), z.Lacks...)
		}
		return strings.Join(lines, "\n")
	}
	assert.Assert(t, is.Contains(explain("web"), "web.svc.admin.dc1.cns.internal. 30 IN A 10.1.2.3"))
	assert.Assert(t, is.Contains(explain("web"), `service "bad_one"`))
	assert.NilError(t, r.SetContainer(r.ctx, "web", []string{"status=down", "acme-challenge=a,b"}))
	assert.Assert(t, is.Contains(explain("abab"), "taken out at run time"))
	assert.Assert(t, is.Contains(explain("abab"), `_acme-challenge.web.inst.admin.dc1.cns.internal. 30 IN TXT "b"`))
	assert.Assert(t, is.Contains(explain("web.svc.admin.dc1.cns.internal"), "NXDOMAIN"))
	assert.Assert(t, is.Contains(explain("web.svc.admin.dc1.cns.internal"), "taken out at run time"))
	assert.NilError(t, r.SetContainer(r.ctx, "web", []string{"status=", "acme-challenge="}))
	_, there := r.store.View().Naming(nereid.Admin, nereid.ContainerID(strings.Repeat("ab", 32)))
	assert.Assert(t, !there)
	assert.Assert(t, is.Contains(explain("web.svc.admin.dc1.cns.internal"), "answered\nzone dc1.cns.internal."))
	assert.Assert(t, is.Contains(explain("svc.admin.dc1.cns.internal"), "no data"))
	assert.Assert(t, is.Contains(explain("example.com"), "refused"))

	for _, c := range []struct{ ref, word, want string }{
		{"web", "status=off", "neither up nor down"}, {"web", "color=red", "neither status"}, {"web", "acme-challenge=a b", "base64"},
		{"web", "", "nothing to set"}, {"nobody", "status=up", "No such container: nobody"},
	} {
		var words []string
		if c.word != "" {
			words = []string{c.word}
		}
		assert.ErrorContains(t, r.SetContainer(r.ctx, c.ref, words), c.want)
	}
	_, err := r.Explain(r.ctx, "nobody")
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
}

// TestDumpIsAZoneFile: another implementation reads it.
func TestDumpIsAZoneFile(t *testing.T) {
	r := newRig(t)
	_, err := r.SetZone(r.ctx, "dc1.cns.internal", []string{"dnssec=on"})
	assert.NilError(t, err)
	r.settle()
	var out bytes.Buffer
	assert.NilError(t, r.Dump(r.ctx, "dc1.cns.internal", func() io.Writer { return &out }))
	n := 0
	p := dns.NewZoneParser(&out, "", "")
	for _, ok := p.Next(); ok; _, ok = p.Next() {
		n++
	}
	assert.NilError(t, p.Err())
	assert.Assert(t, n > 20, n)
	err = r.Dump(r.ctx, "cns.internal", func() io.Writer { t.Error("written to"); return io.Discard })
	assert.Assert(t, errdefs.IsNotFound(err), "%v", err)
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	_, err := r.SetZone(r.ctx, "dc1.cns.internal", []string{"secondaries=127.0.0.1:1"})
	assert.NilError(t, err)
	r.settle()
	s, err := r.Status(r.ctx)
	assert.NilError(t, err)
	assert.Assert(t, s.Exact)
	assert.Equal(t, len(s.Zones), 2)
	assert.Equal(t, len(s.Secondaries), 1)
	assert.Equal(t, s.Secondaries[0].Address, "127.0.0.1:1")
	assert.Assert(t, s.Secondaries[0].Error != "" && s.Secondaries[0].Drift > 0)
}

func TestMetrics(t *testing.T) {
	r := newRig(t)
	_, err := r.SetZone(r.ctx, "dc1.cns.internal", []string{"secondaries=127.0.0.1:1"})
	assert.NilError(t, err)
	r.settle()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if n := testutil.CollectAndCount(r, "nereid_dns_transfer_lag_seconds", "nereid_dns_zone_serial", "nereid_dns_transfers_total", "nereid_dns_exact"); n == 1+2+5+1 {
			return poll.Success()
		} else {
			return poll.Continue("%d metrics", n)
		}
	}, poll.WithTimeout(30*time.Second))
	problems, err := testutil.CollectAndLint(r)
	assert.NilError(t, err)
	assert.Equal(t, len(problems), 0, "%v", problems)
}

// TestRaise: serials that were given out are not given out again.
func TestRaise(t *testing.T) {
	r := newRig(t)
	before := r.zone(apex).Serial
	assert.NilError(t, r.Raise(r.ctx, apex, before+1000))
	assert.Assert(t, r.zone(apex).Serial > before+1000)
	base := r.zone(apex).Settings
	assert.NilError(t, r.Raise(r.ctx, apex, before+1000))
	assert.DeepEqual(t, r.zone(apex).Settings, base)
	assert.NilError(t, r.Raise(r.ctx, "2.1.10.in-addr.arpa.", before+1000))
	assert.Assert(t, r.zone("2.1.10.in-addr.arpa.").Serial > before+1000)
}
