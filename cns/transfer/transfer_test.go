package transfer_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/state"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.etcd.io/etcd/client/pkg/v3/logutil.(*MergeLogger).outputLoop"))
}

func open(t *testing.T, settings *state.Zone) (*state.Store, *primary) {
	t.Helper()
	s := openState(t)
	settings.Apex, settings.Kind = apex, state.ZoneInner
	commit(t, s, state.Create(settings))
	p := start(t, s, "", "127.0.0.1:0", nil)
	p.change(declare(nil))
	return s, p
}

func TestWhoMayTransfer(t *testing.T) {
	tests := []struct {
		name string
		zone state.Zone
		key  string
		want string // in the error; empty: may
	}{
		{"nobody by default", state.Zone{}, "", "bad xfr rcode: 5"},
		{"from an address on the list", state.Zone{Transfer: []string{"127.0.0.0/8"}}, "", ""},
		{"from another address", state.Zone{Transfer: []string{"10.0.0.0/8"}}, "", "bad xfr rcode: 5"},
		{"a secondary", state.Zone{Secondaries: []string{"127.0.0.1:5353"}}, "", ""},
		{"unsigned where a key is needed", state.Zone{Keys: []string{key}}, "", "bad xfr rcode: 5"},
		{"signed", state.Zone{Keys: []string{key}}, key, ""},
		{"signed from another address", state.Zone{Keys: []string{key}, Transfer: []string{"10.1.1.1"}}, key, "bad xfr rcode: 5"},
		{"signed with a key that is not the zone's", state.Zone{Keys: []string{"other."}}, key, "bad xfr rcode: 5"},
		{"signed with an unknown key", state.Zone{Keys: []string{key}}, "nobody.", "bad authentication"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, p := open(t, &tc.zone)
			lines, err := p.transferred(axfr(), tc.key)
			if tc.want != "" {
				assert.Assert(t, err != nil)
				assert.Equal(t, len(lines), 0)
				return
			}
			assert.NilError(t, err)
			assert.Equal(t, len(lines), 3, lines) // SOA NS SOA
		})
	}
}

func TestBadSignature(t *testing.T) {
	_, p := open(t, &state.Zone{Keys: []string{key}})
	q := axfr()
	q.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
	packed, _, err := dns.TsigGenerate(q, "d3Jvbmc=", "", false)
	assert.NilError(t, err)
	c, err := net.Dial("tcp", p.addr.String())
	assert.NilError(t, err)
	defer c.Close()
	assert.NilError(t, binary.Write(c, binary.BigEndian, uint16(len(packed))))
	_, err = c.Write(packed)
	assert.NilError(t, err)
	answer, err := (&dns.Conn{Conn: c}).ReadMsgHeader(nil)
	assert.NilError(t, err)
	m := new(dns.Msg)
	assert.NilError(t, m.Unpack(answer))
	assert.Equal(t, m.Rcode, dns.RcodeNotAuth)
	assert.Equal(t, m.IsTsig().Error, uint16(dns.RcodeBadSig))
	assert.Equal(t, m.IsTsig().MAC, "")
	assert.Equal(t, len(m.Answer), 0)
}

func TestWholeZone(t *testing.T) {
	for _, signed := range []bool{false, true} {
		t.Run(fmt.Sprint("signed ", signed), func(t *testing.T) {
			_, p := open(t, &state.Zone{Keys: []string{key}})
			if signed {
				p.change(declare(newSigner(t)))
			}
			p.change(func(e *zone.Edit) {
				for i := range 2000 {
					e.Add(host(i))
				}
			})
			lines, err := p.transferred(axfr(), key)
			assert.NilError(t, err)
			assert.Equal(t, lines[0], lines[len(lines)-1])
			assert.Assert(t, strings.Contains(lines[0], "SOA"), lines[0])
			n := 2000 + 2
			if signed {
				n += 3 + 2001 + 2000 + 2001 + 5 // keys, NSEC, signatures of addresses, of NSEC, and of what else is at the apex
			}
			assert.Equal(t, len(lines)-1, n)
			assert.Equal(t, len(content(p.Zones())), n)
		})
	}
}

