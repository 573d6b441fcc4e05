package network

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The sets. Their ids only tell them apart within one batch.
const (
	setBridges   = "bridges"   // our bridges
	setInternal  = "internal"  // bridges of networks without a way out
	setSame      = "same"      // bridge . bridge: which may talk, each with itself
	setSubnets   = "subnets"   // sources to masquerade
	setOnLink    = "onlink"    // subnet . its bridge
	setHostPorts = "hostports" // protocol . address . port → container address . port
	setAnyPorts  = "anyports"  // protocol . port → container address . port, on every local address
)

var (
	ifnamePair = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
	addrIfname = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIFName)
	protoPort  = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	hostPort   = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeIPAddr, nftables.TypeInetService)
	addrPort   = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
)

// batch collects one change of the table.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	sets  map[string]*nftables.Set
	err   error // the first
}

func newBatch(conn *nftables.Conn, table string) *batch {
	b := &batch{conn: conn, table: &nftables.Table{Name: table, Family: nftables.TableFamilyINet}}
	b.sets = setsOf(b.table)
	return b
}

func setsOf(t *nftables.Table) map[string]*nftables.Set {
	list := []*nftables.Set{
		{Name: setBridges, KeyType: nftables.TypeIFName},
		{Name: setInternal, KeyType: nftables.TypeIFName},
		{Name: setSame, KeyType: ifnamePair, Concatenation: true},
		{Name: setSubnets, KeyType: nftables.TypeIPAddr, Interval: true},
		{Name: setOnLink, KeyType: addrIfname, Interval: true, Concatenation: true},
		{Name: setHostPorts, KeyType: hostPort, Concatenation: true, IsMap: true, DataType: addrPort},
		{Name: setAnyPorts, KeyType: protoPort, Concatenation: true, IsMap: true, DataType: addrPort},
	}
	sets := make(map[string]*nftables.Set, len(list))
	for i, s := range list {
		s.Table, s.ID = t, uint32(i+1)
		sets[s.Name] = s
	}
	return sets
}

// whole makes the table anew with these contents, in place of whatever is there.
func (b *batch) whole(r rules) {
	b.conn.AddTable(b.table) // or there would be nothing to delete
	b.conn.DelTable(b.table)
	b.conn.AddTable(b.table)
	for _, name := range []string{setBridges, setInternal, setSame, setSubnets, setOnLink, setHostPorts, setAnyPorts} {
		b.note(b.conn.AddSet(b.sets[name], nil))
	}
	b.chains()
	b.difference(newRules(), r)
}

func (b *batch) note(err error) {
	if b.err == nil {
		b.err = err
	}
}

// difference turns one content of the sets into another.
func (b *batch) difference(from, to rules) {
	del, add := elements{}, elements{}
	for name, z := range from.zones {
		if !z.equal(to.zones[name]) {
			del.zone(z)
		}
	}
	for name, z := range to.zones {
		if !z.equal(from.zones[name]) {
			add.zone(z)
		}
	}
	for k, v := range from.ports {
		if w, ok := to.ports[k]; !ok || w != v {
			del.port(k, v)
		}
	}
	for k, v := range to.ports {
		if w, ok := from.ports[k]; !ok || w != v {
			add.port(k, v)
		}
	}
	b.send(del, b.conn.SetDeleteElements)
	b.send(add, b.conn.SetAddElements)
}

func (z zone) equal(o zone) bool {
	return z.bridge == o.bridge && z.internal == o.internal && slices.Equal(z.subnets, o.subnets)
}

// elementsPerMessage keeps a message's list below the 64 KiB that the length of a netlink attribute can say. It is
// even, so that the two ends of an interval travel together.
const elementsPerMessage = 256

func (b *batch) send(e elements, do func(*nftables.Set, []nftables.SetElement) error) {
	for name, list := range e {
		for part := range slices.Chunk(list, elementsPerMessage) {
			b.note(do(b.sets[name], part))
		}
	}
}

// elements by the set they go into.
type elements map[string][]nftables.SetElement

func (e elements) add(set string, elem ...nftables.SetElement) { e[set] = append(e[set], elem...) }

func (e elements) zone(z zone) {
	name := ifname(z.bridge)
	e.add(setBridges, nftables.SetElement{Key: name})
	e.add(setSame, nftables.SetElement{Key: slices.Concat(name, name)})
	if z.internal {
		e.add(setInternal, nftables.SetElement{Key: name})
	}
	for _, p := range z.subnets {
		first, last := p.Addr().As4(), lastAddr(p).As4()
		e.add(setOnLink, nftables.SetElement{
			Key:    slices.Concat(first[:], name),
			KeyEnd: slices.Concat(last[:], name),
		})
		if z.internal {
			continue
		}
		e.add(setSubnets, nftables.SetElement{Key: first[:]})
		end := lastAddr(p).Next().As4()
		e.add(setSubnets, nftables.SetElement{Key: end[:], IntervalEnd: true})
	}
}

func (e elements) port(k portKey, to netip.AddrPort) {
	val := slices.Concat(to.Addr().AsSlice(), word16(to.Port()))
	key := []byte{k.proto, 0, 0, 0}
	if k.addr.IsUnspecified() {
		e.add(setAnyPorts, nftables.SetElement{Key: slices.Concat(key, word16(k.port)), Val: val})
		return
	}
	e.add(setHostPorts, nftables.SetElement{Key: slices.Concat(key, k.addr.AsSlice(), word16(k.port)), Val: val})
}

