package engine

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Deps are the rooms every use case may enter.
type Deps struct {
	Host     nereid.Host // this host
	DC       string      // data center, for CNS names
	Zone     string      // CNS zone, for CNS names
	Version  string      // of nereid
	DataRoot string
	ExecRoot string
	State    *state.Store
	Runtime  Runtime
	Network  Network
	Volumes  VolumeStore
	Fleet    *Liveness // of the other hosts; nil: there are none
	Log      *zap.Logger

	// LabelProblems says what is wrong with labels that the name service reads; nil: nothing ever is.
	LabelProblems func(labels map[string]string) []string
	// Peers are the other hosts; nil: containers are created here only.
	Peers Peers
	// Road leads to other hosts, named by the host of a request's URL, for the account of its context; nil: there are none.
	Road http.RoundTripper
	// DefaultRuntime is the name of the runtime of containers that name none; empty: runc.
	DefaultRuntime string
	// IDMap is that of new containers, unless they ask for --userns=host; the zero value: they have the host's users.
	IDMap nereid.IDMap
}