// TestChanges: whoever applies the changes has the zone, from whatever serial.
func TestChanges(t *testing.T) {
	_, p := open(t, &state.Zone{Keys: []string{key}})
	p.change(func(e *zone.Edit) {
		for i := range 500 {
			e.Add(host(i))
		}
	})
	serials := []uint32{serialOf(t, p.Zones())}
	contents := map[uint32]map[string]bool{}
	note := func() {
		lines, err := p.transferred(axfr(), key)
		assert.NilError(t, err)
		s := serialOf(t, p.Zones())
		contents[s] = map[string]bool{}
		for _, l := range lines {
			contents[s][l] = true
		}
	}
	note()
	p.change(func(*zone.Edit) {}) // something elsewhere: this zone stays as it is at serials that others may give out
	for i := range 20 {
		p.change(func(e *zone.Edit) { e.Remove(host(i)); e.Add(host(1000 + i)); e.Add(host(2000 + i)) })
		serials = append(serials, serialOf(t, p.Zones()))
		note()
		p.change(func(*zone.Edit) {})
	}
	want := sorted(contents[serials[20]])
	for _, from := range serials[:20] {
		for _, given := range []uint32{from, from + 2} { // another host may have given the same content a later serial
			lines, err := p.transferred(ixfr(given), key)
			assert.NilError(t, err)
			got := map[string]bool{}
			for l := range contents[from] {
				got[strings.Replace(l, fmt.Sprint(" ", from, " "), fmt.Sprint(" ", given, " "), 1)] = true
			}
			apply(t, got, lines[:len(lines)-1])
			assert.DeepEqual(t, sorted(got), want)
		}
	}
	lines, err := p.transferred(ixfr(serials[20]), key)
	assert.NilError(t, err)
	assert.Equal(t, len(lines), 1, "nothing new is one SOA record")
	lines, err = p.transferred(ixfr(50), key) // not known any more: all of it (RFC 1995, section 4)
	assert.NilError(t, err)
	assert.Assert(t, len(lines) > 500)
	assert.Equal(t, p.Counts()["incremental"], uint64(40))
}

// apply brings an incremental answer into a zone (RFC 1995, section 4): after the newest SOA record, each change is the
// old one, what went, the new one, what came.
func apply(t *testing.T, zone map[string]bool, lines []string) {
	t.Helper()
	soas := 0
	for _, l := range lines[1:] {
		if strings.Contains(l, "IN SOA ") {
			soas++
		}
		if soas%2 == 1 {
			assert.Assert(t, zone[l], "removes what is not there: %s", l)
			delete(zone, l)
		} else {
			zone[l] = true
		}
	}
}

func TestIncrementalOverUDPIsTheSerialAlone(t *testing.T) {
	_, p := open(t, &state.Zone{Transfer: []string{"127.0.0.1"}})
	p.change(func(e *zone.Edit) { e.Add(host(1)) })
	c := &dns.Client{Timeout: time.Minute}
	m, _, err := c.Exchange(ixfr(103), p.addr.String())
	assert.NilError(t, err)
	assert.Equal(t, len(m.Answer), 1)
	m, _, err = c.Exchange(axfr(), p.addr.String())
	assert.NilError(t, err)
	assert.Equal(t, m.Rcode, dns.RcodeRefused)
}

func TestSignedQuestionsGetSignedAnswers(t *testing.T) {
	_, p := open(t, &state.Zone{})
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Client{Net: network, Timeout: time.Minute, TsigSecret: map[string]string{key: secret}}
		q := new(dns.Msg).SetQuestion(apex, dns.TypeSOA)
		q.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
		m, _, err := c.Exchange(q, p.addr.String())
		assert.NilError(t, err)
		assert.Assert(t, m.IsTsig() != nil)
		assert.Equal(t, len(m.Answer), 1)

		q = new(dns.Msg).SetQuestion(apex, dns.TypeSOA)
		q.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix()-3600)
		m, _, err = c.Exchange(q, p.addr.String())
		if err == nil {
			assert.Equal(t, m.Rcode, dns.RcodeNotAuth)
			assert.Equal(t, m.IsTsig().Error, uint16(dns.RcodeBadTime))
		}
	}
}

