package cnstest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Zones of the fleet.
const (
	Inner  = "dc1.cns.internal." // the default
	Outer  = "ext.example.com."  // signed, behind a hidden primary
	DMZ    = "dmz.example.com."  // of one network
	Serial = 42
)

// Big is how many containers the service "big" has: more than fit into a UDP answer.
const Big = 100

// Zones are those of a fleet whose containers are in every state that names depend on. The signatures of each call are
// made with another key, as of an epoch.
func Zones(epoch int64) (*zone.Set, *sign.Key, error) {
	b, err := publish.NewBuilder(publish.Config{Host: "h1", DC: "dc1", Zone: "cns.internal"})
	if err != nil {
		return nil, nil, err
	}
	key, private, err := sign.Generate()
	if err != nil {
		return nil, nil, err
	}
	changes := []state.Change{
		{New: &state.Host{Name: "h1", Advertise: addr("192.0.2.1")}},
		{New: &state.Host{Name: "h2", Advertise: addr("192.0.2.2"), Labels: map[string]string{"nereid.cns.public": "198.51.100.2,2001:db8::2"}}},
		{New: &state.Host{Name: "h3", Advertise: addr("192.0.2.3")}},
		{New: &state.Absence{Host: "h3", By: "h1"}},
		network("n1", "bridge", true, "10.1.2.0/24", "fd00:1::/64"),
		network("n2", "shop_default", false, "10.2.0.0/22"),
		network("n3", "dmz", false, "10.3.0.0/24"),
		{New: &state.Zone{
			Apex: Outer, Kind: state.ZoneOuter, TTL: 60, NegativeTTL: 10, HiddenPrimary: true, DNSSEC: true, Epoch: epoch,
			Servers: []string{"ns1.example.com.", "ns2.example.com."}, Mailbox: "ops.example.com.",
		}},
		{New: &state.ZoneKey{Apex: Outer, Tag: key.Tag(), Private: private}},
		{New: &state.Zone{Apex: DMZ, Kind: state.ZoneInner, Networks: []string{"dmz"}, Servers: []string{"ns2.example.com."}}},
	}
	for _, c := range containers() {
		changes = append(changes, state.Change{New: c})
	}
	for name, naming := range map[string]state.Naming{
		"down": {Status: "down"}, "up": {Status: "up"}, "late": {Challenges: []string{"late-token"}},
	} {
		naming.Account, naming.Container = nereid.Admin, id(name)
		changes = append(changes, state.Change{New: &naming})
	}
	set, _ := b.Apply(changes, Serial)
	return set, key, nil
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func network(id nereid.NetworkID, name string, predefined bool, subnets ...string) state.Change {
	n := &state.Network{Account: nereid.Admin, ID: id, Name: name, Predefined: predefined}
	for _, s := range subnets {
		n.Subnets = append(n.Subnets, state.Subnet{Prefix: netip.MustParsePrefix(s)})
	}
	return state.Change{New: n}
}

// id is made of a name: its octets in hex, and zeros.
func id(name string) nereid.ContainerID {
	return nereid.ContainerID(strings.ReplaceAll(fmt.Sprintf("%-64x", name), " ", "0"))
}

// running is a running container on the default network at 10.1.2.N.
func running(name string, n byte, change func(*state.Container)) *state.Container {
	c := &state.Container{
		Account: nereid.Admin, ID: id(name), Name: name, Host: "h1",
		Config: &container.Config{Labels: map[string]string{}}, State: state.RunState{Status: state.StatusRunning},
		Networks: map[string]*state.Endpoint{"bridge": {Network: "n1", Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 2, n}), 24)}},
	}
	if change != nil {
		change(c)
	}
	return c
}

// label is a change that gives a container labels, KEY=VALUE.
func label(words ...string) func(*state.Container) {
	return func(c *state.Container) {
		for _, w := range words {
			key, value, _ := strings.Cut(w, "=")
			c.Config.Labels[key] = value
		}
	}
}

func health(status string) func(*state.Container) {
	return func(c *state.Container) { c.State.Health = &container.Health{Status: status} }
}

func status(s string) func(*state.Container) {
	return func(c *state.Container) { c.State.Status = s }
}

func on(host nereid.Host) func(*state.Container) { return func(c *state.Container) { c.Host = host } }

// port publishes a port of the container, HOSTIP:HOSTPORT.
func port(at string, inside uint16) func(*state.Container) {
	return func(c *state.Container) {
		ap := netip.MustParseAddrPort(at)
		c.Ports = append(c.Ports, state.HostPort{Proto: "tcp", HostIP: ap.Addr(), HostPort: ap.Port(), ContainerPort: inside})
	}
}

