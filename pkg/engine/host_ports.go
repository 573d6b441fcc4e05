package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// portRequest is one container port that is to answer on a host port: of a range when the two ends differ, any when
// they are zero.
type portRequest struct {
	proto         string
	containerPort uint16
	first, last   uint16
	hostIPs       []netip.Addr
}

func (q portRequest) fixed() bool { return q.first != 0 && q.first == q.last }

// portRequests reads what the user asked for, in the order in which it is claimed: fixed ports before ranges, so that
// a range does not take what another needs; bindings that differ only in the host address are one request, and get the
// same port.
func portRequests(cfg *container.Config, hc *container.HostConfig, any []netip.Addr) ([]portRequest, error) {
	var list []portRequest
	for port, bindings := range portBindings(cfg, hc) {
		for _, b := range bindings {
			q, err := newPortRequest(port, b, any)
			if err != nil {
				return nil, err
			}
			list = append(list, q)
		}
	}
	slices.SortStableFunc(list, comparePortRequests)
	var merged []portRequest
	for _, q := range list {
		if last := len(merged) - 1; last >= 0 && samePort(merged[last], q) {
			merged[last].hostIPs = addAddrs(merged[last].hostIPs, q.hostIPs)
			continue
		}
		merged = append(merged, q)
	}
	return merged, nil
}

// portBindings are the bindings by container port; one that is exposed and not bound is bound to any port by -P, or by an
// empty list of bindings.
func portBindings(cfg *container.Config, hc *container.HostConfig) nat.PortMap {
	all := nat.PortMap{}
	for port, bindings := range hc.PortBindings {
		all[port] = bindings
	}
	for port := range cfg.ExposedPorts {
		if bindings, named := all[port]; len(bindings) == 0 && (named || hc.PublishAllPorts) {
			all[port] = []nat.PortBinding{{}}
		}
	}
	return all
}

func newPortRequest(port nat.Port, b nat.PortBinding, any []netip.Addr) (portRequest, error) {
	q := portRequest{proto: protoOf(port), containerPort: uint16(port.Int()), hostIPs: any}
	first, last, err := nat.ParsePortRangeToInt(b.HostPort)
	if err != nil {
		return q, errInvalidPort(b.HostPort, err)
	}
	q.first, q.last = uint16(first), uint16(last)
	if b.HostIP == "" {
		return q, nil
	}
	ip, err := netip.ParseAddr(b.HostIP)
	if err != nil {
		return q, errdefs.ErrInvalidArgument.WithMessage("invalid host IP address: " + b.HostIP)
	}
	q.hostIPs = []netip.Addr{ip.Unmap()}
	return q, nil
}

func errInvalidPort(port string, err error) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Error parsing HostPort value(%s):%v", port, err))
}

func comparePortRequests(a, b portRequest) int {
	rank := func(q portRequest) int {
		if q.fixed() {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.containerPort, b.containerPort), cmp.Compare(a.proto, b.proto),
		cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last), slices.CompareFunc(a.hostIPs, b.hostIPs, netip.Addr.Compare))
}

func samePort(a, b portRequest) bool {
	return a.proto == b.proto && a.containerPort == b.containerPort && a.first == b.first && a.last == b.last
}

