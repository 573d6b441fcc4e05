package network

import (
	"errors"
	"os"
	"strings"
)

const forwarding6 = "ipv6/conf/all/forwarding"

// forwardIPv6 has the host route IPv6, from the first network on that has it. A router takes no address and no route from
// the routers around it any more: interfaces that did go on to, so that the host keeps its own way out.
func forwardIPv6() error {
	if on, err := os.ReadFile("/proc/sys/net/" + forwarding6); err != nil || strings.TrimSpace(string(on)) == "1" {
		return nil // there already, or a kernel without IPv6
	}
	links, err := os.ReadDir("/proc/sys/net/ipv6/conf")
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		name := "ipv6/conf/" + l.Name() + "/accept_ra"
		if ra, err := os.ReadFile("/proc/sys/net/" + name); err == nil && strings.TrimSpace(string(ra)) == "1" {
			errs = append(errs, sysctl(name, "2", true))
		}
	}
	return errors.Join(append(errs, sysctl(forwarding6, "1", true))...)
}
