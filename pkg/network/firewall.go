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

// zone is what the rules know of a network: its bridge, its IPv4 subnets, and whether there is a way out.
type zone struct {
	bridge   string
	subnets  []netip.Prefix
	internal bool
}

func zoneOf(bridge string, n *state.Network) zone {
	z := zone{bridge: bridge, internal: n.Internal}
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is4() {
			z.subnets = append(z.subnets, s.Prefix.Masked())
		}
	}
	return z
}

// portKey is a published port. An unspecified address stands for every local one.
type portKey struct {
	proto uint8
	addr  netip.Addr
	port  uint16
}

// rules are the contents of the sets: all there is to know of the firewall.
type rules struct {
	zones map[string]zone // by bridge
	ports map[portKey]netip.AddrPort
}

func newRules() rules {
	return rules{zones: map[string]zone{}, ports: map[portKey]netip.AddrPort{}}
}

func (r rules) clone() rules { return rules{zones: maps.Clone(r.zones), ports: maps.Clone(r.ports)} }

// firewall is this daemon's nftables table. Its chains never change; networks and ports are elements of its sets. All
// methods may be called at once; each change is one batch, which the kernel takes whole or not at all.
type firewall struct {
	table string

	mu   sync.Mutex
	have rules // as the kernel has it
	conn *nftables.Conn
}

func newFirewall(table string) *firewall { return &firewall{table: table, have: newRules()} }

// bufferBytes holds the largest batch of a restore and its acknowledgements, one per message.
const bufferBytes = 8 << 20

func openConn() (*nftables.Conn, error) {
	return nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(bufferBytes), c.SetWriteBuffer(bufferBytes))
	}))
}

// addZone adds a network, or replaces what the rules know of it.
func (fw *firewall) addZone(z zone) error {
	return fw.change(func(r rules) { r.zones[z.bridge] = z })
}

// removeZones forgets networks.
func (fw *firewall) removeZones(bridges ...string) error {
	return fw.change(func(r rules) {
		for _, b := range bridges {
			delete(r.zones, b)
		}
	})
}

// setPorts closes and opens published ports.
func (fw *firewall) setPorts(closed []portKey, opened map[portKey]netip.AddrPort) error {
	return fw.change(func(r rules) {
		for _, k := range closed {
			delete(r.ports, k)
		}
		maps.Copy(r.ports, opened)
	})
}

// change edits the rules and has the kernel follow with the difference. A table that is gone, because someone flushed
// the host's rules, is written anew.
func (fw *firewall) change(edit func(rules)) error {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	want := fw.have.clone()
	edit(want)
	err := fw.commitLocked(func(b *batch) { b.difference(fw.have, want) })
	if errors.Is(err, unix.ENOENT) {
		err = fw.commitLocked(func(b *batch) { b.whole(want) })
	}
	if err != nil {
		return err
	}
	fw.have = want
	return nil
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
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == fw.table }), err
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
	b := newBatch(fw.conn, fw.table)
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
