package publish_test

import (
	"context"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/server"
	"github.com/nereid-paas/nereid/pkg/state"
)

// TestFromStateToWire: a container that starts is resolvable, one that ends is not, for a client that asks over UDP.
func TestFromStateToWire(t *testing.T) {
	s := openState(t)
	p, err := publish.New(s, publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal"})
	assert.NilError(t, err)
	background(t, p.Run, nil)
	srv := server.New(p, server.Config{Listen: []string{"127.0.0.1:0"}}, zap.NewNop())
	assert.NilError(t, srv.Listen(t.Context()))
	background(t, srv.Run, nil)
	ask := func(name string, qtype uint16, rcode int, answers int) {
		t.Helper()
		c := &dns.Client{Timeout: time.Second}
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			m, _, err := c.ExchangeContext(context.Background(), new(dns.Msg).SetQuestion(name, qtype), srv.Addrs()[0].String())
			if err == nil && m.Rcode == rcode && len(m.Answer) == answers {
				return poll.Success()
			}
			return poll.Continue("%s: %v, %v", name, err, m)
		}, poll.WithTimeout(time.Minute), poll.WithDelay(time.Millisecond))
	}

	c := web(func(*state.Container) {})
	commit(t, s, state.Create(bridge()), state.Create(c))
	ask("web.svc.admin."+apex, dns.TypeA, dns.RcodeSuccess, 1)
	ask("web.svc.admin."+apex, dns.TypeAAAA, dns.RcodeSuccess, 0)
	ask("3.2.1.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, 1)

	c.State.Status = state.StatusExited
	commit(t, s, state.Update(c))
	ask("web.svc.admin."+apex, dns.TypeA, dns.RcodeNameError, 0)
	ask("web.inst.admin."+apex, dns.TypeA, dns.RcodeNameError, 0)
	ask("3.2.1.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, 0)
}
