package network

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nereid-paas/nereid/pkg/state"
)

// zone is what the rules know of a network.
type zone struct {
	bridge   string
	internal bool     // there is no way out, nor in
	icc      bool     // its containers reach each other
	trusted  []string // interfaces of the host from which all is let in
	sides    [2]side  // IPv4, IPv6
}

// side is a zone in one address family.
type side struct {
	subnets    []netip.Prefix
	masquerade bool       // what goes out has an address of the host as its source
	source     netip.Addr // that one; invalid: one of the interface it leaves by
	open       bool       // what comes in need not be published
	routed     bool       // published ports are reached at the containers' addresses
}

func zoneOf(bridge string, n *state.Network) zone {
	o := optionsOf(n)
	z := zone{bridge: bridge, internal: n.Internal, icc: o.ICC, trusted: o.Trusted}
	for i, source := range []netip.Addr{o.Source4, o.Source6} {
		mode := o.mode(i == v6)
		nat := mode == GatewayNAT || mode == GatewayOpen
		z.sides[i] = side{
			masquerade: o.Masquerade && nat && !n.Internal, source: source,
			open: mode == GatewayOpen, routed: mode == GatewayRouted,
		}
	}
	for _, s := range n.Subnets {
		side := &z.sides[familyOf(s.Prefix.Addr())]
		side.subnets = append(side.subnets, s.Prefix.Masked())
	}
	return z
}

func (z zone) equal(o zone) bool {
	return z.bridge == o.bridge && z.internal == o.internal && z.icc == o.icc && slices.Equal(z.trusted, o.trusted) &&
		z.sides[v4].equal(o.sides[v4]) && z.sides[v6].equal(o.sides[v6])
}

func (s side) equal(o side) bool {
	return slices.Equal(s.subnets, o.subnets) && s.masquerade == o.masquerade && s.source == o.source &&
		s.open == o.open && s.routed == o.routed
}

// portKey is a published port. An unspecified address stands for every local one; port 0 for the container's own port at
// the container's own address, which is only let through.
type portKey struct {
	proto uint8
	addr  netip.Addr
	port  uint16
	to    uint16 // the container's port, of those that are only let through
}

func (k portKey) direct() bool { return k.port == 0 }

// rules are the contents of the sets: all there is to know of the firewall.
type rules struct {
	zones map[string]zone // by bridge
	ports map[portKey]netip.AddrPort
	mesh  map[portKey]netip.AddrPort // ports of other hosts, which have them at their address
}

func newRules() rules {
	return rules{zones: map[string]zone{}, ports: map[portKey]netip.AddrPort{}, mesh: map[portKey]netip.AddrPort{}}
}

func (r rules) clone() rules {
	return rules{zones: maps.Clone(r.zones), ports: maps.Clone(r.ports), mesh: maps.Clone(r.mesh)}
}

// firewall is this daemon's nftables table. Its chains never change; networks and ports are elements of its sets. All
// methods may be called at once; each change is one batch, which the kernel takes whole or not at all.
type firewall struct {
	names naming

	mu   sync.Mutex
	have rules // as the kernel has it
	conn *nftables.Conn
}

func newFirewall(names naming) *firewall { return &firewall{names: names, have: newRules()} }

// bufferBytes holds the largest batch of a restore and its acknowledgements, one per message.
const bufferBytes = 8 << 20

func openConn() (*nftables.Conn, error) {
	return nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(bufferBytes), c.SetWriteBuffer(bufferBytes))
	}))
}

// addZone adds a network, or replaces what the rules know of it.
func (fw *firewall) addZone(z zone) error {
	return fw.change(edit{zones: map[string]*zone{z.bridge: &z}})
}

// removeZones forgets networks.
func (fw *firewall) removeZones(bridges ...string) error {
	e := edit{zones: map[string]*zone{}}
	for _, b := range bridges {
		e.zones[b] = nil
	}
	return fw.change(e)
}

// setPorts closes and opens published ports.
func (fw *firewall) setPorts(closed []portKey, opened map[portKey]netip.AddrPort) error {
	e := edit{ports: map[portKey]netip.AddrPort{}}
	for _, k := range closed {
		e.ports[k] = netip.AddrPort{}
	}
	maps.Copy(e.ports, opened)
	return fw.change(e)
}

