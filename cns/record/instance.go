package record

import (
	"fmt"
	"net/netip"
)

// Instance is what the naming rules need to know of a container.
type Instance struct {
	Account string
	Name    string // as people gave it
	ID      string
	Labels  map[string]string
	// Addresses are those on its networks, of either family, in the order of attachment.
	Addresses []netip.Addr
	// Running: a process exists. Serving: it may answer, that is, it is not paused and, where there is a health check,
	// healthy.
	Running, Serving bool
	// NotServing says in words why it does not serve.
	NotServing string
}

// Problem says why a container lacks a name that somebody may expect.
type Problem struct {
	What string // label, name or service concerned
	Why  string
}

// String is the problem in one line.
func (p Problem) String() string { return p.What + ": " + p.Why }

// idDigits is how many digits of the id name an instance: as many as lists show. All 64 do not fit into a DNS label.
const idDigits = 12

// Build says which records a container has, below the suffix (fully qualified, such as "dc1.cns.internal."), and which
// it lacks and why. A container that is not running has none. The order of the records is fixed.
func Build(suffix string, in Instance) ([]Record, []Problem) {
	b := &builder{in: in}
	b.switches()
	account, err := Label(in.Account)
	if err != nil {
		b.problem("account", err)
		return nil, b.problems
	}
	b.suffix = account + "." + suffix
	services := b.services() // for their problems, also of one that is not to be named now
	switch {
	case b.disabled:
		b.problems = append(b.problems, Problem{"instance", "disabled by label"})
	case !in.Running:
		b.problems = append(b.problems, Problem{"instance", "not running"})
	default:
		b.instance()
		b.service(services)
		b.pointer()
	}
	return b.records, b.problems
}

// Problems are the reasons of Build alone: why a container lacks names.
func Problems(suffix string, in Instance) []Problem {
	_, problems := Build(suffix, in)
	return problems
}

// builder collects the records of one container.
type builder struct {
	in             Instance
	suffix         string // of the account
	disabled, down bool
	primary        string // the name that PTR and SRV records lead to
	records        []Record
	problems       []Problem
}

func (b *builder) problem(what string, err error) {
	b.problems = append(b.problems, Problem{What: what, Why: err.Error()})
}

// switches reads the labels that turn names off.
func (b *builder) switches() {
	if key, v, ok := lookup(b.in.Labels, labelDisable); ok {
		on, err := parseSwitch(v)
		if err != nil {
			b.problem(key, err)
		}
		b.disabled = on
	}
	if key, v, ok := lookup(b.in.Labels, labelStatus); ok {
		switch v {
		case "down":
			b.down = true
		case "up":
		default:
			b.problem(key, fmt.Errorf("%q is neither up nor down", v))
		}
	}
}

// instance names the container itself, by name and by id.
func (b *builder) instance() {
	var names []string
	if label, err := Label(b.in.Name); err != nil {
		b.problem("name", err)
	} else {
		names = append(names, label)
	}
	if id, err := Label(b.in.ID[:min(idDigits, len(b.in.ID))]); err != nil {
		b.problem("id", err)
	} else {
		names = append(names, id)
	}
	for _, label := range names {
		name, err := Join(b.suffix, label, "inst")
		if err != nil {
			b.problem("name", err)
			continue
		}
		if b.primary == "" {
			b.primary = name
		}
		b.addresses(name)
	}
}

// addresses enters a name with all of the container's addresses.
func (b *builder) addresses(name string) {
	for _, a := range b.in.Addresses {
		r := Record{Name: name, Type: A, TTL: TTL, Addr: a.Unmap()}
		if r.Addr.Is6() {
			r.Type = AAAA
		}
		b.add(r)
	}
}

// add enters a record once.
func (b *builder) add(r Record) {
	for _, have := range b.records {
		if have == r {
			return
		}
	}
	b.records = append(b.records, r)
}

// wanted is a service's name below svc, and its ports.
type wanted struct {
	labels []string
	Service
}

// services are those that the container's labels ask for.
func (b *builder) services() []wanted {
	var all []wanted
	if key, v, ok := lookup(b.in.Labels, labelServices); ok {
		parsed, errs := ParseServices(v)
		for _, err := range errs {
			b.problem(key, err)
		}
		for _, s := range parsed {
			all = append(all, wanted{labels: []string{s.Name}, Service: s})
		}
	}
	return append(all, b.composeServices()...)
}

// composeServices are SERVICE and SERVICE.PROJECT for what compose started to serve, not for a single command.
func (b *builder) composeServices() []wanted {
	word, ok := b.in.Labels[composeService]
	if !ok {
		return nil
	}
	if once, err := parseSwitch(b.in.Labels[composeOneOff]); err == nil && once && b.in.Labels[composeOneOff] != "" {
		b.problems = append(b.problems, Problem{composeService, "a one-off command of compose is no part of its service"})
		return nil
	}
	name, err := Label(word)
	if err != nil {
		b.problem(composeService, err)
		return nil
	}
	all := []wanted{{labels: []string{name}}}
	word, ok = b.in.Labels[composeProject]
	if !ok {
		return all
	}
	project, err := Label(word)
	if err != nil {
		b.problem(composeProject, err)
		return all
	}
	return append(all, wanted{labels: []string{name, project}})
}

// service puts the container into its services, when it can serve.
func (b *builder) service(services []wanted) {
	reason := ""
	switch {
	case b.down:
		reason = "taken out by label, status down"
	case !b.in.Serving:
		reason = b.in.NotServing
	}
	for _, s := range services {
		if reason != "" {
			b.problems = append(b.problems, Problem{"service " + s.labels[0], reason})
			continue
		}
		name, err := Join(b.suffix, append(append([]string{}, s.labels...), "svc")...)
		if err != nil {
			b.problem("service "+s.labels[0], err)
			continue
		}
		b.addresses(name)
		if s.Port != 0 && b.primary != "" && len(b.in.Addresses) > 0 {
			b.add(Record{Name: name, Type: SRV, TTL: TTL, Target: b.primary, Port: s.Port, Priority: s.Priority, Weight: s.Weight})
		}
	}
}

// pointer leads from the addresses back to the container, or to what its label says.
func (b *builder) pointer() {
	target := b.primary
	if key, v, ok := lookup(b.in.Labels, labelPTR); ok {
		name, err := FQDN(v)
		if err != nil {
			b.problem(key, err)
		} else {
			target = name
		}
	}
	if target == "" {
		return
	}
	for _, a := range b.in.Addresses {
		b.add(Record{Name: ReverseName(a), Type: PTR, TTL: TTL, Target: target})
	}
}