// TestHistoryOutlivesRestarts: after a restart, with changes before, meanwhile and after, a secondary goes on by changes.
func TestHistoryOutlivesRestarts(t *testing.T) {
	for _, torn := range []bool{false, true} {
		t.Run(fmt.Sprint("torn ", torn), func(t *testing.T) {
			s := openState(t)
			commit(t, s, state.Create(&state.Zone{Apex: apex, Kind: state.ZoneInner, Keys: []string{key}}))
			dir := t.TempDir()
			p := start(t, s, dir, "127.0.0.1:0", nil)
			p.change(declare(nil))
			p.change(func(e *zone.Edit) {
				for i := range 100 {
					e.Add(host(i))
				}
			})
			then, err := p.transferred(axfr(), key)
			assert.NilError(t, err)
			from := serialOf(t, p.Zones())
			for i := range 10 {
				p.change(func(e *zone.Edit) { e.Remove(host(i)); e.Add(host(300 + i)) })
			}
			p.stop()
			if torn { // the last block was being written when the power failed
				file := filepath.Join(dir, apex+"journal")
				info, err := os.Stat(file)
				assert.NilError(t, err)
				assert.NilError(t, os.Truncate(file, info.Size()-3))
			}

			again := start(t, s, dir, "127.0.0.1:0", nil)
			again.serial = p.serial + 50
			again.change(func(e *zone.Edit) {
				declare(nil)(e)
				for i := 20; i < 100; i++ { // 10 to 19 went meanwhile
					e.Add(host(i))
				}
				for i := range 10 {
					e.Add(host(300 + i))
				}
			})
			again.change(func(e *zone.Edit) { e.Add(host(999)) })
			lines, err := again.transferred(ixfr(from), key)
			assert.NilError(t, err)
			assert.Equal(t, again.Counts()["incremental"], uint64(1))
			got := map[string]bool{}
			for _, l := range then {
				got[l] = true
			}
			apply(t, got, lines[:len(lines)-1])
			now, err := again.transferred(axfr(), key)
			assert.NilError(t, err)
			want := map[string]bool{}
			for _, l := range now {
				want[l] = true
			}
			assert.DeepEqual(t, sorted(got), sorted(want))
		})
	}
}

// TestLostStateDoesNotTurnSerialsBack: with a state that begins anew, serials given out before are not given out again.
func TestLostStateDoesNotTurnSerialsBack(t *testing.T) {
	s := openState(t)
	commit(t, s, state.Create(&state.Zone{Apex: apex, Kind: state.ZoneInner, Keys: []string{key}}))
	dir := t.TempDir()
	p := start(t, s, dir, "127.0.0.1:0", nil)
	p.serial = 5000
	p.change(declare(nil))
	p.change(func(e *zone.Edit) { e.Add(host(1)) })
	given := serialOf(t, p.Zones())
	p.stop()

	var asked atomic.Uint32
	again := start(t, s, dir, "127.0.0.1:0", func(_ string, serial uint32) { asked.Store(serial) })
	again.change(declare(nil))
	assert.Equal(t, asked.Load(), given)
	_, err := again.transferred(axfr(), key)
	assert.ErrorContains(t, err, "rcode: 2")

	again.change(func(e *zone.Edit) {
		e.AddZone(zone.Authority{Apex: apex, Servers: []string{"ns." + apex}, Mailbox: "hostmaster." + apex, SerialBase: given})
		e.Add(host(2))
	})
	lines, err := again.transferred(ixfr(given), key)
	assert.NilError(t, err)
	assert.Assert(t, len(lines) > 3)
	assert.Equal(t, again.Counts()["incremental"], uint64(1))
}

// TestClientThatTakesNothingIsGivenUp: it holds a transfer up, and not for ever.
func TestClientThatTakesNothingIsGivenUp(t *testing.T) {
	_, p := open(t, &state.Zone{Transfer: []string{"127.0.0.1"}})
	p.change(func(e *zone.Edit) {
		for i := range 60_000 {
			e.Add(host(i))
		}
	})
	c, err := net.Dial("tcp", p.addr.String())
	assert.NilError(t, err)
	defer c.Close()
	conn := c.(*net.TCPConn)
	assert.NilError(t, conn.SetReadBuffer(4096))
	packed, err := axfr().Pack()
	assert.NilError(t, err)
	for range 40 { // enough to fill what the kernel buffers
		assert.NilError(t, binary.Write(c, binary.BigEndian, uint16(len(packed))))
		_, err = c.Write(packed)
		assert.NilError(t, err)
	}
	lines, err := p.transferred(axfr(), "") // others are served meanwhile
	assert.NilError(t, err)
	assert.Assert(t, len(lines) > 60_000)
	assert.NilError(t, c.SetReadDeadline(time.Now().Add(60*time.Second)))
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if _, err := c.Write([]byte{0}); err != nil { // the server has closed it
			return poll.Success()
		}
		return poll.Continue("still open")
	}, poll.WithTimeout(2*time.Minute), poll.WithDelay(200*time.Millisecond))
}