// leads is where a port leads; not valid: nowhere.
func (fw *firewall) leads(k portKey) netip.AddrPort {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	return fw.have.ports[k]
}

// setMesh makes the ports of other hosts, which are those of old, the new ones.
func (fw *firewall) setMesh(old, ports map[portKey]netip.AddrPort) error {
	e := edit{mesh: map[portKey]netip.AddrPort{}}
	for k := range old {
		e.mesh[k] = netip.AddrPort{}
	}
	maps.Copy(e.mesh, ports)
	return fw.change(e)
}

// edit is what is to become of some networks and ports; nil, or an invalid address, is to go.
type edit struct {
	zones       map[string]*zone
	ports, mesh map[portKey]netip.AddrPort
}

// touched are the rules that an edit is about.
func (r rules) touched(e edit) rules {
	some := newRules()
	for b := range e.zones {
		if z, ok := r.zones[b]; ok {
			some.zones[b] = z
		}
	}
	touchedPorts(some.ports, r.ports, e.ports)
	touchedPorts(some.mesh, r.mesh, e.mesh)
	return some
}

func touchedPorts(some, all, edit map[portKey]netip.AddrPort) {
	for k := range edit {
		if to, ok := all[k]; ok {
			some[k] = to
		}
	}
}

// apply the edit.
func (r rules) apply(e edit) {
	for b, z := range e.zones {
		if z == nil {
			delete(r.zones, b)
		} else {
			r.zones[b] = *z
		}
	}
	applyPorts(r.ports, e.ports)
	applyPorts(r.mesh, e.mesh)
}

func applyPorts(all, edit map[portKey]netip.AddrPort) {
	for k, to := range edit {
		if !to.IsValid() {
			delete(all, k)
		} else {
			all[k] = to
		}
	}
}

// change edits the rules and has the kernel follow with the difference, whatever else there is. A table that is gone,
// because someone flushed the host's rules, is written anew.
func (fw *firewall) change(e edit) error {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	before := fw.have.touched(e)
	after := before.clone()
	after.apply(e)
	err := fw.commitLocked(func(b *batch) { b.difference(before, after) })
	if errors.Is(err, unix.ENOENT) {
		want := fw.have.clone()
		want.apply(e)
		err = fw.commitLocked(func(b *batch) { b.whole(want) })
	}
	if err == nil {
		fw.have.apply(e)
	}
	return err
}

// replace writes the whole table anew, in one batch: nothing passes by old and new rules at once, and connections that
// exist are not touched.
func (fw *firewall) replace(want rules) error {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	if err := fw.commitLocked(func(b *batch) { b.whole(want) }); err != nil {
		return err
	}
	fw.have = want
	return nil
}

// repair writes the table anew if it is gone.
func (fw *firewall) repair() (repaired bool, err error) {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	there, err := fw.thereLocked()
	if there || err != nil {
		return false, err
	}
	return true, fw.commitLocked(func(b *batch) { b.whole(fw.have) })
}

func (fw *firewall) thereLocked() (bool, error) {
	if err := fw.openLocked(); err != nil {
		return false, err
	}
	tables, err := fw.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == fw.names.table() }), err
}

// remove deletes the table.
func (fw *firewall) remove() error {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	err := fw.commitLocked(func(b *batch) { b.conn.DelTable(b.table) })
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	fw.have = newRules()
	return err
}

func (fw *firewall) openLocked() (err error) {
	if fw.conn == nil {
		fw.conn, err = openConn()
	}
	return err
}

// commitLocked sends one batch. After a failure the conversation is begun anew: acknowledgements of the old one may
// still be under way.
func (fw *firewall) commitLocked(fill func(*batch)) error {
	if err := fw.openLocked(); err != nil {
		return err
	}
	b := newBatch(fw.conn, fw.names)
	fill(b)
	if b.err == nil {
		b.err = fw.conn.Flush()
	}
	if b.err != nil {
		fw.closeLocked()
	}
	return b.err
}

func (fw *firewall) closeLocked() {
	if fw.conn != nil {
		_ = fw.conn.CloseLasting()
		fw.conn = nil
	}
}

// close ends the conversation with the kernel. The rules stay.
func (fw *firewall) close() {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	fw.closeLocked()
}
