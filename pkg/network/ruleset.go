package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// v4 and v6 count the address families; sets that come in both have an element type each.
const (
	v4 = 0
	v6 = 1
)

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return v4
	}
	return v6
}

// The sets. Those with a family's number at the end are one per family. Their ids only tell them apart within one batch.
const (
	setBridges   = "bridges"   // our bridges
	setInternal  = "internal"  // bridges of networks without a way out
	setMayTalk   = "maytalk"   // interface . bridge: from where all is let in, above all from itself
	setSubnets   = "subnets"   // sources to masquerade
	setSources   = "sources"   // sources → what they become
	setOnLink    = "onlink"    // subnet . its bridge
	setOpen      = "open"      // bridges that are reached at all ports
	setRouted    = "routed"    // bridges whose published ports are reached at the containers' addresses
	setDirect    = "direct"    // protocol . container address . port of those
	setHostPorts = "hostports" // protocol . address . port → container address . port
	setAnyPorts  = "anyports"  // protocol . port → container address . port, on every local address
	setMeshPorts = "meshports" // protocol . port → another host's address . port, likewise
	setMesh      = "mesh"      // protocol . another host's address . port
)

// of is the name of a set of one family.
func of(set string, family int) string { return set + [2]string{"4", "6"}[family] }

// addrTypes of the families.
var addrTypes = [2]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}

var (
	ifnamePair = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
	protoPort  = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
)

// batch collects one change of the table.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	sets  map[string]*nftables.Set
	hosts string // the link to the other hosts, for this one's own processes
	err   error  // the first
}

func newBatch(conn *nftables.Conn, names naming) *batch {
	b := &batch{conn: conn, table: &nftables.Table{Name: names.table(), Family: nftables.TableFamilyINet}, hosts: names.hostLink()}
	b.sets = setsOf(b.table)
	return b
}

func setsOf(t *nftables.Table) map[string]*nftables.Set {
	list := allSets()
	sets := make(map[string]*nftables.Set, len(list))
	for i, s := range list {
		s.Table, s.ID = t, uint32(i+1)
		sets[s.Name] = s
	}
	return sets
}

// allSets are the sets without table and id, always in the same order.
func allSets() []*nftables.Set {
	list := []*nftables.Set{
		{Name: setBridges, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian},
		{Name: setInternal, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian},
		{Name: setMayTalk, KeyType: ifnamePair, Concatenation: true},
	}
	for family, addr := range addrTypes {
		hostPort := nftables.MustConcatSetType(nftables.TypeInetProto, addr, nftables.TypeInetService)
		addrPort := nftables.MustConcatSetType(addr, nftables.TypeInetService)
		onLink := nftables.MustConcatSetType(addr, nftables.TypeIFName)
		list = append(list,
			&nftables.Set{Name: of(setSubnets, family), KeyType: addr, Interval: true},
			&nftables.Set{Name: of(setSources, family), KeyType: addr, Interval: true, IsMap: true, DataType: addr},
			&nftables.Set{Name: of(setOnLink, family), KeyType: onLink, Interval: true, Concatenation: true},
			&nftables.Set{Name: of(setOpen, family), KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian},
			&nftables.Set{Name: of(setRouted, family), KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian},
			&nftables.Set{Name: of(setDirect, family), KeyType: hostPort, Concatenation: true},
			&nftables.Set{Name: of(setHostPorts, family), KeyType: hostPort, Concatenation: true, IsMap: true, DataType: addrPort},
			&nftables.Set{Name: of(setAnyPorts, family), KeyType: protoPort, Concatenation: true, IsMap: true, DataType: addrPort},
			&nftables.Set{Name: of(setMeshPorts, family), KeyType: protoPort, Concatenation: true, IsMap: true, DataType: addrPort},
			&nftables.Set{Name: of(setMesh, family), KeyType: hostPort, Concatenation: true},
		)
	}
	return list
}