// at puts the container on one network only.
func at(name string, net nereid.NetworkID, address string) func(*state.Container) {
	return func(c *state.Container) {
		c.Networks = map[string]*state.Endpoint{}
		also(name, net, address)(c)
	}
}

// also puts the container on a network more.
func also(name string, net nereid.NetworkID, address string) func(*state.Container) {
	return func(c *state.Container) {
		e := c.Networks[name]
		if e == nil {
			e = &state.Endpoint{Network: net, Order: len(c.Networks)}
			c.Networks[name] = e
		}
		if p := netip.MustParsePrefix(address); p.Addr().Is4() {
			e.Address = p
		} else {
			e.Address6 = p
		}
	}
}

func all(changes ...func(*state.Container)) func(*state.Container) {
	return func(c *state.Container) {
		for _, change := range changes {
			change(c)
		}
	}
}

func containers() []*state.Container {
	const services = "nereid.cns.services="
	list := []*state.Container{
		running("web1", 3, all(label(services+"web:80"), port("0.0.0.0:8080", 80))),
		running("web2", 4, all(label(services+"web:80:priority=10:weight=5"), port("0.0.0.0:8081", 80), port("[::]:8081", 80), on("h2"))),
		running("web3", 5, all(label(services+"web:80,lone:9"), port("0.0.0.0:8082", 80), port("0.0.0.0:8083", 9), on("h3"))),
		running("db", 0, all(at("shop_default", "n2", "10.2.0.2/22"), also("shop_default", "n2", "fd00:2::2/64"),
			label("com.docker.compose.service=db", "com.docker.compose.project=shop"))),
		running("db2", 0, all(at("shop_default", "n2", "10.2.1.2/22"), label("com.docker.compose.service=my_db", "com.docker.compose.project=my_shop"))),
		running("once", 0, all(at("shop_default", "n2", "10.2.0.3/22"),
			label("com.docker.compose.service=job", "com.docker.compose.project=shop", "com.docker.compose.oneoff=True"))),
		running("Quirky_Turing", 6, nil),
		running("sick", 7, all(label(services+"sick:1"), health(container.Unhealthy))),
		running("slow", 8, all(label(services+"slow:1"), health(container.Starting))),
		running("well", 9, all(label(services+"well:1"), health(container.Healthy))),
		running("frozen", 10, all(label(services+"frozen:1"), status(state.StatusPaused))),
		running("gone", 11, all(label(services+"gone:1"), status(state.StatusExited))),
		running("again", 12, all(label(services+"again:1"), status(state.StatusRestarting))),
		running("drained", 13, label(services+"drained:1", "nereid.cns.status=down")),
		running("down", 14, label(services+"down:1")),
		running("up", 15, label(services+"up:1", "triton.cns.status=down")),
		running("off", 16, label(services+"off:1", "nereid.cns.disable=true")),
		running("notoff", 17, label(services+"notoff:1", "triton.cns.disable=false")),
		running("mail", 18, label("nereid.cns.reverse_ptr=Mail.Example.com")),
		running("acme", 19, label(services+"acme:443", "triton.cns.acme-challenge=token-1,token_2")),
		running("late", 20, nil),
		running("triton", 21, label("triton.cns.services=old:1234,old:1235,bar")),
		running("both", 22, label(services+"ours:1", "triton.cns.services=theirs:1")),
		running("keys", 23, label(services+" last:port=1:priority=1:weight=1:port=2:priority=3:weight=4 ,, Upper:7")),
		running("bad", 24, label(services+"a_b:1,good:1,x:70000,y:color=1,z:0")),
		running("six", 0, all(at("bridge", "n1", "fd00:1::6/64"), label(services+"six:6"))),
		running("dual", 25, all(also("bridge", "n1", "fd00:1::25/64"), label(services+"six:7"))),
		running("front", 26, all(also("dmz", "n3", "10.3.0.26/24"), label(services+"front:443"))),
		running("ports", 27, all(label(services+"ports"), port("0.0.0.0:9443", 443), port("0.0.0.0:9080", 80))),
		running("inside", 28, all(label(services+"inside:80"), port("127.0.0.1:9081", 80))),
		running("other", 29, all(label(services+"other:80"), port("0.0.0.0:9444", 443))),
		running("one", 30, all(label(services+"one:80"), port("203.0.113.9:80", 80))),
		running("host", 0, func(c *state.Container) {
			c.HostConfig, c.Networks = &container.HostConfig{NetworkMode: "host"}, nil
			c.Config.Labels["nereid.cns.services"] = "metal:9100"
		}),
		running("web", 31, all(label(services+"web:80"), func(c *state.Container) { c.Account = "team1" })),
	}
	for i := range Big {
		list = append(list, running(fmt.Sprintf("big%d", i), byte(100+i), label(services+"big")))
	}
	return list
}
