// Package nereid holds the nouns of the fleet: the identity types that must never be mixed up, and nothing else.
package nereid

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// Account names who is asking and who owns a thing. It is also the containerd namespace of its containers.
type Account string

// Admin is the account of the unix socket.
const Admin Account = "admin"

// Host names a machine of the fleet. It is unique in the fleet and is what users see in inspect's Node.
type Host string

// Valid tells whether a host can have the name: it is a DNS label.
func (h Host) Valid() bool {
	if h == "" || len(h) > 63 || h[0] == '-' || h[len(h)-1] == '-' {
		return false
	}
	for _, c := range h {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// ContainerID is 64 lower-case hex digits.
type ContainerID string

// NetworkID is 64 lower-case hex digits.
type NetworkID string

// EndpointID is 64 lower-case hex digits: one container's attachment to one network.
type EndpointID string

// ExecID is 64 lower-case hex digits. The first eight tell the owner host, see [NewExecID].
type ExecID string

// ImageID is the digest of an image's configuration, "sha256:" and 64 hex digits, as Docker's image ids are.
type ImageID string

// Short is the id as people see it in lists: 12 digits.
func (id ContainerID) Short() string { return short(string(id)) }

// Short is the id as people see it in lists: 12 digits.
func (id NetworkID) Short() string { return short(string(id)) }

func short(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}

// NewContainerID mints a random id.
func NewContainerID() ContainerID { return ContainerID(randomID()) }

// NewNetworkID mints a random id.
func NewNetworkID() NetworkID { return NetworkID(randomID()) }

// NewEndpointID mints a random id.
func NewEndpointID() EndpointID { return EndpointID(randomID()) }

// randomID returns 64 hex digits that hold at least one letter among the first twelve: a short id of digits only
// would be taken for a number by tools (Docker avoids them for the same reason).
func randomID() string {
	var b [32]byte
	for {
		rand.Read(b[:]) // never fails, by its contract
		id := hex.EncodeToString(b[:])
		for _, c := range id[:12] {
			if c >= 'a' {
				return id
			}
		}
	}
}

type accountKey struct{}

// WithAccount returns a context that carries who is asking. Only the API's authentication puts it there.
func WithAccount(ctx context.Context, a Account) context.Context {
	return context.WithValue(ctx, accountKey{}, a)
}

// AccountFrom returns who is asking. A context without one is a programming error and panics: no request may run
// as nobody, and none may silently run as the administrator.
func AccountFrom(ctx context.Context) Account {
	a, ok := ctx.Value(accountKey{}).(Account)
	if !ok {
		panic("nereid: context carries no account")
	}
	return a
}

// hostPart is how many digits of an exec id tell the host: enough that two hosts of a fleet differ, and a host is found
// without a table.
const hostPart = 8

// NewExecID mints an id of an exec on a host.
func NewExecID(h Host) ExecID { return ExecID(hostDigits(h) + randomID()[hostPart:]) }

// OwnedBy tells whether an exec id was minted on a host.
func (id ExecID) OwnedBy(h Host) bool {
	return len(id) >= hostPart && string(id[:hostPart]) == hostDigits(h)
}

func hostDigits(h Host) string {
	sum := sha256.Sum256([]byte(h))
	return hex.EncodeToString(sum[:])[:hostPart]
}

// Node is what inspect says of the host a container runs on, in the shape that classic Swarm gave it.
type Node struct {
	ID     string
	IP     string
	Addr   string
	Name   string
	Cpus   int
	Memory int64 // bytes
	Labels map[string]string
}
