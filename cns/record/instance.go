package record

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Zone is where a container is to be named, and how.
type Zone struct {
	Apex string // fully qualified: "dc1.cns.internal."
	TTL  uint32 // of all records, in seconds
	// Outer zones have the addresses of hosts and the ports published there; inner zones the containers' own.
	Outer bool
	// PerNetwork: an instance also has a name for each network that an account has made, NETWORK.NAME.inst.….
	PerNetwork bool
}

// Endpoint is where an instance can be reached: on a network, or at a host.
type Endpoint struct {
	Network string // empty for the host's
	// Own: the account made the network, so that its name says something to people.
	Own bool
	// Pointer: the PTR records of its addresses lead into this zone.
	Pointer   bool
	Addresses []netip.Addr // of either family
}

// Port is a published port.
type Port struct {
	Container, Host uint16
}

// Instance is what the naming rules need to know of a container.
type Instance struct {
	Account string
	Name    string // as people gave it
	ID      string
	Labels  map[string]string
	// Endpoints are those that the zone is to list, in the order of attachment.
	Endpoints []Endpoint
	Ports     []Port
	// AtHost: it shares its host's network, so every port is published.
	AtHost bool
	// Running: a process exists. NotServing says in words why it may not answer all the same: paused, not healthy yet;
	// empty when it may.
	Running    bool
	NotServing string
	// Unlisted says in words why the zone lists no address of it.
	Unlisted string
	// Down: taken out of its services at run time, whatever the label says; Up: put back. Challenges are the ACME
	// challenges given at run time.
	Down, Up   bool
	Challenges []string
}

// Problem says why a container lacks a name that somebody may expect.
type Problem struct {
	What string // label, name or service concerned
	Why  string
}

// String is the problem in one line.
func (p Problem) String() string { return p.What + ": " + p.Why }

func sortProblems(all []Problem) {
	slices.SortStableFunc(all, func(a, b Problem) int { return cmp.Compare(a.What, b.What) })
}

// idDigits is how many digits of the id name an instance: as many as lists show. All 64 do not fit into a DNS label.
const idDigits = 12

// Build says which records a container has in a zone, and which it lacks and why. A container that is not running has
// none. The order of the records is fixed.
func Build(z Zone, in Instance) ([]Record, []Problem) {
	b := &builder{zone: z, in: in}
	b.switches()
	account, err := Label(in.Account)
	if err != nil {
		b.problem("account", err)
		return nil, b.problems
	}
	b.suffix = account + "." + z.Apex
	services := append(b.labelServices(), b.composeServices()...) // for their problems, also of one not to be named now
	b.challenges()
	switch {
	case b.disabled:
		b.because("instance", "disabled by label")
	case !in.Running:
		b.because("instance", "not running")
	case len(b.addresses()) == 0 && in.Unlisted != "":
		b.because("instance", in.Unlisted)
	default:
		b.instance()
		b.service(services)
		b.pointer()
		b.monitor()
	}
	return b.records, b.problems
}

// builder collects the records of one container.
type builder struct {
	zone           Zone
	in             Instance
	suffix         string // of the account
	disabled, down bool
	challenge      []string
	primary        string // the name that PTR and SRV records lead to
	records        []Record
	problems       []Problem
}

func (b *builder) problem(what string, err error) { b.because(what, err.Error()) }

func (b *builder) because(what, why string) {
	b.problems = append(b.problems, Problem{What: what, Why: why})
}

// switches reads the labels that turn names off.
func (b *builder) switches() {
	if key, v, ok := lookup(b.in.Labels, labelDisable); ok {
		var err error
		if b.disabled, err = disabled(v); err != nil {
			b.problem(key, err)
		}
	}
	if key, v, ok := lookup(b.in.Labels, labelStatus); ok {
		var err error
		if b.down, err = Status(v); err != nil {
			b.problem(key, err)
		}
	}
	b.down = (b.down || b.in.Down) && !b.in.Up
}

func (b *builder) challenges() {
	b.challenge = b.in.Challenges
	if key, v, ok := lookup(b.in.Labels, labelChallenge); ok {
		given, err := Challenges(v)
		if err != nil {
			b.problem(key, err)
		}
		b.challenge = append(slices.Clone(given), b.challenge...)
	}
}

