package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rtnl asks the kernel about links, addresses and routes of one network namespace, and has it change them. What is asked
// together goes there in one message: attaching a container is a handful of those, whatever else is on the host.
// It is one caller's.
type rtnl struct{ conn *netlink.Conn }

// dialRtnl opens a socket in the calling thread's namespace.
func dialRtnl() (*rtnl, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &rtnl{conn}, nil
}

func (r *rtnl) close() { _ = r.conn.Close() }

// request is one thing asked, and what it is called in an error.
type request struct {
	what string
	msg  netlink.Message
	err  error // it cannot be asked
}

// do sends the requests in one message. The kernel carries out all of them in order, whatever becomes of one. The
// answers are one per request, empty where there is nothing to say; the error is that of the first that failed.
func (r *rtnl) do(requests ...request) ([]answered, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	msgs := make([]netlink.Message, len(requests))
	for i, q := range requests {
		if q.err != nil {
			return nil, fmt.Errorf("%s: %w", q.what, q.err)
		}
		msgs[i] = q.msg
	}
	if err := r.conn.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return nil, err
	}
	if _, err := r.conn.SendMessages(msgs); err != nil {
		return nil, err
	}
	answers := make([]answered, len(requests))
	var first error
	for i, q := range requests {
		got, err := r.conn.Receive() // each request has one answer, which comes by itself: data, or an acknowledgement
		if err != nil && first == nil {
			first = fmt.Errorf("%s: %w", q.what, err)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if len(got) > 0 && got[0].Header.Type != netlink.Error {
			answers[i] = got[0].Data
		}
	}
	return answers, first
}

// answered is what the kernel says of a link or a route.
type answered []byte

// sizeofIfInfo is that of struct ifinfomsg.
const sizeofIfInfo = 16

// index of the link.
func (a answered) index() int {
	if len(a) < sizeofIfInfo {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(a[4:])))
}

// operUp is IF_OPER_UP of RFC 2863, in linux/if.h.
const operUp = 6

// carries tells whether what is sent over the link arrives.
func (a answered) carries() bool {
	if len(a) < sizeofIfInfo {
		return false
	}
	attrs, err := netlink.NewAttributeDecoder(a[sizeofIfInfo:])
	for err == nil && attrs.Next() {
		if attrs.Type() == unix.IFLA_OPERSTATE {
			return attrs.Uint8() == operUp
		}
	}
	return false
}

// local tells whether the route ends in this namespace.
func (a answered) local() bool { return len(a) >= unix.SizeofRtMsg && a[7] == unix.RTN_LOCAL }

const (
	asks    = netlink.Request
	changes = netlink.Request | netlink.Acknowledge
)

// newRequest has the kernel's header of the message's kind first, and attributes after it.
func newRequest(what string, kind uint16, flags netlink.HeaderFlags, header []byte, fill func(*netlink.AttributeEncoder)) request {
	attrs := netlink.NewAttributeEncoder()
	if fill != nil {
		fill(attrs)
	}
	b, err := attrs.Encode()
	return request{what, netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: flags}, Data: append(header, b...),
	}, err}
}

// ifInfo is struct ifinfomsg.
func ifInfo(family byte, index int, flags, change uint32) []byte {
	b := make([]byte, sizeofIfInfo)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// getLink asks for a link by name. It has the kernel bring its view of the link up to date (since Linux 6.9).
func getLink(name string) request {
	return newRequest("find link "+name, unix.RTM_GETLINK, asks, ifInfo(unix.AF_UNSPEC, 0, 0, 0), func(a *netlink.AttributeEncoder) {
		a.String(unix.IFLA_IFNAME, name)
	})
}

// pair is a pair of links, down: one end here, the other in another namespace.
type pair struct {
	here, there string
	mtu         int
	mac         net.HardwareAddr // of the other end
	ns          *os.File
}

// vethInfoPeer is VETH_INFO_PEER of linux/veth.h.
const vethInfoPeer = 1

func newPair(p pair) request {
	return newRequest("add link "+p.here, unix.RTM_NEWLINK, changes|netlink.Create|netlink.Excl, ifInfo(unix.AF_UNSPEC, 0, 0, 0),
		func(a *netlink.AttributeEncoder) {
			a.String(unix.IFLA_IFNAME, p.here)
			a.Uint32(unix.IFLA_MTU, uint32(p.mtu))
			a.Nested(unix.IFLA_LINKINFO, func(a *netlink.AttributeEncoder) error {
				a.String(unix.IFLA_INFO_KIND, "veth")
				a.Nested(unix.IFLA_INFO_DATA, func(a *netlink.AttributeEncoder) error {
					a.Do(unix.NLA_F_NESTED|vethInfoPeer, func() ([]byte, error) {
						there := newRequest("", 0, 0, ifInfo(unix.AF_UNSPEC, 0, 0, 0), func(a *netlink.AttributeEncoder) {
							a.String(unix.IFLA_IFNAME, p.there)
							a.Bytes(unix.IFLA_ADDRESS, p.mac)
							a.Uint32(unix.IFLA_MTU, uint32(p.mtu))
							a.Uint32(unix.IFLA_NET_NS_FD, uint32(p.ns.Fd()))
						})
						return there.msg.Data, there.err
					})
					return nil
				})
				return nil
			})
		})
}

func setMaster(index, master int) request {
	return newRequest("join the bridge", unix.RTM_NEWLINK, changes, ifInfo(unix.AF_UNSPEC, index, 0, 0), func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.IFLA_MASTER, uint32(master))
	})
}

