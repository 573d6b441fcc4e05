//go:build integration

package cns

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// TestSecondaries: BIND, NSD and Knot follow 1,000 starts and 1,000 stops of containers, in a zone that is signed, one
// that is not and a reverse zone; each is down for a while, and so is the primary, which goes on from its journal. At
// the end all have the same zones, got by changes, and no serial ever went back.
func TestSecondaries(t *testing.T) {
	s := openState(t)
	dir := t.TempDir()
	at := freePort(t)
	v := serve(t, s, dir, at.String())
	key, err := v.AddTSIG(t.Context(), "xfer", nereid.CNSTSIG{})
	assert.NilError(t, err)
	zones := []string{plain, signed, "1.10.in-addr.arpa."}
	p := primaryOf{at: v.addr, zones: zones, secret: key.Secret}
	servers := []*nameserver{bind(t, p), nsd(t, p), knot(t, p)}
	var secondaries []string
	for _, n := range servers {
		secondaries = append(secondaries, n.addr.String()+"@xfer")
	}
	settings := []string{"keys=xfer", "secondaries=" + strings.Join(secondaries, ",")}
	for zone, more := range map[string]string{plain: "", signed: "dnssec=on", "1.10.in-addr.arpa.": "kind=reverse"} {
		assert.NilError(t, v.Ensure(t.Context(), zone, append(settings, strings.Fields(more)...)))
	}
	watch := watchSerials(t, map[string]netip.AddrPort{"the primary": at, "bind": servers[0].addr, "knot": servers[2].addr}, zones)
	before := map[string]uint32{} // serials when the primary stopped

	const containers = 1000
	for i := range 2 * containers {
		if i < containers {
			commit(t, s, state.Create(fake(i, state.StatusRunning)))
		}
		if i >= containers/4 && i-containers/4 < containers*4/5 { // the last fifth runs on
			stop(t, s, i-containers/4)
		}
		if i%40 == 0 { // they follow, change by change
			for n, server := range servers {
				if server.cmd != nil && i < 800 && serial(server.addr, plain) != 0 {
					servers[n].caughtUp(t, plain, v.serial(plain))
				}
			}
		}
		switch i { // somebody is missing while a hundred containers come and go
		case 200, 400, 600:
			servers[i/200-1].stop()
		case 300, 500, 700:
			servers[i/200-1].start(t)
		case 800:
			allCaughtUp(t, v, servers, zones)
			counts := v.transfers.Counts()
			assert.Assert(t, counts["incremental"] >= uint64(len(servers)*len(zones)), "they follow by changes: %v", counts)
			v.stop()
			for _, zone := range zones {
				before[zone] = v.serial(zone)
			}
		case 810:
			v = serve(t, s, dir, at.String())
			v.settle(t)
			for _, zone := range zones {
				goesOn(t, key.Secret, v, zone, before[zone])
			}
			allCaughtUp(t, v, servers, zones)
		}
	}
	for i := range 200 { // the rest of the 1,000 stops
		stop(t, s, containers*4/5+i)
		if i%2 == 0 { // and some that stay
			commit(t, s, state.Put(fake(containers*4/5+i, state.StatusRunning)))
		}
	}
	allCaughtUp(t, v, servers, zones)
	watch()
	updates := regexp.MustCompile(`zone (\S+) serial (\d+) is updated to (\d+)`).FindAllStringSubmatch(servers[1].log(), -1)
	assert.Assert(t, len(updates) > 0)
	for _, u := range updates {
		from, _ := strconv.ParseUint(u[2], 10, 32)
		to, _ := strconv.ParseUint(u[3], 10, 32)
		assert.Check(t, int32(uint32(to)-uint32(from)) > 0, "nsd: %s", u[0])
	}
	for _, zone := range zones {
		want := servers[0].content(t, zone, v.serial(zone))
		assert.Assert(t, len(want) > 100, "%s: %d records", zone, len(want))
		for _, n := range servers[1:] {
			assert.DeepEqual(t, want, n.content(t, zone, v.serial(zone)))
		}
		ours := dump(t, v, zone)
		assert.Equal(t, cmp.Diff(slices.Sorted(maps.Keys(ours)), slices.Sorted(maps.Keys(want))), "", zone)
	}
	// The whole zone where that is shorter, as most of it went, and to an NSD that asked thrice while the primary was
	// away: it asks for nothing else for two days (xfrd_disable_ixfr).
	t.Logf("since the primary's restart: %v", v.transfers.Counts())
	poll.WaitOn(t, func(poll.LogT) poll.Result { // each is asked, and may be busy
		status, err := v.Status(t.Context())
		switch behind := slices.IndexFunc(status.Secondaries, func(s nereid.CNSSecondary) bool { return s.Drift != 0 }); {
		case err != nil:
			return poll.Error(err)
		case len(status.Secondaries) != len(servers)*len(zones):
			return poll.Error(fmt.Errorf("%d secondaries", len(status.Secondaries)))
		case behind >= 0:
			return poll.Continue("%+v", status.Secondaries[behind])
		}
		return poll.Success()
	}, poll.WithTimeout(limit), poll.WithDelay(100*time.Millisecond))
	validated(t, v, servers[0])
}

