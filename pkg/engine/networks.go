package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
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
	routes func() ([]netip.Prefix, error) // of the host, which new subnets must not hide
	ipam   ipam
	random portCursor

	// choosing is held from the look for a free subnet until it is in the view.
	choosing sync.Mutex
}

// NewNetworks makes the use cases; without pools, networks get their subnets from network.DefaultPools.
func NewNetworks(d Deps, pools ...network.Pool) *Networks {
	if len(pools) == 0 {
		pools = network.DefaultPools()
	}
	return &Networks{Deps: d, pools: pools, routes: network.HostRoutes}
}

// Drivers of networks.
const (
	driverBridge = "bridge"
	driverHost   = "host"
	driverNull   = "null"
)

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
	err := n.enter(ctx, record, driver == driverBridge)
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		return nil // another host, or request, was faster
	}
	return err
}

// enter stores a new network with its name, with a subnet from the pools when it needs one, and a VNI.
func (n *Networks) enter(ctx context.Context, record *state.Network, subnet bool) error {
	n.choosing.Lock()
	defer n.choosing.Unlock()
	all := n.State.View().AllNetworks()
	if subnet {
		s, err := n.freeSubnet(all)
		if err != nil {
			return err
		}
		record.Subnets = append(record.Subnets, s)
	}
	if record.Driver == driverBridge {
		record.VNI = freeVNI(all)
	}
	_, err := n.State.Commit(ctx,
		state.Create(&state.NetworkName{Account: record.Account, Name: record.Name, Network: record.ID}),
		state.Create(record))
	return err
}

// freeSubnet is the first of the pools that is nobody's: no network's of any account, and no route of this host.
func (n *Networks) freeSubnet(all []*state.Network) (state.Subnet, error) {
	taken, err := n.routes()
	if err != nil {
		return state.Subnet{}, err
	}
	for _, other := range all {
		for _, s := range other.Subnets {
			taken = append(taken, s.Prefix)
		}
	}
	p, err := network.ChooseSubnet(n.pools, taken)
	if err != nil {
		return state.Subnet{}, err
	}
	return state.Subnet{Prefix: p, Gateway: p.Addr().Next()}, nil
}

// freeVNI is one that no network has, at random: hosts that choose at the same time hardly choose the same. They have
// 24 bits; the lowest 4096 are left to operators.
func freeVNI(all []*state.Network) uint32 {
	taken := make(map[uint32]bool, len(all))
	for _, other := range all {
		taken[other.VNI] = true
	}
	for {
		var b [4]byte
		rand.Read(b[:]) // never fails, by its contract
		vni := binary.BigEndian.Uint32(b[:]) >> 8
		if vni >= 4096 && !taken[vni] {
			return vni
		}
	}
}
