package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Config of a host's part of the fabric.
type Config struct {
	// Host names this daemon. The names of its links and its nftables table derive from it, so daemons of different
	// hosts may share a network namespace.
	Host nereid.Host
	// ExecRoot is the directory below which the containers' network namespaces are mounted, in "netns".
	ExecRoot string
	// Names answers the containers' questions for each other. Nil: nothing is known.
	Names Names
	// CNS answers for names below Zone. Nil: such questions are forwarded like any other.
	CNS  Authority
	Zone string
	// Advertise is the address at which other hosts reach this one. Others tells whether there are any; nil: none.
	Advertise netip.Addr
	Others    func() bool
	// ResolvConf is the host's resolver configuration; empty: /etc/resolv.conf. Read at each use.
	ResolvConf string
	Log        *zap.Logger
}

// Names knows the containers by name. Its methods are called at once for many containers, must not block, and answer
// for the networks that the asking container is on, and for no other.
type Names interface {
	// Addresses of a name without its final dot. Known but without an address of the family wanted is (none, true),
	// which becomes NODATA; unknown is (nil, false), which is asked of the upstream servers.
	Addresses(account nereid.Account, asker nereid.ContainerID, name string, six bool) ([]netip.Addr, bool)
	// Pointer is the name of an address, without a final dot.
	Pointer(account nereid.Account, asker nereid.ContainerID, addr netip.Addr) (string, bool)
}

// Authority answers DNS questions for a zone.
type Authority interface {
	// ServeDNS returns the whole answer to one question, or nil when it has none to give.
	ServeDNS(ctx context.Context, query *dns.Msg) *dns.Msg
}

func (c Config) validate() error {
	var errs []error
	if c.Host == "" {
		errs = append(errs, errors.New("network: Host is empty"))
	}
	if !filepath.IsAbs(c.ExecRoot) {
		errs = append(errs, fmt.Errorf("network: ExecRoot %q is not an absolute path", c.ExecRoot))
	}
	return errors.Join(errs...)
}