func allCaughtUp(t *testing.T, v *service, servers []*nameserver, zones []string) {
	t.Helper()
	v.settle(t)
	for _, n := range servers {
		for _, zone := range zones {
			n.caughtUp(t, zone, v.serial(zone))
		}
	}
}

// goesOn asks as a secondary that has a zone as it was before the primary's restart: it gets what changed since, not the
// zone. The others are no witnesses of that: one that found nobody may ask for the whole zone.
func goesOn(t *testing.T, secret string, v *service, zone string, since uint32) {
	t.Helper()
	as := &dns.Transfer{TsigSecret: map[string]string{"xfer.": secret}, ReadTimeout: limit, DialTimeout: limit}
	m := new(dns.Msg).SetIxfr(zone, since, ".", ".").SetTsig("xfer.", dns.HmacSHA256, 300, time.Now().Unix())
	envelopes, err := as.In(m, v.addr.String())
	assert.NilError(t, err)
	var got []dns.RR
	for e := range envelopes {
		assert.NilError(t, e.Error, zone)
		got = append(got, e.RR...)
	}
	assert.Assert(t, len(got) > 2, "%s: %v", zone, got)
	from, ok := got[1].(*dns.SOA) // RFC 1995, section 4: the SOA that is, then the one that the changes begin with
	assert.Assert(t, ok && from.Serial == since, "%s since %d: %v", zone, since, got[:2])
	assert.Equal(t, got[0].(*dns.SOA).Serial, v.serial(zone))
}

// stop is the exit of a container.
func stop(t *testing.T, s *state.Store, i int) {
	t.Helper()
	commit(t, s, state.Put(fake(i, state.StatusExited)))
}

// dump is a zone as nereid cns dump has it.
func dump(t *testing.T, v *service, zone string) map[string]bool {
	t.Helper()
	var out strings.Builder
	assert.NilError(t, v.Dump(t.Context(), zone, func() io.Writer { return &out }))
	all := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		all[strings.ToLower(strings.Join(strings.Fields(line), " "))] = true
	}
	return all
}

// watchSerials looks at the serials that servers have until the function returned is called, which fails the test when
// one went back. NSD is not among them: its old processes may answer for a moment after a new one did.
func watchSerials(t *testing.T, servers map[string]netip.AddrPort, zones []string) (done func()) {
	t.Helper()
	end := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var faults []string
	seen := map[string]int{}
	for name, addr := range servers {
		wg.Go(func() {
			last := map[string]uint32{}
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-end:
					return
				case <-tick.C:
				}
				for _, z := range zones {
					now := serial(addr, z)
					if now == 0 || now == last[z] {
						continue
					}
					mu.Lock()
					seen[name+" "+z]++
					if last[z] != 0 && int32(now-last[z]) < 0 {
						faults = append(faults, fmt.Sprintf("%s: %s went from %d to %d", name, z, last[z], now))
					}
					mu.Unlock()
					last[z] = now
				}
			}
		})
	}
	stop := sync.OnceFunc(func() { close(end); wg.Wait() })
	t.Cleanup(stop)
	return func() {
		stop()
		assert.DeepEqual(t, faults, []string(nil))
		t.Logf("serials seen: %v", seen)
	}
}

// validated has delv prove answers of a secondary for the signed zone with the key's DS record.
func validated(t *testing.T, v *service, n *nameserver) {
	t.Helper()
	keys, err := v.Keys(t.Context(), signed)
	assert.NilError(t, err)
	ds := strings.Fields(keys[0].DS)[4:] // tag, algorithm, digest type, digest
	anchor := filepath.Join(t.TempDir(), "anchor")
	assert.NilError(t, os.WriteFile(anchor, fmt.Appendf(nil, "trust-anchors { %q static-ds %s %s %s %q; };", signed, ds[0], ds[1], ds[2], ds[3]), 0o600))
	for question, want := range map[string]string{
		"c800.inst.admin." + signed + " A":    "; fully validated",
		"web0.svc.admin." + signed + " SRV":   "; fully validated",
		"c800.inst.admin." + signed + " AAAA": "; negative response, fully validated",
		"c1.inst.admin." + signed + " A":      "; negative response, fully validated",
		"svc.admin." + signed + " A":          "; negative response, fully validated",
		"zzz." + signed + " TXT":              "; negative response, fully validated",
		signed + " DNSKEY":                    "; fully validated",
	} {
		for _, at := range []string{v.addr.String(), n.addr.String()} {
			host, port, _ := strings.Cut(at, ":")
			out := tryRun(t, "delv", append([]string{"@" + host, "-p", port, "-a", anchor, "+root=" + signed}, strings.Fields(question)...)...)
			assert.Assert(t, strings.Contains(out, want+"\n"), "%s at %s: %s", question, at, out)
		}
	}
}
