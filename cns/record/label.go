package record

import (
	"fmt"
	"strconv"
	"strings"
)

// The labels that say how a container is named, without the prefix: each is read as nereid.cns.X and, where that is not
// given, as triton.cns.X.
const (
	labelServices  = "services"
	labelDisable   = "disable"
	labelStatus    = "status"
	labelPTR       = "reverse_ptr"
	labelChallenge = "acme-challenge"
)

// Labels that compose gives its containers.
const (
	composeService = "com.docker.compose.service"
	composeProject = "com.docker.compose.project"
	composeOneOff  = "com.docker.compose.oneoff"
)

// prefixes of our labels; the second are Triton's.
var prefixes = [...]string{"nereid.cns.", "triton.cns."}

// Service is one entry of the services label.
type Service struct {
	Name             string // a DNS label
	Port             uint16 // 0: none, and no SRV record
	Priority, Weight uint16 // of the SRV record
}

// lookup finds a label of ours by either of its names.
func lookup(labels map[string]string, name string) (key, value string, ok bool) {
	for _, prefix := range prefixes {
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
	for i, p := range parts[1:] {
		key, value, ok := strings.Cut(p, "=")
		switch {
		case !ok && i > 0: // the port without its key comes right after the name
			return Service{}, fmt.Errorf("%q is not key=value", p)
		case !ok:
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
	switch key {
	case "port", "priority", "weight":
		if err != nil {
			return fmt.Errorf("%s %q is no number from 0 to 65535", key, value)
		}
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

// disabled reads the label that takes a container out: whatever is not false does, as Triton has it, for who asks for
// it in unclear words must not be published.
func disabled(value string) (bool, error) {
	if value == "" {
		return true, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return true, fmt.Errorf("%q is neither true nor false; taken for true", value)
	}
	return on, nil
}

// Status reads whether services may have a container: up or down.
func Status(value string) (down bool, err error) {
	switch value {
	case "up":
		return false, nil
	case "down":
		return true, nil
	}
	return false, fmt.Errorf("%q is neither up nor down", value)
}

// Challenges reads the value of the acme-challenge label: key authorizations as ACME has them in DNS (RFC 8555, section
// 8.4: base64url), several separated by commas, as a certificate for a name and for *.name needs two.
func Challenges(value string) ([]string, error) {
	var all []string
	for c := range strings.SplitSeq(value, ",") {
		c = strings.TrimSpace(c)
		switch {
		case c == "":
			continue
		case len(c) > maxString:
			return nil, fmt.Errorf("a challenge has at most %d characters, not %d", maxString, len(c))
		case strings.Trim(c, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=") != "":
			return nil, fmt.Errorf("%q is no URL-safe base64", c)
		}
		all = append(all, c)
	}
	return all, nil
}

// CheckLabels says what is wrong with the labels that name a container: what create warns of.
func CheckLabels(labels map[string]string) []Problem {
	b := &builder{in: Instance{Labels: labels}}
	b.switches()
	b.labelServices()
	if key, v, ok := lookup(labels, labelPTR); ok {
		if _, err := FQDN(v); err != nil {
			b.problem(key, err)
		}
	}
	b.challenges()
	for key := range labels {
		if name, ours := ownLabel(key); ours && !known(name) {
			b.problem(key, fmt.Errorf("there is no such label of the name service"))
		}
	}
	sortProblems(b.problems)
	return b.problems
}

func ownLabel(key string) (name string, ours bool) {
	for _, prefix := range prefixes {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			return name, true
		}
	}
	return "", false
}

func known(name string) bool {
	switch name {
	case labelServices, labelDisable, labelStatus, labelPTR, labelChallenge:
		return true
	}
	return false
}
