package network

import (
	"fmt"
	"strings"
)

// optionSysctls is Docker's endpoint option for settings of an interface: "net.ipv4.conf.IFNAME.log_martians=1,…".
const optionSysctls = "com.docker.network.endpoint.sysctls"

// CheckSysctls refuses settings that are not of one interface. Errors are Docker's words.
func CheckSysctls(options map[string]string) error {
	_, err := readSysctls(options)
	return err
}

// interfaceSysctl is "net.X.Y.IFNAME.Z=V".
type interfaceSysctl struct{ family, kind, name, value string }

func readSysctls(options map[string]string) (list []interfaceSysctl, err error) {
	all, given := options[optionSysctls]
	if !given {
		return nil, nil
	}
	for _, s := range strings.Split(all, ",") {
		key, value, assigned := strings.Cut(s, "=")
		parts := strings.SplitN(key, ".", 5)
		if !assigned || len(parts) != 5 || parts[0] != "net" || strings.Contains(key, "/") || strings.Contains(key, "..") ||
			parts[1] != "ipv4" && parts[1] != "ipv6" && parts[1] != "mpls" || !strings.EqualFold(parts[3], "ifname") {
			return nil, fmt.Errorf("unrecognised network interface sysctl '%s'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', "+
				"'X' must be 'ipv4', 'ipv6' or 'mpls'", s)
		}
		list = append(list, interfaceSysctl{parts[1], parts[2], parts[4], value})
	}
	return list, nil
}

// sysctls sets what the user asked for of the interface. It runs in the sandbox.
func (p plug) sysctls() error {
	list, err := readSysctls(p.Endpoint.DriverOpts)
	if err != nil {
		return err
	}
	for _, s := range list {
		path := strings.Join([]string{s.family, s.kind, p.inside, strings.ReplaceAll(s.name, ".", "/")}, "/")
		if err := sysctl(path, s.value, false); err != nil {
			return fmt.Errorf("set net.%s.%s.%s.%s: %w", s.family, s.kind, p.inside, s.name, err)
		}
	}
	return nil
}
