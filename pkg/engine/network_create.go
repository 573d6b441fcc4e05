package engine

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/events"
	networktypes "github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
)

// invalidArgument gives an error of another library the class of what the user can mend, keeping its words.
func invalidArgument(err error) error {
	if err == nil {
		return nil
	}
	return errdefs.ErrInvalidArgument.WithMessage(err.Error())
}

func forbidden(format string, args ...any) error {
	return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(format, args...))
}

// Create makes a network. Its links appear on each host with the first container there that is on it.
func (n *Networks) Create(ctx context.Context, req networktypes.CreateRequest) (*networktypes.CreateResponse, error) {
	if !isUserDefined(req.Name) && !strings.HasPrefix(req.Name, "container:") {
		return nil, forbidden("operation is not permitted on predefined %s network ", req.Name)
	}
	record, warning, err := n.draftNetwork(ctx, req)
	if err != nil {
		return nil, err
	}
	event := networkEvent(n.Host, record, events.ActionCreate, nil)
	if err := n.enter(ctx, record, state.Emit(event)); err != nil {
		return nil, err
	}
	return &networktypes.CreateResponse{ID: string(record.ID), Warning: warning}, nil
}

// draftNetwork checks a request and makes it a record that lacks what only the transaction can settle: subnets that
// nobody asked for, and the VNI.
func (n *Networks) draftNetwork(ctx context.Context, req networktypes.CreateRequest) (*state.Network, string, error) {
	account := nereid.AccountFrom(ctx)
	record := &state.Network{
		Account: account, ID: nereid.NewNetworkID(), Name: req.Name, Driver: req.Driver, Created: time.Now().UTC(),
		Internal: req.Internal, Attachable: req.Attachable, IPAMDriver: "default",
		Options: maps.Clone(req.Options), Labels: maps.Clone(req.Labels), ConfigOnly: req.ConfigOnly,
	}
	if record.Driver == "" || record.Driver == "default" {
		record.Driver = driverBridge
	}
	if err := n.setFamilies(record, req); err != nil {
		return nil, "", err
	}
	if err := setIPAM(record, req.IPAM); err != nil {
		return nil, "", err
	}
	if strings.TrimSpace(req.Name) == "" {
		return nil, "", errInvalid("invalid name: name is empty")
	}
	if _, taken := n.State.View().NetworkName(account, req.Name); taken {
		return nil, "", errNetworkName(req.Name)
	}
	if err := checkConfigNetwork(req, record); err != nil {
		return nil, "", err
	}
	if req.ConfigOnly {
		record.Driver = driverNull
		return record, "", nil
	}
	if err := checkDriver(req, record.Driver); err != nil {
		return nil, "", err
	}
	if req.ConfigFrom != nil && req.ConfigFrom.Network != "" {
		if err := n.applyConfig(record, req.ConfigFrom.Network); err != nil {
			return nil, "", err
		}
	}
	warning, err := n.checkOptions(record)
	return record, warning, err
}

func errNetworkName(name string) error {
	return errConflict("network with name %s already exists", name)
}

// setFamilies reads which address families the network has: the request's own fields, or Docker's options for them.
func (n *Networks) setFamilies(record *state.Network, req networktypes.CreateRequest) (err error) {
	record.IPv4, err = family(record.Options, network.OptionIPv4, req.EnableIPv4, true)
	if err == nil {
		record.IPv6, err = family(record.Options, network.OptionIPv6, req.EnableIPv6, false)
	}
	return err
}

func family(options map[string]string, option string, asked *bool, otherwise bool) (bool, error) {
	if asked != nil {
		delete(options, option)
		return *asked, nil
	}
	v, ok := options[option]
	if !ok {
		return otherwise, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, errInvalid("driver-opt %q is not a valid bool", option)
	}
	return b, nil
}

// checkConfigNetwork refuses what does not go together with settings kept for other networks, or taken from one.
func checkConfigNetwork(req networktypes.CreateRequest, record *state.Network) error {
	from := req.ConfigFrom != nil && req.ConfigFrom.Network != ""
	switch {
	case req.ConfigOnly && (req.Ingress || req.Internal || req.Attachable || req.Scope != ""):
		return forbidden("configuration network can only contain network specific fields. " +
			"Network operator fields like [ ingress | internal | attachable | scope ] are not supported.")
	case req.ConfigOnly && from:
		return forbidden("a configuration network cannot depend on another configuration network")
	case from && (!record.IPv4 || record.IPv6 || len(record.Labels) > 0 || len(record.IPAMOptions) > 0 || len(record.Subnets) > 0):
		return forbidden("user specified configurations are not supported if the network depends on a configuration network")
	case from && len(record.Options) > 0:
		return forbidden("network driver options are not supported if the network depends on a configuration network")
	}
	return nil
}

