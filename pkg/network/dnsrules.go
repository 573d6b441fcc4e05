package network

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// dnsTable is our table in a container's namespace.
const dnsTable = "nereid-dns"

// redirectDNS runs in a container's namespace. It sends what the container asks 127.0.0.11:53 to the resolver's
// ports. The rule stands before any socket is looked for, so the container may run a DNS server of its own on every
// address. With again it takes the place of what an earlier run left; a deletion in a batch costs a wait of some ten
// milliseconds for all processors, so a new namespace goes without.
func redirectDNS(udp, tcp uint16, again bool) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	t := &nftables.Table{Name: dnsTable, Family: nftables.TableFamilyIPv4}
	conn.AddTable(t)
	if again {
		conn.DelTable(t)
		conn.AddTable(t)
	}
	chain := conn.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	addr := resolverAddr.As4()
	for proto, port := range map[byte]uint16{unix.IPPROTO_UDP: udp, unix.IPPROTO_TCP: tcp} {
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(
			loadDaddr(v4, 1), cmpData(expr.CmpOpEq, addr[:]...),
			loadProto(1), cmpData(expr.CmpOpEq, proto),
			loadDport(1), cmpData(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(53)...),
			[]expr.Any{
				&expr.Immediate{Register: 1, Data: addr[:]},
				&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
			},
		)})
	}
	return conn.Flush()
}
