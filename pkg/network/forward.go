package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

const (
	// upstreamTimeout is how long one server may take, as in Docker: below the five seconds after which glibc asks
	// again.
	upstreamTimeout = 4 * time.Second
	// maxUpstreams that are asked one after another, as in Docker and in glibc.
	maxUpstreams = 3
)

// forward asks the container's upstream servers in order. One that fails, refuses or is silent is passed over; if all
// are, the answer is SERVFAIL.
func (r *resolver) forward(ctx context.Context, query *dns.Msg) *dns.Msg {
	servers, inside := r.upstreams()
	key := r.cacheKey(query, servers, inside)
	if m := r.f.cache.get(key, time.Now()); m != nil {
		m.Id, m.Question, m.Response = query.Id, query.Question, true
		return m
	}
	for _, server := range servers {
		m, err := r.exchange(ctx, server, inside, query)
		if err != nil {
			r.log.Debug("upstream name server", zap.Stringer("server", server), zap.Error(err))
			continue
		}
		if m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused {
			continue
		}
		m.Compress = true
		r.f.cache.put(key, m, time.Now())
		return m
	}
	return failure(query)
}

// upstreams are the servers to ask, and whether from inside the container's namespace. Who has no way to the world gets
// none by asking the host: a question can carry data out.
func (r *resolver) upstreams() (servers []netip.AddrPort, inside bool) {
	servers, inside = r.sb.opts.Upstreams, true
	if servers == nil {
		servers, inside = hostUpstreams(r.f.cfg.ResolvConf), !r.sb.leadsOut.Load()
		if inside {
			servers = slices.DeleteFunc(servers, func(s netip.AddrPort) bool { return s.Addr().IsLoopback() })
		}
	}
	return servers[:min(len(servers), maxUpstreams)], inside
}

// exchange asks one server, over UDP first and over TCP when the answer does not fit.
func (r *resolver) exchange(ctx context.Context, server netip.AddrPort, inside bool, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	ask := query.Copy()
	ask.Id = dns.Id() // the container's own choice may be easy to guess
	m, err := r.exchangeOver(ctx, "udp", server, inside, ask)
	if err == nil && m.Truncated {
		m, err = r.exchangeOver(ctx, "tcp", server, inside, ask)
	}
	if err != nil {
		return nil, err
	}
	m.Id = query.Id
	return m, nil
}

func (r *resolver) exchangeOver(ctx context.Context, network string, server netip.AddrPort, inside bool, ask *dns.Msg) (*dns.Msg, error) {
	conn, err := r.dial(ctx, network, server, inside)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	client := &dns.Client{Net: network, Timeout: upstreamTimeout, UDPSize: maxMessage}
	m, _, err := client.ExchangeWithConnContext(ctx, ask, &dns.Conn{Conn: conn, UDPSize: maxMessage})
	if err != nil {
		return nil, err
	}
	if len(m.Question) != 1 || m.Question[0] != ask.Question[0] {
		return nil, fmt.Errorf("answer to another question: %v", m.Question)
	}
	return m, nil
}

// dial opens a socket in the container's namespace or the host's.
func (r *resolver) dial(ctx context.Context, network string, server netip.AddrPort, inside bool) (conn net.Conn, err error) {
	dial := func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, server.String())
		return err
	}
	if inside {
		return conn, inNetns(r.sb.ns, dial)
	}
	return conn, dial()
}