func addAddrs(list, more []netip.Addr) []netip.Addr {
	list = slices.Clone(list)
	for _, a := range more {
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// addresses of the host where a port answers that was published without one: what the network says, or all.
func (w way) addresses() []netip.Addr {
	if w.v4 == nil {
		return slices.DeleteFunc(anyAddress(), netip.Addr.Is4)
	}
	if a, ok := network.HostBinding(w.v4.Network); ok {
		return []netip.Addr{a}
	}
	return anyAddress()
}

// anyAddress stands for every address of the host: all of IPv4, and of IPv6 where this host has it.
func anyAddress() []netip.Addr {
	list := []netip.Addr{netip.IPv4Unspecified()}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil { //nolint:noctx // it does not wait
		_ = l.Close()
		list = append(list, netip.IPv6Unspecified())
	}
	return list
}

// portKey names a port record.
type portKey struct {
	proto string
	port  uint16
}

// portClaims collects the port records that one container changes.
type portClaims struct {
	view    *state.View
	lost    func(nereid.Host) *state.Absence // of a host whose claims others may take over
	records map[portKey]*state.Port
	// over are the absences that the changes rely on: should such a host be back before they are stored, it keeps its own.
	over map[nereid.Host]*state.Absence
}

func (n *Networks) newPortClaims() *portClaims {
	return &portClaims{view: n.State.View(), lost: n.lost.absence, records: map[portKey]*state.Port{}, over: map[nereid.Host]*state.Absence{}}
}

// bars tells whether a claim keeps another from a port on an address: the same, or one that stands for every address of
// the family.
func bars(c state.PortClaim, on netip.Addr) bool {
	return c.HostIP.Is4() == on.Is4() && (c.HostIP == on || c.HostIP.IsUnspecified() || on.IsUnspecified())
}

// record returns a port's record as it will be, or nil.
func (p *portClaims) record(k portKey) *state.Port {
	if rec, ok := p.records[k]; ok {
		return rec
	}
	rec, _ := p.view.Port(k.proto, k.port)
	return rec
}

// taken returns the claim that keeps another from using the port on an address. With over those of lost hosts do not.
func (p *portClaims) taken(k portKey, on netip.Addr, over bool) (netip.Addr, bool) {
	rec := p.record(k)
	if rec == nil {
		return netip.Addr{}, false
	}
	for _, c := range rec.Claims {
		if bars(c, on) && (!over || p.lost(c.Host) == nil) {
			return c.HostIP, true
		}
	}
	return netip.Addr{}, false
}

// add enters a claim in the place of those of lost hosts that stand in its way.
func (p *portClaims) add(k portKey, c state.PortClaim) {
	rec := p.record(k)
	if rec == nil {
		rec = &state.Port{Proto: k.proto, Port: k.port}
	} else if _, own := p.records[k]; !own {
		rec = rec.Clone()
	}
	rec.Claims = slices.DeleteFunc(rec.Claims, func(old state.PortClaim) bool {
		if !bars(old, c.HostIP) {
			return false
		}
		a := p.lost(old.Host)
		if a != nil {
			p.over[old.Host] = a
		}
		return a != nil
	})
	rec.Claims = append(rec.Claims, c)
	p.records[k] = rec
}

func (p *portClaims) ops() []state.Op {
	var ops []state.Op
	for _, a := range p.over {
		ops = append(ops, state.Keep(a))
	}
	for _, rec := range p.records {
		switch {
		case rec.Rev == 0:
			ops = append(ops, state.Create(rec))
		case len(rec.Claims) == 0:
			ops = append(ops, state.Remove(rec)) // unless another claims it at the same time
		default:
			ops = append(ops, state.Update(rec))
		}
	}
	return ops
}

// claimPorts chooses the host ports of a container.
func (n *Networks) claimPorts(r *state.Container, w way) ([]state.HostPort, []state.Op, error) {
	if len(r.HostConfig.PortBindings) == 0 && !r.HostConfig.PublishAllPorts {
		return nil, nil, nil
	}
	requests, err := portRequests(r.Config, r.HostConfig, w.addresses())
	if err != nil {
		return nil, nil, err
	}
	claims := n.newPortClaims()
	var ports []state.HostPort
	for _, q := range requests {
		first := len(ports)
		ports = append(ports, w.takeRouted(&q)...)
		if len(q.hostIPs) == 0 {
			continue
		}
		port, err := n.choosePort(claims, q)
		if err != nil {
			return nil, nil, err
		}
		for _, ip := range q.hostIPs {
			if _, ok := w.target(ip); !ok {
				return nil, nil, fmt.Errorf("cannot map host port %s to a container without an IPv4 address", netip.AddrPortFrom(ip, port))
			}
			claims.add(portKey{q.proto, port}, state.PortClaim{
				HostIP: ip, Account: r.Account, Container: r.ID, Host: r.Host, ContainerPort: q.containerPort,
			})
			ports = append(ports, state.HostPort{Proto: q.proto, HostIP: ip, HostPort: port, ContainerPort: q.containerPort})
		}
		slices.SortStableFunc(ports[first:], func(a, b state.HostPort) int { // one family may be routed
			return cmp.Compare(a.HostIP.BitLen(), b.HostIP.BitLen())
		})
	}
	return ports, claims.ops(), nil
}

// choosePort is the port asked for, or the next of the range that nobody has: no container, and no other process of
// this host.
func (n *Networks) choosePort(claims *portClaims, q portRequest) (uint16, error) {
	if q.fixed() {
		for _, ip := range q.hostIPs {
			if by, taken := claims.taken(portKey{q.proto, q.first}, ip, true); taken {
				return 0, fmt.Errorf("Bind for %s:%d failed: port is already allocated", by, q.first)
			}
		}
		return q.first, nil
	}
	if q.first == 0 {
		q.first, q.last = ephemeralPorts()
	}
	free := func(over bool) func(uint16) bool {
		return func(port uint16) bool {
			for _, ip := range q.hostIPs {
				if _, taken := claims.taken(portKey{q.proto, port}, ip, over); taken || !n.bindable(q.proto, ip, port) {
					return false
				}
			}
			return true
		}
	}
	port, err := n.random.next(q, free(false))
	if err != nil {
		port, err = n.random.next(q, free(true))
	}
	return port, err
}

// portProber is a Network that can tell whether other processes of this host leave a port free.
type portProber interface {
	PortFree(proto string, addr netip.Addr, port uint16) bool
}

func (n *Networks) bindable(proto string, ip netip.Addr, port uint16) bool {
	p, ok := n.Network.(portProber)
	return !ok || p.PortFree(proto, ip, port)
}

// portCursor remembers the port last given out of each range: the next one is after it, so that a port just given
// back rests.
type portCursor struct {
	mu   sync.Mutex
	last map[portRange]uint16
}

type portRange struct {
	proto       string
	first, last uint16
}

func (c *portCursor) next(q portRequest, free func(uint16) bool) (uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := portRange{q.proto, q.first, q.last}
	size := int(q.last) - int(q.first) + 1
	begin := 0
	if last, ok := c.last[k]; ok {
		begin = int(last) - int(q.first) + 1
	}
	for i := range size {
		port := q.first + uint16((begin+i)%size)
		if !free(port) {
			continue
		}
		if c.last == nil {
			c.last = map[portRange]uint16{}
		}
		c.last[k] = port
		return port, nil
	}
	return 0, errors.New("all ports are allocated")
}

// defaultFirstPort and defaultLastPort are the range from which ports are given when the kernel does not say, as in Docker.
const defaultFirstPort, defaultLastPort = 49153, 65535

// ephemeralPorts is the kernel's range for ports that nobody asked for by number, as Docker's.
func ephemeralPorts() (first, last uint16) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		if n, err := fmt.Sscan(string(b), &first, &last); err == nil && n == 2 && first <= last {
			return first, last
		}
	}
	return defaultFirstPort, defaultLastPort
}