// setPort sets how a bridge passes on what comes from a container: back to it too, as with br_netfilter a packet to itself
// through a published port turns round within the bridge; and not to other containers where these are to be apart. That
// is done in the bridge: no firewall sees what it passes on.
func setPort(index int, apart bool) request {
	return newRequest("bridge port", unix.RTM_SETLINK, changes, ifInfo(unix.AF_BRIDGE, index, 0, 0), func(a *netlink.AttributeEncoder) {
		a.Nested(unix.IFLA_PROTINFO, func(a *netlink.AttributeEncoder) error {
			a.Uint8(unix.IFLA_BRPORT_MODE, 1)
			if apart {
				a.Uint8(unix.IFLA_BRPORT_ISOLATED, 1)
			}
			return nil
		})
	})
}

// setBehind tells a link's bridge what hardware address lies behind the link. Left to itself it believes what it saw last:
// the address behind the link to another host, where the container was that had this one's address before it.
func setBehind(index int, mac net.HardwareAddr) request {
	header := make([]byte, unix.SizeofNdMsg)
	header[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	binary.NativeEndian.PutUint16(header[8:], unix.NUD_NOARP)
	header[10] = unix.NTF_MASTER
	return newRequest("bridge entry "+mac.String(), unix.RTM_NEWNEIGH, changes|netlink.Create|netlink.Replace, header, func(a *netlink.AttributeEncoder) {
		a.Bytes(unix.NDA_LLADDR, mac)
	})
}

func setUp(index int) request {
	return newRequest("bring up", unix.RTM_NEWLINK, changes, ifInfo(unix.AF_UNSPEC, index, unix.IFF_UP, unix.IFF_UP), nil)
}

// address is one of an interface.
type address struct {
	netip.Prefix
	link  bool // it is good on the link alone
	noDAD bool // nobody is asked whether he has it
}

func addAddress(index int, at address) request {
	header := make([]byte, unix.SizeofIfAddrmsg)
	header[0], header[1] = familyNumber[familyOf(at.Addr())], byte(at.Bits())
	if at.link {
		header[3] = unix.RT_SCOPE_LINK
	}
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	return newRequest("address "+at.String(), unix.RTM_NEWADDR, changes|netlink.Create|netlink.Replace, header, func(a *netlink.AttributeEncoder) {
		ip := at.Addr().AsSlice()
		a.Bytes(unix.IFA_LOCAL, ip)
		a.Bytes(unix.IFA_ADDRESS, ip)
		if at.Addr().Is4() && !at.link {
			a.Bytes(unix.IFA_BROADCAST, lastAddr(at.Prefix).AsSlice())
		}
		if at.noDAD {
			a.Uint32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
		}
	})
}

// familyNumber of the families.
var familyNumber = [2]byte{unix.AF_INET, unix.AF_INET6}

// setDefaultRoute replaces a family's default route. On a wire there is no router: all is a neighbour.
func setDefaultRoute(index int, gw netip.Addr, wire bool) request {
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[4], header[5], header[7] = familyNumber[familyOf(gw)], unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RTN_UNICAST
	if wire {
		header[6] = unix.RT_SCOPE_LINK
	}
	return newRequest("default route by "+gw.String(), unix.RTM_NEWROUTE, changes|netlink.Create|netlink.Replace, header, func(a *netlink.AttributeEncoder) {
		a.Uint32(unix.RTA_OIF, uint32(index))
		if !wire {
			a.Bytes(unix.RTA_GATEWAY, gw.AsSlice())
		}
	})
}

// getRoute asks which way packets for an address go.
func getRoute(to netip.Addr) request {
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[1] = familyNumber[familyOf(to)], byte(to.BitLen())
	return newRequest("route to "+to.String(), unix.RTM_GETROUTE, asks, header, func(a *netlink.AttributeEncoder) {
		a.Bytes(unix.RTA_DST, to.AsSlice())
	})
}

// carries tells whether what is sent over a link arrives. One that is gone is not waited for.
func (r *rtnl) carries(name string) bool {
	answers, err := r.do(getLink(name))
	return err != nil || answers[0].carries()
}

// hears tells whether the namespace takes packets for an address.
func (r *rtnl) hears(a netip.Addr) bool {
	answers, err := r.do(getRoute(a))
	return err == nil && answers[0].local()
}
