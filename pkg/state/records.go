package state

import (
	"net/netip"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Revision is an etcd revision: the order of all changes in the fleet.
type Revision int64

// Meta is what every record carries beside its value. It is filled by the store and never encoded in the value.
type Meta struct {
	// Rev is the revision of the record's last change, 0 for one not stored yet. Update is conditional on it.
	Rev Revision `json:"-"`
}

// Account is one who may own things.
type Account struct {
	Meta
	Name    nereid.Account
	Created time.Time
}

// Host is a machine of the fleet. It is written by that host alone and lives as long as its lease.
type Host struct {
	Meta
	Name              nereid.Host
	Advertise         netip.Addr
	CPUs              int
	Memory            int64 // bytes
	OS                string
	OSType            string
	Architecture      string
	KernelVersion     string
	Version           string // of nereid
	Labels            map[string]string
	StartedAt         time.Time
	CgroupVersion     string // "1" or "2"
	ContainerdVersion string
	RuncVersion       string
	// OvercommitMemory and OvercommitCPUs are how many times what it has may be reserved; 0: without limit.
	OvercommitMemory, OvercommitCPUs float64 `json:",omitempty"`
	Draining                         bool    `json:",omitempty"` // gets no new containers; Labels and this are the member's, too
	// DataPath is what it found of its ways to the other hosts; nil: nothing yet. It is shared by copies, and never changed.
	DataPath *nereid.DataPath `json:",omitempty"`
}

// Member is a host as the fleet knows it, from its join until it is removed, alive or not. The host itself writes Peer
// and Facts when it starts, operators Labels and Draining: all by Update.
type Member struct {
	Meta
	Name   nereid.Host
	Joined time.Time
	Key    string // SHA-256 of its public key, in hex: who may join under the name again
	Server bool   // holds a copy of the state
	// Peer is ADDR:PORT at which other hosts reach it; empty for the only host of a fleet.
	Peer string
	// Gossip is ADDR:PORT of its rumour; empty likewise.
	Gossip string
	// Labels are what operators added to those it was started with; an empty value takes one away.
	Labels   map[string]string
	Draining bool
	Facts    Host // as it last said them
}

// JoinToken lets hosts join for a while.
type JoinToken struct {
	Meta
	Hash    string // SHA-256 of the secret, in hex
	Server  bool   // as servers
	Created time.Time
	Expires time.Time
}

// Container is one container, whatever its state. Only its Host writes it.
type Container struct {
	Meta
	Account nereid.Account
	ID      nereid.ContainerID
	Name    string      // without the leading slash
	Host    nereid.Host // the owner
	// Leaving: its owner ends its process to give it to another host. From is the owner it had, until it runs at its new
	// one; meanwhile it has its addresses and ports.
	Leaving  bool        `json:",omitempty"`
	From     nereid.Host `json:",omitempty"`
	Created  time.Time
	Image    string // the reference as the user wrote it
	ImageID  nereid.ImageID
	Platform ocispec.Platform
	// Manifest is the digest of the image manifest the container was made from, for ImageManifestDescriptor.
	Manifest *ocispec.Descriptor `json:",omitempty"`

	Path       string // argv[0] of the process: entrypoint and command joined
	Args       []string
	Config     *container.Config // merged with the image's
	HostConfig *container.HostConfig
	// IDMap is that of a container with a user namespace, for its life.
	IDMap *nereid.IDMap `json:",omitempty"`

	// Networks are the attachments by network name, in the order of attachment by Order.
	Networks map[string]*Endpoint
	// NetworkMode networks such as "host", "none" and "container:ID" have no Endpoint with an address.
	// Ports are the host ports claimed while the container runs.
	Ports []HostPort `json:",omitempty"`

	Mounts  []Mount
	LogPath string

	State        RunState
	RestartCount int
	// StoppedByUser is set by stop and kill, cleared by start: unless-stopped and always look at it.
	StoppedByUser bool
	// Starts and Exits count over the container's life; wait compares them instead of watching every state.
	Starts int
	Exits  int
}

// RunState is the run state of a container, with Docker's words for Status.
type RunState struct {
	Status     string // created, running, paused, restarting, removing, exited, dead
	Pid        int
	ExitCode   int
	Error      string
	OOMKilled  bool
	StartedAt  time.Time
	FinishedAt time.Time
	Health     *container.Health `json:",omitempty"`
}

// The values of RunState.Status.
const (
	StatusCreated    = "created"
	StatusRunning    = "running"
	StatusPaused     = "paused"
	StatusRestarting = "restarting"
	StatusRemoving   = "removing"
	StatusExited     = "exited"
	StatusDead       = "dead"
)

// Running tells whether a process exists: running and paused containers have one, a restarting one has none.
func (s RunState) Running() bool { return s.Status == StatusRunning || s.Status == StatusPaused }

// Endpoint is one container on one network. Addresses are set while the container runs.
type Endpoint struct {
	Network    nereid.NetworkID
	ID         nereid.EndpointID
	Order      int          // of attachment
	Interface  string       // its name in the container; set while the container runs
	Address    netip.Prefix // zero when not running
	Address6   netip.Prefix
	Gateway    netip.Addr
	Gateway6   netip.Addr
	MAC        string
	Aliases    []string
	DNSNames   []string
	Links      []string
	DriverOpts map[string]string
	// What the user asked for; it outlives stop and start.
	WantAddress  netip.Addr
	WantAddress6 netip.Addr
	LinkLocal    []netip.Addr
	WantMAC      string
	GwPriority   int
}

// HostPort is a port of the host that leads to one of a container.
type HostPort struct {
	Proto         string
	HostIP        netip.Addr // unspecified: every address of its family
	HostPort      uint16
	ContainerPort uint16
}

// Mount is a mount as inspect shows it and as the runtime needs it.
type Mount struct {
	Type        string // bind, volume, tmpfs, image
	Name        string // of the volume, or of the image as the user wrote it
	Source      string // path on the host
	Destination string
	Driver      string
	Mode        string
	RW          bool
	Propagation string
	Anonymous   bool // removed by rm -v and --rm
	NoCopy      bool
	Subpath     string
	// Options are mount(8) options of a tmpfs: size=, mode=, and so on. Of a bind: bind, ro, rro.
	Options []string
	// Image is the manifest of a mounted image.
	Image *ocispec.Descriptor `json:",omitempty"`
}

// Name claims a container name in an account.
type Name struct {
	Meta
	Account   nereid.Account
	Name      string
	Container nereid.ContainerID
}

// Network is a network of an account. It never changes once it is stored.
type Network struct {
	Meta
	Account     nereid.Account
	ID          nereid.NetworkID
	Name        string
	Driver      string // bridge, overlay, macvlan, ipvlan, host, null
	Created     time.Time
	Internal    bool
	Attachable  bool
	IPv4        bool
	IPv6        bool
	Subnets     []Subnet
	IPAMDriver  string
	IPAMOptions map[string]string
	Options     map[string]string
	Labels      map[string]string
	VNI         uint32 // unique in the fleet; also names the bridge
	Predefined  bool
	ConfigOnly  bool   `json:",omitempty"` // holds settings for other networks; nothing can be attached
	ConfigFrom  string `json:",omitempty"` // the network that it has its settings from
}

// Subnet is one address range of a network.
type Subnet struct {
	Prefix    netip.Prefix
	Gateway   netip.Addr
	Range     netip.Prefix // zero: the whole prefix
	Auxiliary map[string]netip.Addr
	// Asked and GatewayAsked tell what the user chose: inspect shows a gateway of ours only beside a subnet of ours.
	Asked        bool `json:",omitempty"`
	GatewayAsked bool `json:",omitempty"`
}

// NetworkName claims a network name in an account.
type NetworkName struct {
	Meta
	Account nereid.Account
	Name    string
	Network nereid.NetworkID
}

// NetworkPlan is one record of the whole fleet that every new network changes by Update: two hosts that choose subnets or
// VNIs at the same time, neither knowing of the other, cannot both succeed.
type NetworkPlan struct {
	Meta
	Made int // networks ever
}

// Address claims an address on a network.
type Address struct {
	Meta
	Network   nereid.NetworkID
	Address   netip.Addr
	Account   nereid.Account
	Container nereid.ContainerID
	Host      nereid.Host
}

// Port claims one host port of one protocol over the whole fleet. Several claims on different host addresses may
// share a port, so the record holds them all and changes by Update.
type Port struct {
	Meta
	Proto  string // tcp, udp, sctp
	Port   uint16
	Claims []PortClaim
}

// PortClaim is one container's use of a host port.
type PortClaim struct {
	HostIP        netip.Addr // unspecified: every address of its family
	Account       nereid.Account
	Container     nereid.ContainerID
	Host          nereid.Host
	ContainerPort uint16
}

// Volume is a named or anonymous volume of an account.
type Volume struct {
	Meta
	Account   nereid.Account
	Name      string
	Home      nereid.Host // empty until a container first uses it
	Driver    string
	Created   time.Time
	Labels    map[string]string
	Options   map[string]string
	Anonymous bool
}

// Image is an image in an account's catalogue, whatever names point to it.
type Image struct {
	Meta
	Account nereid.Account
	ID      nereid.ImageID
	// Target is the manifest (or index) that was pulled, loaded or made; Manifest the one for our platform.
	Target   ocispec.Descriptor
	Manifest ocispec.Descriptor
	Created  time.Time
	Size     int64 // bytes of the unpacked layers, as docker images shows
	// Config is the image configuration as its blob has it (OCI or Docker), verbatim.
	Config []byte
	// Layers are the manifest's layer descriptors, Sizes the unpacked bytes of each.
	Layers []ocispec.Descriptor
	Sizes  []int64
	// Digests are repo digests, "name@sha256:…".
	Digests    []string
	LastTagged time.Time
	// Hosts that have the content; a cache hint.
	Hosts []nereid.Host
	// Parent is set for images made by commit.
	Parent  nereid.ImageID
	Comment string
}

// Tag points a full reference ("docker.io/library/busybox:latest") to an image.
type Tag struct {
	Meta
	Account nereid.Account
	Ref     string
	Image   nereid.ImageID
}

// Event is something that happened, in the order of Rev. It is written in the transaction of the state it tells of.
type Event struct {
	Meta
	Account nereid.Account
	Host    nereid.Host
	Message events.Message // Docker's shape; TimeNano is set by the writer
	// stamp is the time the writing host gave the event's key; TimeNano may be one of the caller's.
	stamp int64
}
