package record

import (
	"fmt"
	"strconv"
	"strings"
)

// The labels that say how a container is named, without the prefix: each is read as nereid.cns.X and, where that is not
// given, as triton.cns.X.
const (
	labelServices = "services"
	labelDisable  = "disable"
	labelStatus   = "status"
	labelPTR      = "reverse_ptr"
)

// Labels that compose gives its containers.
const (
	composeService = "com.docker.compose.service"
	composeProject = "com.docker.compose.project"
	composeOneOff  = "com.docker.compose.oneoff"
)

// Service is one entry of the services label.
type Service struct {
	Name             string // a DNS label
	Port             uint16 // 0: none, and no SRV record
	Priority, Weight uint16 // of the SRV record
}

// lookup finds a label of ours by either of its names.
func lookup(labels map[string]string, name string) (key, value string, ok bool) {
	for _, prefix := range []string{"nereid.cns.", "triton.cns."} {
		if v, ok := labels[prefix+name]; ok {
			return prefix + name, strings.TrimSpace(v), true
		}
	}
	return "", "", false
}

// ParseServices reads the value of the services label: entries separated by commas, each name[:port][:key=value]… with
// the keys port, priority and weight, of which the last one counts. An entry that cannot be read is left out, and its
// error returned.
func ParseServices(value string) (services []Service, errs []error) {
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		s, err := parseService(entry)
		if err != nil {
			errs = append(errs, fmt.Errorf("service %q: %w", entry, err))
			continue
		}
		services = append(services, s)
	}
	return services, errs
}

func parseService(entry string) (Service, error) {
	parts := strings.Split(entry, ":")
	name, err := Label(parts[0])
	if err != nil {
		return Service{}, err
	}
	s := Service{Name: name}
	for _, p := range parts[1:] {
		key, value, ok := strings.Cut(p, "=")
		if !ok {
			key, value = "port", p
		}
		if err := s.set(key, value); err != nil {
			return Service{}, err
		}
	}
	return s, nil
}

func (s *Service) set(key, value string) error {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return fmt.Errorf("%s %q is no number from 0 to 65535", key, value)
	}
	switch key {
	case "port":
		if n == 0 {
			return fmt.Errorf("port 0 cannot be reached")
		}
		s.Port = uint16(n)
	case "priority":
		s.Priority = uint16(n)
	case "weight":
		s.Weight = uint16(n)
	default:
		return fmt.Errorf("key %q is not one of port, priority, weight", key)
	}
	return nil
}

// parseSwitch reads a label that is on or off; given without a value it is on.
func parseSwitch(value string) (bool, error) {
	if value == "" {
		return true, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", value)
	}
	return on, nil
}