func TestDamagedJournalIsLeftAside(t *testing.T) {
	s := openState(t)
	commit(t, s, state.Create(&state.Zone{Apex: apex, Kind: state.ZoneInner, Keys: []string{key}}))
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, apex+"journal"), []byte("no journal at all, and long enough for a header"), 0o600))
	p := start(t, s, dir, "127.0.0.1:0", nil)
	p.change(declare(nil))
	_, err := p.transferred(axfr(), key)
	assert.NilError(t, err)
}

func TestInexactZonesAreNobodys(t *testing.T) {
	s := openState(t)
	commit(t, s, state.Create(&state.Zone{Apex: apex, Kind: state.ZoneInner, Transfer: []string{"127.0.0.1"}}))
	tr := transfer.New(transfer.Config{View: s.View(), Exact: func() bool { return false }})
	e := zone.New().Edit()
	declare(nil)(e)
	tr.Changed(e.Done(7), e.Diffs())
	w := &recorder{}
	tr.ServeTransfer(w, axfr())
	assert.Equal(t, w.m.Rcode, dns.RcodeServerFailure)
}

// recorder keeps the last answer.
type recorder struct {
	dns.ResponseWriter
	m *dns.Msg
}

func (r *recorder) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (r *recorder) TsigTimersOnly(bool) {}

func (r *recorder) WriteMsg(m *dns.Msg) error { r.m = m; return nil }

// TestSecondaryIsTold: NOTIFY comes after a change, signed, is sent again until acknowledged, and what the secondary has
// is known.
func TestSecondaryIsTold(t *testing.T) {
	s := openState(t)
	var notifies, drop atomic.Int32
	drop.Store(1)
	var has atomic.Uint32
	has.Store(1)
	secondary := answering(t, func(w dns.ResponseWriter, req *dns.Msg) {
		assert.Check(t, req.IsTsig() != nil && w.TsigStatus() == nil, "not signed well: %v", req)
		m := new(dns.Msg).SetReply(req)
		if req.Opcode == dns.OpcodeNotify {
			notifies.Add(1)
			if drop.Add(-1) >= 0 {
				return
			}
			has.Store(req.Answer[0].(*dns.SOA).Serial)
		} else {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 5 IN SOA a. b. %d 1 1 1 1", apex, has.Load()))
			m.Answer = append(m.Answer, rr)
		}
		m.SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
		assert.Check(t, w.WriteMsg(m))
	})
	commit(t, s, state.Create(&state.Zone{Apex: apex, Kind: state.ZoneInner, Secondaries: []string{secondary + "@" + key}}))
	p := start(t, s, "", "127.0.0.1:0", nil)
	p.change(declare(nil))
	behind := func(want bool) {
		t.Helper()
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			peers := p.Peers()
			if len(peers) == 1 && peers[0].Behind.IsZero() != want && (want || peers[0].Serial == serialOf(t, p.Zones())) {
				return poll.Success()
			}
			return poll.Continue("%+v", peers)
		}, poll.WithTimeout(time.Minute))
	}
	behind(false)
	assert.Assert(t, notifies.Load() >= 2)
	p.change(func(e *zone.Edit) { e.Add(host(1)) })
	behind(false)
	serial, err := p.Look(t.Context(), apex, p.Peers()[0].Secondary)
	assert.NilError(t, err)
	assert.Equal(t, serial, serialOf(t, p.Zones()))
}

// answering serves UDP until the test ends.
func answering(t *testing.T, h dns.HandlerFunc) (addr string) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	assert.NilError(t, err)
	srv := &dns.Server{PacketConn: c, Handler: h, TsigSecret: map[string]string{key: secret}, MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	t.Cleanup(func() { assert.Check(t, srv.Shutdown()); assert.Check(t, <-done) })
	return c.LocalAddr().String()
}

func TestParseSecondary(t *testing.T) {
	for _, c := range []struct{ in, addr, key, err string }{
		{in: "192.0.2.1", addr: "192.0.2.1:53"},
		{in: "192.0.2.1:5300@Xfer", addr: "192.0.2.1:5300", key: "xfer."},
		{in: "2001:db8::1@k", addr: "[2001:db8::1]:53", key: "k."},
		{in: "[2001:db8::1]:54", addr: "[2001:db8::1]:54"},
		{in: "ns1.example.com", err: "ADDR"}, {in: "192.0.2.1@", err: "no key"}, {in: "", err: "ADDR"},
	} {
		got, err := transfer.ParseSecondary(c.in)
		if c.err != "" {
			assert.Assert(t, is.ErrorContains(err, c.err))
			continue
		}
		assert.NilError(t, err)
		assert.Equal(t, got.Addr, netip.MustParseAddrPort(c.addr))
		assert.Equal(t, got.Key, c.key)
	}
}
