package nereid

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// AdminPrefix begins the path of every administrative route. They lie beside Docker's on the same socket.
const AdminPrefix = "/nereid/v1"

// ContentPrefix is where a host serves content of images to other hosts, as a registry does.
const ContentPrefix = "/nereid/content"

// Headers of content between hosts.
const (
	// AskerHeader names the host that asks.
	AskerHeader = "Nereid-Asker"
	// GivenHeader names, with commas between them, hosts that were given the same a moment ago: who is refused it for now
	// may ask those.
	GivenHeader = "Nereid-Given-To"
)

// HostState is how a host is seen from the endpoint that was asked.
type HostState string

// The states of a host. Only suspect and unreachable are rumour: they never delete anything.
const (
	HostAlive       HostState = "alive"
	HostSuspect     HostState = "suspect"     // did not answer lately
	HostUnreachable HostState = "unreachable" // has not answered for some time
	HostLeft        HostState = "left"        // its daemon was stopped
)

// Gone tells whether requests to a host are pointless now.
func (s HostState) Gone() bool { return s == HostUnreachable || s == HostLeft }

// HostStatus is what administrators are told of a host.
type HostStatus struct {
	Name       Host
	State      HostState
	Address    string
	Server     bool // holds a copy of the state
	Draining   bool // gets no new containers
	Version    string
	CPUs       int
	Memory     int64 // bytes
	Containers int
	Running    int
	Labels     map[string]string
	OS         string
	Kernel     string
	StartedAt  time.Time // of its daemon
	Endpoint   bool      // the host that answered
	DataPath   *DataPath // its ways to the other hosts; nil: it tried none
}

// DataPath is how a host's packets get to the other hosts by the fabric, as it found by trying.
type DataPath struct {
	MTU     int             `json:",omitempty"` // what its link lets a packet of a network have, in bytes
	Trouble map[Host]string `json:",omitempty"` // what is wrong with the way to a host: "no answer over UDP 4789", "mtu 1400 < 1450"
	More    int             `json:",omitempty"` // hosts with trouble that are not named
}

// String is "ok", "-" when nothing was tried, or what is wrong with the first way that is not.
func (p *DataPath) String() string {
	switch {
	case p == nil:
		return "-"
	case len(p.Trouble) == 0:
		return "ok"
	}
	first := slices.Min(slices.Collect(maps.Keys(p.Trouble)))
	s := fmt.Sprintf("%s: %s", first, p.Trouble[first])
	if more := len(p.Trouble) - 1 + p.More; more > 0 {
		s += fmt.Sprintf(" (and %d more)", more)
	}
	return s
}

// DaemonVersion is which software answers.
type DaemonVersion struct {
	Host       Host
	Version    string
	APIVersion string // of Docker's API
	Commit     string `json:",omitempty"`
	Built      string `json:",omitempty"`
}

// JoinToken lets hosts join a fleet for a while.
type JoinToken struct {
	Token   string
	Peer    string // ADDR:PORT where a host of the fleet answers
	Server  bool
	Expires time.Time
}

// TokenRequest asks for one.
type TokenRequest struct {
	Server bool
	Life   time.Duration // 0: a day
	Rotate bool          // ends all tokens made before
}

// LabelRequest changes a host's labels; an empty value takes one away.
type LabelRequest struct{ Labels map[string]string }

// Drained tells what became of the containers that ran on a host that gets no more.
type Drained struct {
	Host  Host
	Moved []Moved
	Stay  []Stays
}

// Moved is a container that another host has now.
type Moved struct {
	ID      ContainerID
	Name    string
	Account Account
	To      Host
}

// Stays is a container that stays where it is.
type Stays struct {
	ID      ContainerID
	Name    string
	Account Account
	Why     string
}