// word16 is a port in a field of a concatenation: four bytes.
func word16(v uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, v), 0, 0) }

// ifname is a link's name as a set has it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// chains are all there are, whatever the number of networks, containers and ports:
//
//	guard        what a container sends to 127.0.0.0/8 never reaches the host's loopback
//	publish      the destination of a published port becomes the container's
//	prerouting   … for what arrives, except at 127.0.0.0/8: that can only be forged
//	output       … for what the host's own processes send
//	postrouting  sources become the host's: out of our networks; from 127.0.0.1; and for a container that reached
//	             one of its own network through a published port, or the answer would not pass by us
//	forward      answers, the same network, published ports, and out; nothing else gets to a container. A chain can
//	             only refuse: what another table drops stays dropped whatever is accepted here.
func (b *batch) chains() {
	publish := b.conn.AddChain(&nftables.Chain{Name: "publish", Table: b.table})
	b.rule(publish, loadProto(1), loadDaddr(9), loadDport(10), mapTo(setHostPorts), dnat())
	b.rule(publish, loadProto(1), loadDport(9), mapTo(setAnyPorts), dnat())

	guard := b.base("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	b.rule(guard, iifname(1), in(setBridges), isIPv4(), loopback(daddrOffset, expr.CmpOpEq), verdict(expr.VerdictDrop))

	pre := b.base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	b.rule(pre, isIPv4(), loopback(daddrOffset, expr.CmpOpNeq), toLocal(), jump("publish"))

	out := b.base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	b.rule(out, isIPv4(), toLocal(), jump("publish"))

	post := b.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	b.rule(post, isIPv4(), loadSaddr(1), in(setSubnets), oifname(1), notIn(setBridges), masquerade())
	b.rule(post, isDNAT(), isIPv4(), loadSaddr(1), oifname(9), in(setOnLink), masquerade())
	b.rule(post, isIPv4(), loopback(saddrOffset, expr.CmpOpEq), oifname(1), in(setBridges), masquerade())

	fwd := b.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	b.rule(fwd, ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
	b.rule(fwd, iifname(1), oifname(2), in(setSame), verdict(expr.VerdictAccept))
	b.rule(fwd, iifname(1), in(setInternal), verdict(expr.VerdictDrop))
	b.rule(fwd, isDNAT(), verdict(expr.VerdictAccept))
	b.rule(fwd, oifname(1), in(setBridges), verdict(expr.VerdictDrop))
}

func (b *batch) base(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return b.conn.AddChain(&nftables.Chain{
		Name: name, Table: b.table, Type: typ, Hooknum: hook, Priority: prio, Policy: &accept,
	})
}

func (b *batch) rule(c *nftables.Chain, parts ...[]expr.Any) {
	exprs := slices.Concat(parts...)
	for _, e := range exprs {
		if l, ok := e.(*expr.Lookup); ok {
			l.SetID = b.sets[l.SetName].ID
		}
	}
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: exprs})
}

// What follows are the expressions of the rules. Register 1 is four words, 8 to 11 when counted as words; 2 begins at
// word 12. Concatenations are read from words in a row.

const (
	saddrOffset = 12 // in the IPv4 header
	daddrOffset = 16
)

func loadSaddr(reg uint32) []expr.Any { return network(saddrOffset, 4, reg) }
func loadDaddr(reg uint32) []expr.Any { return network(daddrOffset, 4, reg) }

func network(offset, length, reg uint32) []expr.Any {
	return []expr.Any{&expr.Payload{
		Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length, DestRegister: reg,
	}}
}

func loadDport(reg uint32) []expr.Any {
	return []expr.Any{&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: reg}}
}

func meta(key expr.MetaKey, reg uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: reg}}
}

func loadProto(reg uint32) []expr.Any { return meta(expr.MetaKeyL4PROTO, reg) }
func iifname(reg uint32) []expr.Any   { return meta(expr.MetaKeyIIFNAME, reg) }
func oifname(reg uint32) []expr.Any   { return meta(expr.MetaKeyOIFNAME, reg) }

func in(set string) []expr.Any { return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set}} }
func notIn(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set, Invert: true}}
}

// mapTo replaces the key in register 1 by what the map has for it.
func mapTo(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set}}
}

// dnat takes the address from word 8 and the port from word 9.
func dnat() []expr.Any {
	return []expr.Any{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: unix.NFT_REG32_01,
	}}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func cmpData(op expr.CmpOp, data ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: op, Register: 1, Data: data}}
}

func isIPv4() []expr.Any {
	return slices.Concat(meta(expr.MetaKeyNFPROTO, 1), cmpData(expr.CmpOpEq, unix.NFPROTO_IPV4))
}

// loopback compares the first byte of an address with 127.
func loopback(offset uint32, op expr.CmpOp) []expr.Any {
	return slices.Concat(network(offset, 1, 1), cmpData(op, 127))
}

// toLocal: the destination is an address of this host, whichever.
func toLocal() []expr.Any {
	return slices.Concat(
		[]expr.Any{&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}},
		cmpData(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)...),
	)
}

// ctBits: any of the bits is set in a field of the packet's connection.
func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	zero := []byte{0, 0, 0, 0}
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: zero},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: zero},
	}
}

func ctState(bits uint32) []expr.Any { return ctBits(expr.CtKeySTATE, bits) }

// ipsDstNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h: the destination was translated.
const ipsDstNAT = 1 << 5

func isDNAT() []expr.Any { return ctBits(expr.CtKeySTATUS, ipsDstNAT) }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}
