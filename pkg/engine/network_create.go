package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	networktypes "github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// invalidArgument gives an error of another library the class of what the user can mend, keeping its words.
func invalidArgument(err error) error {
	if err == nil {
		return nil
	}
	return errdefs.ErrInvalidArgument.WithMessage(err.Error())
}

func errUserNetworks() error {
	return errdefs.ErrNotImplemented.WithMessage("user-defined networks are not supported yet: containers have the networks bridge, host and none")
}

// Create answers that only the predefined networks are there yet.
func (n *Networks) Create(_ context.Context, req networktypes.CreateRequest) (*networktypes.CreateResponse, error) {
	if !isUserDefined(req.Name) {
		return nil, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("operation is not permitted on predefined %s network ", req.Name))
	}
	return nil, errUserNetworks()
}

// Remove refuses to remove a predefined network, the only kind there is yet.
func (n *Networks) Remove(ctx context.Context, ref string) error {
	record, err := n.State.View().FindNetwork(nereid.AccountFrom(ctx), ref)
	if err != nil {
		return err
	}
	if record.Predefined {
		return errdefs.ErrPermissionDenied.WithMessage(record.Name + " is a pre-defined network and cannot be removed")
	}
	return errUserNetworks()
}

// Connect is of user-defined networks.
func (n *Networks) Connect(context.Context, string, networktypes.ConnectOptions) error {
	return errUserNetworks()
}

// Disconnect is of user-defined networks.
func (n *Networks) Disconnect(context.Context, string, networktypes.DisconnectOptions) error {
	return errUserNetworks()
}

// Prune finds nothing to prune: predefined networks stay.
func (n *Networks) Prune(context.Context, filters.Args) (*networktypes.PruneReport, error) {
	return &networktypes.PruneReport{}, nil
}
