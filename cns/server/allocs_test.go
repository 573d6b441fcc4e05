package server_test

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/nereid-paas/nereid/integration/allocs"
)

func TestAllocations(t *testing.T) {
	s, _ := start(t, example())
	ask := func(name string) func() {
		q := question(name, dns.TypeA)
		return func() { s.Answer(t.Context(), q) }
	}
	allocs.Check(t,
		allocs.Path{Name: "an address", Do: ask("web.svc.admin." + apex)},
		allocs.Path{Name: "a name that is not there", Do: ask("nope." + apex)},
		allocs.Path{Name: "a service of 200", Do: ask("big.svc.admin." + apex)},
	)
}