// applyConfig takes the settings of a network that exists to hold them.
func (n *Networks) applyConfig(record *state.Network, ref string) error {
	config, err := n.State.View().FindNetwork(record.Account, ref)
	if err != nil || !config.ConfigOnly {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("configuration network %q does not exist", ref))
	}
	own := config.Clone()
	record.IPv4, record.IPv6, record.Labels, record.Options = own.IPv4, own.IPv6, own.Labels, own.Options
	record.IPAMDriver, record.IPAMOptions, record.Subnets = own.IPAMDriver, own.IPAMOptions, own.Subnets
	record.ConfigFrom = config.Name
	return nil
}

// checkDriver refuses what no host of ours can make.
func checkDriver(req networktypes.CreateRequest, driver string) error {
	switch driver {
	case driverHost, driverNull:
		return forbidden("only one instance of %q network is allowed", driver)
	case driverBridge, driverOverlay, driverMacvlan, driverIPvlan:
	default:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", driver))
	}
	switch {
	case req.Ingress:
		return forbidden("Ingress network can only be global scope network")
	case req.Scope != "" && req.Scope != scopeLocal:
		return forbidden("cannot create a swarm scoped network when swarm is not active")
	}
	return nil
}

// checkOptions refuses options that cannot be, and names those that mean nothing here.
func (n *Networks) checkOptions(record *state.Network) (warning string, err error) {
	if !record.IPv4 && !record.IPv6 {
		return "", errInvalid("IPv4 or IPv6 must be enabled")
	}
	var unknown []string
	switch record.Driver {
	case driverMacvlan, driverIPvlan:
		if unknown, err = network.CheckParent(record); err == nil {
			err = n.checkParent(record)
		}
	default:
		unknown, err = n.checkBridge(record)
	}
	if err != nil || len(unknown) == 0 {
		return "", err
	}
	return "ignored unknown driver options: " + strings.Join(unknown, ", "), nil
}

// checkParent refuses a second network behind a parent, where the kernel would.
func (n *Networks) checkParent(record *state.Network) error {
	parent := record.Options["parent"]
	for _, other := range n.State.View().AllNetworks() {
		if parent == "" || other.Options["parent"] != parent || isFabric(other) {
			continue
		}
		if record.Driver == driverIPvlan || other.Driver == driverIPvlan ||
			record.Options["macvlan_mode"] == "passthru" || other.Options["macvlan_mode"] == "passthru" {
			return errInternal("network %s is already using parent interface %s", other.ID, parent)
		}
	}
	return nil
}

func (n *Networks) checkBridge(record *state.Network) (unknown []string, err error) {
	o, unknown, err := network.ParseOptions(record.Options)
	if err != nil {
		return nil, err
	}
	isolated := o.Gateway4 == network.GatewayIsolated || o.Gateway6 == network.GatewayIsolated
	if isolated && !record.Internal {
		return nil, errInternal("gateway mode 'isolated' can only be used for an internal network")
	}
	if o.Bridge == "" {
		return unknown, nil
	}
	for _, other := range n.State.View().AllNetworks() {
		if isFabric(other) && network.BridgeName(n.Host, other) == o.Bridge {
			return nil, forbidden("cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name",
				record.ID, o.Bridge, other.ID, o.Bridge)
		}
	}
	return unknown, nil
}

// enter stores a new network with its name, and with what else belongs to the transaction. It chooses subnets, gateways
// and VNI anew whenever another host was faster, see state.NetworkPlan.
func (n *Networks) enter(ctx context.Context, draft *state.Network, also ...state.Op) error {
	n.choosing.Lock() // or the requests of one host would make each other begin anew
	defer n.choosing.Unlock()
	for try := 1; ; try++ {
		plan := n.State.View().NetworkPlan() // before the networks: what is newer than it is only more
		plan.Made++
		record := draft.Clone()
		if err := n.choose(record); err != nil {
			return err
		}
		ops := append([]state.Op{
			state.Create(&state.NetworkName{Account: record.Account, Name: record.Name, Network: record.ID}),
			state.Create(record), state.Update(plan),
		}, also...)
		_, err := n.State.Commit(ctx, ops...)
		if err == nil {
			*draft = *record
			return nil
		}
		if c, ok := state.AsConflict(err); ok {
			if _, named := c.Record.(*state.NetworkName); named {
				return errNetworkName(record.Name)
			}
		}
		if !overtaken(err) || try == maxTransitTries {
			return err
		}
	}
}

// choose settles what a new network must have alone.
func (n *Networks) choose(record *state.Network) error {
	if record.ConfigOnly || !hasLinks(record) {
		return nil
	}
	all := n.State.View().AllNetworks()
	if err := n.chooseSubnets(record, all); err != nil {
		return err
	}
	record.VNI = freeVNI(all)
	return nil
}