// whole makes the table anew with these contents, in place of whatever is there.
func (b *batch) whole(r rules) {
	b.conn.AddTable(b.table) // or there would be nothing to delete
	b.conn.DelTable(b.table)
	b.conn.AddTable(b.table)
	for _, s := range allSets() {
		b.note(b.conn.AddSet(b.sets[s.Name], nil))
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
	missing(from.ports, to.ports, del.port)
	missing(to.ports, from.ports, add.port)
	missing(from.mesh, to.mesh, del.meshPort)
	missing(to.mesh, from.mesh, add.meshPort)
	b.send(del, b.conn.SetDeleteElements)
	b.send(add, b.conn.SetAddElements)
}

// missing calls do with what one map has, and another has not or otherwise.
func missing(of, in map[portKey]netip.AddrPort, do func(portKey, netip.AddrPort)) {
	for k, v := range of {
		if w, ok := in[k]; !ok || w != v {
			do(k, v)
		}
	}
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
	if z.icc {
		e.add(setMayTalk, nftables.SetElement{Key: slices.Concat(name, name)})
	}
	for _, t := range z.trusted {
		e.add(setMayTalk, nftables.SetElement{Key: slices.Concat(ifname(t), name)})
	}
	if z.internal {
		e.add(setInternal, nftables.SetElement{Key: name})
	}
	for family, s := range z.sides {
		e.side(family, name, s)
	}
}

func (e elements) side(family int, bridge []byte, s side) {
	if s.open {
		e.add(of(setOpen, family), nftables.SetElement{Key: bridge})
	}
	if s.routed {
		e.add(of(setRouted, family), nftables.SetElement{Key: bridge})
	}
	for _, p := range s.subnets {
		first, last := p.Addr().AsSlice(), lastAddr(p).AsSlice()
		e.add(of(setOnLink, family), nftables.SetElement{Key: slices.Concat(first, bridge), KeyEnd: slices.Concat(last, bridge)})
		if !s.masquerade {
			continue
		}
		end := nftables.SetElement{Key: lastAddr(p).Next().AsSlice(), IntervalEnd: true}
		if s.source.IsValid() {
			e.add(of(setSources, family), nftables.SetElement{Key: first, Val: s.source.AsSlice()}, end)
			continue
		}
		e.add(of(setSubnets, family), nftables.SetElement{Key: first}, end)
	}
}

func (e elements) port(k portKey, to netip.AddrPort) {
	family := familyOf(k.addr)
	val := slices.Concat(to.Addr().AsSlice(), word16(to.Port()))
	key := []byte{k.proto, 0, 0, 0}
	switch {
	case k.direct():
		e.add(of(setDirect, family), nftables.SetElement{Key: slices.Concat(key, val)})
	case k.addr.IsUnspecified():
		e.add(of(setAnyPorts, family), nftables.SetElement{Key: slices.Concat(key, word16(k.port)), Val: val})
	default:
		e.add(of(setHostPorts, family), nftables.SetElement{Key: slices.Concat(key, k.addr.AsSlice(), word16(k.port)), Val: val})
	}
}

func (e elements) meshPort(k portKey, to netip.AddrPort) {
	family, proto := familyOf(k.addr), []byte{k.proto, 0, 0, 0}
	val := slices.Concat(to.Addr().AsSlice(), word16(to.Port()))
	e.add(of(setMeshPorts, family), nftables.SetElement{Key: slices.Concat(proto, word16(k.port)), Val: val})
	e.add(of(setMesh, family), nftables.SetElement{Key: slices.Concat(proto, val)})
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
//	guard        what a container sends to 127.0.0.0/8 never reaches the host's loopback, nor do frames that it forges
//	             reach a network of this host (forward: of another)
//	publish      the destination of a published port becomes the container's; one chain per family
//	carry        … of a port that a container of another host has published, that host's: not from loopback addresses,
//	             whose answers the kernel would not let in
//	prerouting   … for what arrives, except at the loopback's addresses: that can only be forged
//	output       … for what the host's own processes send, except to ::1, from which nothing can be routed. Nor can what
//	             is sent from a link-local address of IPv6: to such clients the daemon answers
//	postrouting  sources become the host's: out of our networks; from 127.0.0.1; and for what is carried to another host,
//	             or a container that reached one of its own network through a published port: the answer must pass by us.
//	             To a container, another host's processes are the gateway, as this one's are
//	forward      answers, other hosts' processes, the same network, published ports, and out; nothing else gets to a
//	             container, here or elsewhere. A chain can only refuse: what another table drops stays dropped whatever
//	             is accepted here.
func (b *batch) chains() {
	publish, carry := [2]*nftables.Chain{}, [2]*nftables.Chain{}
	for family := range addrTypes {
		c := b.conn.AddChain(&nftables.Chain{Name: of("publish", family), Table: b.table})
		words := addrWords(family)
		b.rule(c, loadProto(1), loadDaddr(family, 9), loadDport(9+words), mapTo(of(setHostPorts, family)), dnat(family))
		b.rule(c, loadProto(1), loadDport(9), mapTo(of(setAnyPorts, family)), dnat(family))
		publish[family] = c
		carry[family] = b.conn.AddChain(&nftables.Chain{Name: of("carry", family), Table: b.table})
		b.rule(carry[family], loadProto(1), loadDport(9), mapTo(of(setMeshPorts, family)), dnat(family))
	}

	guard := b.base("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	b.rule(guard, iifname(1), in(setBridges), is(v4), loopback(daddrOffset, expr.CmpOpEq), verdict(expr.VerdictDrop))
	b.rule(guard, iifname(1), in(setBridges), toLocal(), isFrame(), verdict(expr.VerdictDrop))

	pre := b.base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	b.rule(pre, is(v4), loopback(daddrOffset, expr.CmpOpNeq), toLocal(), jump(publish[v4].Name))
	b.rule(pre, is(v6), notNear6(), toLocal(), jump(publish[v6].Name))
	b.rule(pre, is(v4), loopback(daddrOffset, expr.CmpOpNeq), toLocal(), jump(carry[v4].Name))
	b.rule(pre, is(v6), notNear6(), toLocal(), jump(carry[v6].Name))

	out := b.base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	b.rule(out, is(v4), toLocal(), jump(publish[v4].Name))
	b.rule(out, is(v6), notNear6(), notLoopback6(), toLocal(), jump(publish[v6].Name))
	b.rule(out, is(v4), loopback(daddrOffset, expr.CmpOpNeq), toLocal(), jump(carry[v4].Name))
	b.rule(out, is(v6), notNear6(), notLoopback6(), toLocal(), jump(carry[v6].Name))

	b.sourceChain()
	b.forwardChain()
}

func (b *batch) sourceChain() {
	post := b.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	b.rule(post, isLink(oifname, b.hosts), masquerade())
	for family := range addrTypes {
		b.rule(post, is(family), fromHost(family), oifname(1), in(setBridges), masquerade())
		b.rule(post, is(family), loadSaddr(family, 1), in(of(setSubnets, family)), oifname(1), notIn(setBridges), masquerade())
		b.rule(post, is(family), oifname(1), notIn(setBridges), loadSaddr(family, 1), mapTo(of(setSources, family)), snat(family))
		b.rule(post, isDNAT(), is(family), loadSaddr(family, 1), oifname(8+addrWords(family)), in(of(setOnLink, family)), masquerade())
		b.rule(post, isDNAT(), is(family), loadProto(1), loadDaddr(family, 9), loadDport(9+addrWords(family)), in(of(setMesh, family)), masquerade())
	}
	b.rule(post, is(v4), loopback(saddrOffset, expr.CmpOpEq), oifname(1), in(setBridges), masquerade())
}

func (b *batch) forwardChain() {
	fwd := b.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	b.rule(fwd, iifname(1), in(setBridges), oifname(1), notIn(setBridges), isFrame(), drop)
	b.rule(fwd, ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
	b.rule(fwd, isLink(iifname, b.hosts), oifname(1), in(setBridges), accept)
	b.rule(fwd, isLink(iifname, b.hosts), drop)
	b.rule(fwd, isLink(oifname, b.hosts), drop)
	b.rule(fwd, iifname(1), oifname(2), in(setMayTalk), accept)
	b.rule(fwd, iifname(1), in(setInternal), drop)
	b.rule(fwd, oifname(1), in(setInternal), drop)
	b.rule(fwd, isDNAT(), accept)
	for family := range addrTypes {
		b.rule(fwd, is(family), oifname(1), in(of(setOpen, family)), iifname(1), notIn(setBridges), accept)
		b.rule(fwd, is(family), loadProto(1), loadDaddr(family, 9), loadDport(9+addrWords(family)), in(of(setDirect, family)), accept)
		b.rule(fwd, is(family), oifname(1), in(of(setRouted, family)), protoIs(echoProtocols[family]), accept)
	}
	b.rule(fwd, oifname(1), in(setBridges), drop)
}

// echoProtocols carry ping, and what routers have to say.
var echoProtocols = [2]byte{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6}

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
// word 12. Concatenations are read from words in a row; an IPv6 address has four.

const (
	saddrOffset  = 12 // in the IPv4 header
	daddrOffset  = 16
	saddrOffset6 = 8 // in the IPv6 header
	daddrOffset6 = 24
)

func addrWords(family int) uint32 { return [2]uint32{1, 4}[family] }

func loadSaddr(family int, reg uint32) []expr.Any {
	return network([2]uint32{saddrOffset, saddrOffset6}[family], 4*addrWords(family), reg)
}

func loadDaddr(family int, reg uint32) []expr.Any {
	return network([2]uint32{daddrOffset, daddrOffset6}[family], 4*addrWords(family), reg)
}

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

// isLink: the link by which the packet comes or goes is this one.
func isLink(by func(reg uint32) []expr.Any, name string) []expr.Any {
	return slices.Concat(by(1), cmpData(expr.CmpOpEq, ifname(name)...))
}

// fromHost: the source is the address of a host on the link between hosts.
func fromHost(family int) []expr.Any {
	p := fabricPrefixes[family]
	mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	return slices.Concat(loadSaddr(family, 1), []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))},
	}, cmpData(expr.CmpOpEq, p.Addr().AsSlice()...))
}

