package snapshot

import (
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/scheduler/expr"
)

// Request is what is to be placed. The zero values of its fields ask for nothing.
type Request struct {
	Account nereid.Account
	Service string // what it is one of
	Image   nereid.ImageID
	// Platform is the image's, "linux/arm64". It rules hosts out only where some host of the fleet has it: elsewhere
	// every host would have to emulate it, and the user is warned.
	Platform string
	Resources
	Ports       []Port
	Constraints []*expr.Expr // on hosts
	Affinities  []*expr.Expr // to containers and images
	Pins        []Pin
	Refused     []Refused
	Strategy    Strategy
	Spread      SpreadBy
}

// Pin is a reason why only one host will do.
type Pin struct {
	Kind PinKind
	Name string // of the container, the volume, or the path
	Host nereid.Host
}

// PinKind is what ties a container to a host.
type PinKind uint8

// The kinds of pins.
const (
	PinLink PinKind = iota
	PinVolumesFrom
	PinNetwork
	PinPID
	PinIPC
	PinVolume
	PinBind
	PinAddress
)

// Refused is a host that was asked already and does not take the container.
type Refused struct {
	Host nereid.Host
	Why  string
}

// Strategy says which of the hosts that will do is best.
type Strategy uint8

// The strategies.
const (
	Spread  Strategy = iota // away from its like, then to the emptiest
	Binpack                 // to the fullest
	Random
)

// SpreadBy says across what a service is spread.
type SpreadBy uint8

// The things to spread across.
const (
	ByHost SpreadBy = iota
	ByRack
)
