package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	networktypes "github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Networks are the use cases of networks, and the claims of addresses and host ports. All methods may be called at
// once.
type Networks struct {
	Deps
	pools  []network.Pool
	routes func() ([]network.Route, error) // of the host, which new subnets must not hide
	ipam   ipam
	random portCursor

	lost     lostHosts
	pruning  atomic.Bool
	pointing sync.Mutex // held while a running container's /etc/hosts is edited
	spanning sync.Mutex // held while a network's endpoints on other hosts are read and set
	meshing  sync.Mutex // likewise the ports of other hosts
	// choosing is held from the look for a free subnet until it is in the view.
	choosing sync.Mutex
}

// NewNetworks makes the use cases; without pools, networks get their subnets from network.DefaultPools.
func NewNetworks(d Deps, pools ...network.Pool) *Networks {
	if len(pools) == 0 {
		pools = network.DefaultPools()
	}
	return &Networks{Deps: d, pools: pools, routes: network.HostRoutes, lost: lostHosts{view: d.State.View(), answers: machineAnswers}}
}

// Drivers of networks. Those called bridge and overlay are both the fabric.
const (
	driverBridge  = "bridge"
	driverOverlay = "overlay"
	driverMacvlan = "macvlan"
	driverIPvlan  = "ipvlan"
	driverHost    = "host"
	driverNull    = "null"
)

// isFabric tells whether a network has a bridge on each host.
func isFabric(r *state.Network) bool { return r.Driver == driverBridge || r.Driver == driverOverlay }

// hasLinks tells whether containers on a network have an interface for it.
func hasLinks(r *state.Network) bool {
	return !r.ConfigOnly && (isFabric(r) || r.Driver == driverMacvlan || r.Driver == driverIPvlan)
}

// defaultBridgeOptions are what Docker's predefined bridge network has.
var defaultBridgeOptions = map[string]string{
	"com.docker.network.bridge.default_bridge":       "true",
	"com.docker.network.bridge.enable_icc":           "true",
	"com.docker.network.bridge.enable_ip_masquerade": "true",
	"com.docker.network.bridge.host_binding_ipv4":    "0.0.0.0",
	"com.docker.network.driver.mtu":                  "1500",
}

// EnsureDefaults makes an account's predefined networks where they are missing. Once made they stay, with their ids.
// It costs nothing when they are there, and may be called for every request.
func (n *Networks) EnsureDefaults(ctx context.Context, a nereid.Account) error {
	for name, driver := range map[string]string{
		networktypes.NetworkBridge: driverBridge, networktypes.NetworkHost: driverHost, networktypes.NetworkNone: driverNull,
	} {
		if _, err := n.State.View().FindNetwork(a, name); err == nil {
			continue
		}
		if err := n.makeDefault(ctx, a, name, driver); err != nil {
			return fmt.Errorf("predefined network %q of account %q: %w", name, a, err)
		}
	}
	return nil
}

func (n *Networks) makeDefault(ctx context.Context, a nereid.Account, name, driver string) error {
	record := &state.Network{
		Account: a, ID: nereid.NewNetworkID(), Name: name, Driver: driver, Created: time.Now().UTC(),
		IPv4: true, IPAMDriver: "default", Options: map[string]string{}, Labels: map[string]string{}, Predefined: true,
	}
	if driver == driverBridge {
		record.Options = maps.Clone(defaultBridgeOptions)
	}
	err := n.enter(ctx, record)
	if errdefs.IsConflict(err) {
		return nil // another host, or request, was faster
	}
	return err
}

// freeVNI is one that no network has, at random. They have 24 bits; the lowest 4096 are left to operators.
func freeVNI(all []*state.Network) uint32 {
	taken := make(map[uint32]bool, len(all))
	for _, other := range all {
		taken[other.VNI] = true
	}
	for {
		var b [4]byte
		rand.Read(b[:]) // never fails, by its contract
		vni := binary.BigEndian.Uint32(b[:]) >> 8
		if vni >= 4096 && vni != network.HostVNI && !taken[vni] {
			return vni
		}
	}
}
