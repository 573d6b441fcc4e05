package record

import "slices"

// wanted is a service's name below svc, and its ports.
type wanted struct {
	labels []string
	Service
}

// labelServices are those that the container's label asks for.
func (b *builder) labelServices() []wanted {
	key, v, ok := lookup(b.in.Labels, labelServices)
	if !ok {
		return nil
	}
	parsed, errs := ParseServices(v)
	for _, err := range errs {
		b.problem(key, err)
	}
	var all []wanted
	for _, s := range parsed {
		all = append(all, wanted{labels: []string{s.Name}, Service: s})
	}
	return all
}

// composeServices are SERVICE and SERVICE.PROJECT for what compose started to serve, not for a single command.
func (b *builder) composeServices() []wanted {
	word, ok := b.in.Labels[composeService]
	if !ok {
		return nil
	}
	if word := b.in.Labels[composeOneOff]; word != "" {
		if once, err := disabled(word); err == nil && once {
			b.because(composeService, "a one-off command of compose is no part of its service")
			return nil
		}
	}
	name, err := Fold(word)
	if err != nil {
		b.problem(composeService, err)
		return nil
	}
	all := []wanted{{labels: []string{name}}}
	word, ok = b.in.Labels[composeProject]
	if !ok {
		return all
	}
	project, err := Fold(word)
	if err != nil {
		b.problem(composeProject, err)
		return all
	}
	return append(all, wanted{labels: []string{name, project}})
}

// service puts the container into its services, when it can serve.
func (b *builder) service(services []wanted) {
	for _, s := range services {
		switch {
		case b.down && b.in.Down:
			b.why(s, "taken out at run time, status down")
			continue
		case b.down:
			b.why(s, "taken out by label, status down")
			continue
		case b.in.NotServing != "":
			b.why(s, "%s", b.in.NotServing)
			continue
		}
		ports := b.ports(s)
		if b.zone.Outer && s.Port != 0 && len(ports) == 0 {
			b.why(s, "its port %d is not published", s.Port)
			continue
		}
		name, err := Join(b.suffix, append(slices.Clone(s.labels), "svc")...)
		if err != nil {
			b.problem("service "+s.labels[0], err)
			continue
		}
		b.enter(name, b.addresses())
		if b.primary == "" || len(b.addresses()) == 0 {
			continue
		}
		for _, port := range ports {
			b.add(Record{Name: name, Type: SRV, TTL: b.zone.TTL, Target: b.primary, Port: port, Priority: s.Priority, Weight: s.Weight})
		}
	}
}

// ports are where a service answers: at the port of its label or, without one, at all that are published; in an outer
// zone as the host has them.
func (b *builder) ports(s wanted) []uint16 {
	if s.Port != 0 && (b.in.AtHost || !b.zone.Outer) {
		return []uint16{s.Port}
	}
	var found []uint16
	for _, p := range b.in.Ports {
		port := p.Container
		if b.zone.Outer {
			port = p.Host
		}
		if (s.Port == 0 || s.Port == p.Container) && !slices.Contains(found, port) {
			found = append(found, port)
		}
	}
	slices.Sort(found)
	return found
}
