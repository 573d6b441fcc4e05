package spec

import (
	"regexp"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func setDevices(s *specs.Spec, in *Input, _ *SecurityOpts) error {
	if in.HostConfig.Privileged {
		return setPrivilegedDevices(s, in)
	}
	rules := defaultDeviceRules()
	for _, m := range in.HostConfig.Devices {
		devs, err := in.Host.Devices(m.PathOnHost, m.PathInContainer)
		if err != nil {
			return err
		}
		s.Linux.Devices = append(s.Linux.Devices, devs...)
		for _, d := range devs {
			rules = append(rules, specs.LinuxDeviceCgroup{
				Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: m.CgroupPermissions,
			})
		}
	}
	for _, rule := range in.HostConfig.DeviceCgroupRules {
		r, err := parseDeviceRule(rule)
		if err != nil {
			return err
		}
		rules = append(rules, r)
	}
	s.Linux.Resources.Devices = rules
	return nil
}

// setPrivilegedDevices gives all devices of the host; permissions asked for single ones do not matter then.
func setPrivilegedDevices(s *specs.Spec, in *Input) error {
	all, err := in.Host.AllDevices()
	if err != nil {
		return err
	}
	s.Linux.Devices = all
	for _, m := range in.HostConfig.Devices {
		if m.PathOnHost == m.PathInContainer {
			continue
		}
		devs, err := in.Host.Devices(m.PathOnHost, m.PathInContainer)
		if err != nil {
			return err
		}
		s.Linux.Devices = append(s.Linux.Devices, devs...)
	}
	s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	return nil
}

// defaultDeviceRules: nothing but zero, null, urandom, random, tty and console; not fuse.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range []struct {
		allow        bool
		major, minor int64
	}{
		{true, 1, 5}, {true, 1, 3}, {true, 1, 9}, {true, 1, 8}, {true, 5, 0}, {true, 5, 1}, {false, 10, 229},
	} {
		rules = append(rules, specs.LinuxDeviceCgroup{
			Allow: d.allow, Type: "c", Major: &d.major, Minor: &d.minor, Access: "rwm",
		})
	}
	return rules
}

// parseDeviceRule reads "c 1:3 rwm", with * for any number.
func parseDeviceRule(rule string) (specs.LinuxDeviceCgroup, error) {
	m := regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`).FindStringSubmatch(rule)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, invalid("invalid device cgroup rule format: '%s'", rule)
	}
	major, err := deviceNumber(m[2])
	if err != nil {
		return specs.LinuxDeviceCgroup{}, invalid("invalid major value in device cgroup rule format: '%s'", rule)
	}
	minor, err := deviceNumber(m[3])
	if err != nil {
		return specs.LinuxDeviceCgroup{}, invalid("invalid minor value in device cgroup rule format: '%s'", rule)
	}
	return specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Major: &major, Minor: &minor, Access: m[4]}, nil
}

func deviceNumber(s string) (int64, error) {
	if s == "*" {
		return -1, nil
	}
	return strconv.ParseInt(s, 10, 64)
}
