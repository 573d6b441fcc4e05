package network

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// resolvConf is a resolv.conf(5).
type resolvConf struct {
	servers []netip.Addr
	search  []string
	options []string
	other   []string // lines that are none of these
}

// parseResolvConf reads what resolvers make of the file: the last search line counts, options add up, addresses that
// are none are passed over.
func parseResolvConf(r io.Reader) resolvConf {
	var c resolvConf
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		fields := strings.Fields(line)
		if len(fields) == 0 || line[0] == '#' || line[0] == ';' {
			continue
		}
		switch args := fields[1:]; fields[0] {
		case "nameserver":
			if len(args) > 0 {
				if a, err := netip.ParseAddr(args[0]); err == nil {
					c.servers = append(c.servers, a)
				}
			}
		case "domain", "search":
			if len(args) > 0 {
				c.search = slices.DeleteFunc(args, func(s string) bool { return s == "." })
			}
		case "options":
			c.options = append(c.options, args...)
		default:
			c.other = append(c.other, strings.TrimSpace(line))
		}
	}
	return c
}

// readResolvConf reads a file; one that cannot be read is an empty one.
func readResolvConf(path string) resolvConf {
	file, err := os.Open(path)
	if err != nil {
		return resolvConf{}
	}
	defer file.Close()
	return parseResolvConf(file)
}

// hostUpstreams are the host's own name servers, those on its loopback among them: they are asked from the host.
func hostUpstreams(path string) []netip.AddrPort {
	return Upstreams(readResolvConf(path).servers)
}

// Upstreams are the servers at these addresses, on the port of DNS; nil when there are no addresses. Our own resolver is
// none.
func Upstreams(addrs []netip.Addr) []netip.AddrPort {
	if len(addrs) == 0 {
		return nil
	}
	list := []netip.AddrPort{}
	for _, a := range addrs {
		if a != resolverAddr {
			list = append(list, netip.AddrPortFrom(a, 53))
		}
	}
	return list
}

func (c resolvConf) hasOption(name string) bool {
	return slices.ContainsFunc(c.options, func(o string) bool {
		before, _, _ := strings.Cut(o, ":")
		return before == name
	})
}

func (c resolvConf) String() string {
	var b strings.Builder
	for _, s := range c.servers {
		b.WriteString("nameserver " + s.String() + "\n")
	}
	if len(c.search) > 0 {
		b.WriteString("search " + strings.Join(c.search, " ") + "\n")
	}
	if len(c.options) > 0 {
		b.WriteString("options " + strings.Join(c.options, " ") + "\n")
	}
	for _, line := range c.other {
		b.WriteString(line + "\n")
	}
	return b.String()
}