// releasePorts gives a container's ports back.
func (n *Networks) releasePorts(r *state.Container) []state.Op {
	claims := n.newPortClaims()
	for _, p := range r.Ports {
		if p.HostPort == 0 {
			continue
		}
		k := portKey{p.Proto, p.HostPort}
		rec := claims.record(k)
		if rec == nil {
			continue
		}
		own := rec.Clone()
		own.Claims = slices.DeleteFunc(slices.Clone(rec.Claims), func(c state.PortClaim) bool { return c.Container == r.ID })
		claims.records[k] = own
	}
	return claims.ops()
}

// protoOf is the protocol of a port as the user wrote it: "80" is of tcp, as is "80/TCP".
func protoOf(port nat.Port) string { return strings.ToLower(port.Proto()) }

func shownPort(port, proto string) nat.Port { return nat.Port(port + "/" + proto) }

// portMap is what inspect shows of a container's ports: those that are exposed or published, with their bindings.
func portMap(r *state.Container) nat.PortMap {
	ports := nat.PortMap{}
	for port := range r.Config.ExposedPorts {
		ports[shownPort(port.Port(), protoOf(port))] = nil
	}
	for _, p := range r.Ports {
		port, b := shownPort(strconv.Itoa(int(p.ContainerPort)), p.Proto), nat.PortBinding{HostIP: p.HostIP.String()}
		if p.HostPort != 0 { // or it is reached at the container's own address
			b.HostPort = strconv.Itoa(int(p.HostPort))
		}
		ports[port] = append(ports[port], b)
	}
	return ports
}
