package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/cns/server"
)

// startWith serves the example with a configuration until the test ends.
func startWith(t *testing.T, cfg server.Config) []net.Addr {
	t.Helper()
	cfg.Listen = []string{"127.0.0.1:0"}
	s := server.New(fixed{example()}, cfg, zap.NewNop())
	assert.NilError(t, s.Listen(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.Check(t, <-done) })
	return s.Addrs()
}

// flood sends questions that each have an answer of their own kind or none, and returns what came, by whether it was cut,
// and how long it took until the last came.
func flood(t *testing.T, addr string, n int, question func(i int) *dns.Msg) (whole, cut int, took time.Duration) {
	t.Helper()
	begin := time.Now()
	c, err := net.Dial("udp", addr)
	assert.NilError(t, err)
	defer c.Close()
	buf := make([]byte, 4096)
	read := func(wait time.Duration) bool {
		assert.NilError(t, c.SetReadDeadline(time.Now().Add(wait)))
		n, err := c.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		assert.NilError(t, err)
		took = time.Since(begin)
		m := new(dns.Msg)
		assert.NilError(t, m.Unpack(buf[:n]))
		if m.Id == 0xffff {
			return false
		}
		if m.Truncated {
			assert.Equal(t, len(m.Answer), 0)
			cut++
		} else {
			whole++
		}
		return true
	}
	for i := range n {
		m := question(i)
		m.Id = uint16(i)
		p, err := m.Pack()
		assert.NilError(t, err)
		_, err = c.Write(p)
		assert.NilError(t, err)
		for i%16 == 0 && read(time.Millisecond) { // what is sent too fast is lost
		}
	}
	for read(2 * time.Second) { // the server of a busy machine pauses
	}
	return whole, cut, took
}

func TestEqualAnswersAreRationed(t *testing.T) {
	web := func(int) *dns.Msg { return question("web.svc.admin."+apex, dns.TypeA) }
	nsid := func(i int) *dns.Msg {
		m := web(i)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}}
		return m
	}
	nobody := func(i int) *dns.Msg { return question(strings.Repeat("x", 1+i%60)+".svc.admin."+apex, dns.TypeA) }
	for name, questions := range map[string]func(int) *dns.Msg{"plain": web, "with options": nsid, "names that are not there": nobody} {
		t.Run(name, func(t *testing.T) {
			addr := startWith(t, server.Config{NSID: "h1", Limits: server.Limits{Responses: 50, Slip: 2}})[0].String()
			whole, cut, took := flood(t, addr, 400, questions)
			most := 51 + int(50*took.Seconds())
			assert.Assert(t, whole >= 50 && whole <= most, "%d whole, not 50 to %d; %d cut", whole, most, cut)
			assert.Assert(t, cut >= (400-most)/2-20 && cut <= 175, "%d cut, %d whole", cut, whole)
			assert.Equal(t, ask(t, "tcp", addr, questions(0)).Truncated, false)
			other := ask(t, "udp", addr, question("3.2.1.10.in-addr.arpa.", dns.TypePTR))
			assert.Equal(t, len(other.Answer), 1, "other answers are given")
		})
	}
	t.Run("exempt", func(t *testing.T) {
		l := server.DefaultLimits()
		l.Responses = 1
		whole, cut, _ := flood(t, startWith(t, server.Config{Limits: l})[0].String(), 100, web)
		assert.Assert(t, whole == 100 && cut == 0, "%d whole, %d cut", whole, cut)
	})
}

