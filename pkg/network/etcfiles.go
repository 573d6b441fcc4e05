package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// HostEntry is a line of /etc/hosts.
type HostEntry struct {
	Addr  netip.Addr
	Names []string
}

// hostsIPv6 are the lines of a container that has ::1, as Docker writes them.
var hostsIPv6 = "::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// Hosts is the content of a container's /etc/hosts: the loopback's lines and then these. Without six it says nothing
// of IPv6.
func Hosts(entries []HostEntry, six bool) []byte {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n")
	if six {
		b.WriteString(hostsIPv6)
	}
	for _, e := range entries {
		if six || !e.Addr.Is6() {
			b.WriteString(e.line())
		}
	}
	return b.Bytes()
}

func (e HostEntry) line() string { return e.Addr.String() + "\t" + strings.Join(e.Names, " ") + "\n" }

// EditHosts replaces some lines of an /etc/hosts by others and leaves the rest as it is.
func EditHosts(content []byte, old, now []HostEntry, six bool) []byte {
	gone := map[string]bool{}
	for _, e := range old {
		gone[e.line()] = true
	}
	for _, e := range now {
		delete(gone, e.line())
	}
	var b bytes.Buffer
	have := map[string]bool{}
	for line := range strings.Lines(string(content)) {
		if !gone[line] {
			b.WriteString(line)
			have[line] = true
		}
	}
	for _, e := range now {
		if line := e.line(); !have[line] && (six || !e.Addr.Is6()) {
			b.WriteString(line)
		}
	}
	return b.Bytes()
}

// PointHosts has names of an /etc/hosts lead to where they are now, each in its line of the address's family, and leaves
// the rest as it is. A name that has no line gets one.
func PointHosts(content []byte, now []HostEntry, six bool) []byte {
	var old []HostEntry
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err == nil && slices.ContainsFunc(now, func(e HostEntry) bool { return e.Names[0] == fields[1] && e.Addr.Is6() == addr.Is6() }) {
			old = append(old, HostEntry{Addr: addr, Names: fields[1:]})
		}
	}
	return EditHosts(content, old, now, six)
}

// OwnNames are the names of a container in its /etc/hosts: the whole host name, and its first label.
func OwnNames(hostname, domainname string) []string {
	if domainname != "" {
		hostname += "." + domainname
	}
	if first, _, found := strings.Cut(hostname, "."); found {
		return []string{hostname, first}
	}
	return []string{hostname}
}

// hostGateway is the word that stands for the host's address in --add-host.
const hostGateway = "host-gateway"

// ExtraHosts reads --add-host's "name:address" and "name:host-gateway", which is the gateways' addresses.
func ExtraHosts(extra []string, gateways []netip.Addr) ([]HostEntry, error) {
	var list []HostEntry
	for _, e := range extra {
		name, addr, found := strings.Cut(e, ":")
		if !found || name == "" {
			return nil, invalid("bad format for add-host: %q", e)
		}
		addrs, err := extraAddrs(addr, gateways)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			list = append(list, HostEntry{Addr: a, Names: []string{name}})
		}
	}
	return list, nil
}

func extraAddrs(addr string, gateways []netip.Addr) ([]netip.Addr, error) {
	if addr == hostGateway {
		if len(gateways) == 0 {
			return nil, errors.New("unable to derive the IP value for host-gateway")
		}
		return gateways, nil
	}
	addr = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, invalid("invalid IP address in add-host: %q", addr)
	}
	return []netip.Addr{a}, nil
}

// invalid is an error with Docker's words and nothing else.
func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// DNS is what the user asked for with --dns, --dns-search and --dns-option. What is empty comes from the host.
type DNS struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// ParseDNS reads it as the Engine API has it.
func ParseDNS(servers, search, options []string) (DNS, error) {
	d := DNS{Search: search, Options: options}
	for _, s := range servers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return DNS{}, invalid("bad nameserver address %s", s)
		}
		d.Servers = append(d.Servers, a)
	}
	return d, nil
}

// over puts what the user asked for over the host's.
func (d DNS) over(c resolvConf) resolvConf {
	if len(d.Servers) > 0 {
		c.servers = d.Servers
	}
	if len(d.Search) > 0 {
		c.search = slices.DeleteFunc(slices.Clone(d.Search), func(s string) bool { return s == "." })
	}
	if len(d.Options) > 0 {
		c.options = d.Options
	}
	return c
}

// ResolvConf is the content of the /etc/resolv.conf of a container with a resolver of ours, and whether ndots was set
// by the user or the host: see SandboxOptions. host is the content of the host's file.
func ResolvConf(host []byte, d DNS) (content []byte, ndotsSet bool) {
	c := d.over(parseResolvConf(bytes.NewReader(host)))
	ndotsSet = c.hasOption("ndots")
	c.servers = []netip.Addr{resolverAddr}
	c.options = slices.DeleteFunc(slices.Clone(c.options), badNdots)
	if !c.hasOption("ndots") {
		c.options = append(c.options, "ndots:0")
	}
	return []byte(c.String()), ndotsSet
}

func badNdots(option string) bool {
	name, value, _ := strings.Cut(option, ":")
	n, err := strconv.Atoi(value)
	return name == "ndots" && (err != nil || n < 0)
}

// HostResolvConf is the content of the /etc/resolv.conf of a container in the host's network: the host's own, with
// what the user asked for.
func HostResolvConf(host []byte, d DNS) []byte {
	return []byte(d.over(parseResolvConf(bytes.NewReader(host))).String())
}

// HasIPv6 tells whether the kernel knows IPv6, and so a container has ::1.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// PlainResolvConf is the content of the /etc/resolv.conf of a container without a network: the host's, without the
// servers on the host's loopback.
func PlainResolvConf(host []byte, d DNS) []byte {
	c := parseResolvConf(bytes.NewReader(host))
	c.servers = slices.DeleteFunc(c.servers, netip.Addr.IsLoopback)
	return []byte(d.over(c).String())
}