func in(set string) []expr.Any { return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set}} }
func notIn(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set, Invert: true}}
}

// mapTo replaces the key in register 1 by what the map has for it.
func mapTo(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set}}
}

// nfproto of the families.
var nfproto = [2]byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}

// dnat takes the address from word 8 and the port from the word after it.
func dnat(family int) []expr.Any {
	return []expr.Any{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(nfproto[family]), RegAddrMin: 1, RegProtoMin: 8 + addrWords(family),
	}}
}

// snat takes the address from register 1.
func snat(family int) []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(nfproto[family]), RegAddrMin: 1}}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func cmpData(op expr.CmpOp, data ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: op, Register: 1, Data: data}}
}

// is of a family.
func is(family int) []expr.Any {
	return slices.Concat(meta(expr.MetaKeyNFPROTO, 1), cmpData(expr.CmpOpEq, nfproto[family]))
}

func protoIs(proto byte) []expr.Any { return slices.Concat(loadProto(1), cmpData(expr.CmpOpEq, proto)) }

// isFrame: the packet is for where hosts take each other's frames.
func isFrame() []expr.Any {
	return slices.Concat(protoIs(unix.IPPROTO_UDP), loadDport(1), cmpData(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(VXLANPort)...))
}

// notLoopback6: the destination is not ::1.
func notLoopback6() []expr.Any {
	return slices.Concat(loadDaddr(v6, 1), cmpData(expr.CmpOpNeq, netip.IPv6Loopback().AsSlice()...))
}

// notNear6: the source is not a link-local address, fe80::/10.
func notNear6() []expr.Any {
	return slices.Concat(network(saddrOffset6, 2, 1), []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}},
	}, cmpData(expr.CmpOpNeq, 0xfe, 0x80))
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