// addresses are all that the zone is to list.
func (b *builder) addresses() []netip.Addr {
	var all []netip.Addr
	for _, e := range b.in.Endpoints {
		all = append(all, e.Addresses...)
	}
	return all
}

// instance names the container itself, by name and by id.
func (b *builder) instance() {
	for _, label := range b.ownLabels() {
		name, err := Join(b.suffix, label, "inst")
		if err != nil {
			b.problem("name", err)
			continue
		}
		if b.primary == "" {
			b.primary = name
		}
		b.enter(name, b.addresses())
		if b.zone.PerNetwork {
			b.perNetwork(name)
		}
	}
}

// ownLabels are the labels of the container's name and of its id.
func (b *builder) ownLabels() []string {
	var labels []string
	if label, err := Fold(b.in.Name); err != nil {
		b.problem("name", err)
	} else {
		labels = append(labels, label)
	}
	if id, err := Label(b.in.ID[:min(idDigits, len(b.in.ID))]); err != nil {
		b.problem("id", err)
	} else {
		labels = append(labels, id)
	}
	return labels
}

// perNetwork names the addresses on each network of the account's own, as Triton does for fabrics.
func (b *builder) perNetwork(name string) {
	for _, e := range b.in.Endpoints {
		if !e.Own {
			continue
		}
		label, err := Fold(e.Network)
		if err != nil {
			b.problem("network "+e.Network, err)
			continue
		}
		full, err := Join(name, label)
		if err != nil {
			b.problem("network "+e.Network, err)
			continue
		}
		b.enter(full, e.Addresses)
	}
}

// enter gives a name addresses, a text that says whose they are, and what ACME wants to see.
func (b *builder) enter(name string, addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	for _, a := range addrs {
		b.add(Address(name, b.zone.TTL, a))
	}
	b.add(Record{Name: name, Type: TXT, TTL: b.zone.TTL, Data: b.in.ID})
	for _, c := range b.challenge {
		full, err := Join(name, "_acme-challenge")
		if err != nil {
			b.problem(labelChallenge, err)
			return
		}
		b.add(Record{Name: full, Type: TXT, TTL: b.zone.TTL, Data: c})
	}
}

// Address is the A or AAAA record of an address.
func Address(name string, ttl uint32, a netip.Addr) Record {
	r := Record{Name: name, Type: A, TTL: ttl, Addr: a.Unmap().WithZone("")}
	if r.Addr.Is6() {
		r.Type = AAAA
	}
	return r
}

// add enters a record once.
func (b *builder) add(r Record) {
	if !slices.Contains(b.records, r) {
		b.records = append(b.records, r)
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
	for _, e := range b.in.Endpoints {
		if !e.Pointer {
			continue
		}
		for _, a := range e.Addresses {
			b.add(Record{Name: ReverseName(a), Type: PTR, TTL: b.zone.TTL, Target: target})
		}
	}
}

// monitor is where Triton has an alias per instance that leads to whoever has its metrics: here, to the hosts.
func (b *builder) monitor() {
	if b.primary == "" || len(b.addresses()) == 0 {
		return
	}
	name, err := Join(b.zone.Apex, b.in.ID[:min(idDigits, len(b.in.ID))], Monitors)
	if err != nil {
		b.problem("id", err)
		return
	}
	b.add(Record{Name: name, Type: CNAME, TTL: b.zone.TTL, Target: Monitors + "." + b.zone.Apex})
}

// Monitors is the label, right below a zone's apex, of the hosts that serve metrics.
const Monitors = "cmon"

// why makes a reason of a service's.
func (b *builder) why(s wanted, format string, args ...any) {
	b.because("service "+s.labels[0], fmt.Sprintf(format, args...))
}

// Names are the names of a container and of its services as they would be if it ran, served and had an address: for
// those who ask why one is not there.
func Names(z Zone, in Instance) []string {
	b := &builder{zone: z, in: in}
	account, err := Label(in.Account)
	if err != nil {
		return nil
	}
	b.suffix = account + "." + z.Apex
	var all []string
	add := func(labels ...string) {
		if name, err := Join(b.suffix, labels...); err == nil {
			all = append(all, name)
		}
	}
	for _, label := range b.ownLabels() {
		add(label, "inst")
	}
	for _, s := range append(b.labelServices(), b.composeServices()...) {
		add(append(slices.Clone(s.labels), "svc")...)
	}
	return all
}