func TestQuestionsAreRationed(t *testing.T) {
	addr := startWith(t, server.Config{Limits: server.Limits{Queries: 20}})[0].String()
	whole, cut, took := flood(t, addr, 200, func(i int) *dns.Msg { return question(strings.Repeat("x", 1+i%60)+"."+apex, dns.TypeA) })
	most := 21 + int(20*took.Seconds())
	assert.Assert(t, whole >= 20 && whole <= most && cut == 0, "%d whole, %d cut", whole, cut)
	c, err := dns.Dial("tcp", addr)
	assert.NilError(t, err)
	defer c.Close()
	for err == nil { // until the connection ends
		if err = c.WriteMsg(question(apex, dns.TypeSOA)); err == nil {
			_, err = c.ReadMsg()
		}
	}
	assert.Assert(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset") || strings.Contains(err.Error(), "pipe"), err)
}

func TestConnectionsOfOneNetwork(t *testing.T) {
	addr := startWith(t, server.Config{Limits: server.Limits{Connections: 3}})[0].String()
	var open []*dns.Conn
	for range 3 {
		c, err := dns.Dial("tcp", addr)
		assert.NilError(t, err)
		defer c.Close()
		assert.NilError(t, c.WriteMsg(question(apex, dns.TypeSOA)))
		_, err = c.ReadMsg()
		assert.NilError(t, err)
		open = append(open, c)
	}
	asks := func() bool { // whether it is answered
		c := &dns.Client{Net: "tcp", Timeout: 30 * time.Second}
		m, _, err := c.ExchangeContext(t.Context(), question(apex, dns.TypeSOA), addr)
		return err == nil && len(m.Answer) == 1
	}
	assert.Assert(t, !asks(), "a fourth is closed")
	assert.NilError(t, open[0].Close())
	poll.WaitOn(t, func(poll.LogT) poll.Result { // the server learns of it
		if asks() {
			return poll.Success()
		}
		return poll.Continue("no answer on a connection in the place of the one that was closed")
	}, poll.WithTimeout(30*time.Second))
}

func TestNSID(t *testing.T) {
	addr := startWith(t, server.Config{NSID: "host-1"})[0].String()
	for _, network := range []string{"udp", "tcp"} {
		m := question(apex, dns.TypeSOA)
		m.SetEdns0(1232, false)
		assert.Equal(t, len(ask(t, network, addr, m).IsEdns0().Option), 0, "who does not ask is told nothing")
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID}}
		got := ask(t, network, addr, m).IsEdns0().Option
		assert.Equal(t, len(got), 1)
		assert.Equal(t, got[0].(*dns.EDNS0_NSID).Nsid, hex.EncodeToString([]byte("host-1")))
	}
	if _, err := exec.LookPath("dig"); err == nil {
		host, port, _ := net.SplitHostPort(addr)
		out, err := exec.CommandContext(t.Context(), "dig", "@"+host, "-p", port, "+nsid", apex, "SOA").CombinedOutput()
		assert.NilError(t, err)
		assert.Assert(t, strings.Contains(string(out), `("host-1")`), string(out))
	}
}

// certificate writes a key pair for 127.0.0.1 and returns its pool.
func certificate(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	assert.NilError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	assert.NilError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	assert.NilError(t, err)
	var b bytes.Buffer
	assert.NilError(t, pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "key"), b.Bytes(), 0o600))
	b.Reset()
	assert.NilError(t, pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "cert"), b.Bytes(), 0o600))
	pool := x509.NewCertPool()
	assert.Assert(t, pool.AppendCertsFromPEM(b.Bytes()))
	return pool
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir, "ns.example")
	files := &server.Certificate{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key")}
	addrs := startWith(t, server.Config{ListenTLS: []string{"127.0.0.1:0"}, Certificate: files})
	addr := addrs[1].String()
	exchange := func(pool *x509.CertPool) (*dns.Msg, error) {
		c := &dns.Client{Net: "tcp-tls", Timeout: time.Minute, TLSConfig: &tls.Config{RootCAs: pool, NextProtos: []string{"dot"}}}
		m, _, err := c.ExchangeContext(t.Context(), question("big.svc.admin."+apex, dns.TypeA), addr)
		return m, err
	}
	m, err := exchange(pool)
	assert.NilError(t, err)
	assert.Equal(t, len(m.Answer), 200)

	slow, err := net.Dial("tcp", addr) // one that never shakes hands
	assert.NilError(t, err)
	defer slow.Close()

	if kdig, err := exec.LookPath("kdig"); err == nil {
		host, port, _ := net.SplitHostPort(addr)
		out, err := exec.CommandContext(t.Context(), kdig, "@"+host, "-p", port, "+tls-ca="+files.CertFile, "+tls-hostname=ns.example",
			"web.svc.admin."+apex, "A").CombinedOutput()
		assert.NilError(t, err, string(out))
		assert.Assert(t, strings.Contains(string(out), ";; TLS session (TLS1.3)") && strings.Contains(string(out), "10.1.2.3"), string(out))
	}

	fresh := certificate(t, dir, "ns.example") // renewed
	past := time.Now().Add(-time.Hour)
	assert.NilError(t, os.Chtimes(files.CertFile, past, past)) // another time than the first had, whatever the file system's grain
	_, err = exchange(pool)
	assert.Assert(t, err != nil, "the old one is not shown any more")
	_, err = exchange(fresh)
	assert.NilError(t, err)
	assert.NilError(t, os.Remove(files.CertFile))
	_, err = exchange(fresh)
	assert.NilError(t, err, "the one that was read goes on")
}

func TestTLSWithoutCertificate(t *testing.T) {
	s := server.New(fixed{example()}, server.Config{ListenTLS: []string{"127.0.0.1:0"}, Certificate: &server.Certificate{CertFile: "/nowhere", KeyFile: "/nowhere"}}, zap.NewNop())
	assert.ErrorContains(t, s.Listen(t.Context()), "/nowhere")
}

func TestDefaultLimitsAreForOutsiders(t *testing.T) {
	exempt := func(a string) bool {
		for _, p := range server.DefaultLimits().Exempt {
			if p.Contains(netip.MustParseAddr(a)) {
				return true
			}
		}
		return false
	}
	for a, want := range map[string]bool{"127.0.0.1": true, "10.128.3.4": true, "::1": true, "fd00::1": true, "192.0.2.1": false, "2001:db8::1": false} {
		assert.Equal(t, exempt(a), want, a)
	}
}
