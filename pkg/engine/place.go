package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/pkg/trace"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// Order is a container that one host has another create.
type Order struct {
	ID      nereid.ContainerID
	Request backend.ContainerCreateConfig
}

// Peers has other hosts do what only they can, for the account of the context.
type Peers interface {
	// CreateOn has a host do what CreateHere does there, for the account of the context. Its error is of the class that
	// it had there, and a *Refusal where it was one there, or where the host was not reached at all. A request that went
	// out and had no answer is an *Unanswered.
	CreateOn(ctx context.Context, to nereid.Host, o Order) (container.CreateResponse, error)
	// PrepareOn has a host do what PrepareHere does there. Its error is a *Refusal where it was one there.
	PrepareOn(ctx context.Context, to nereid.Host, id nereid.ContainerID) error
}

// Refusal is a host's answer that it does not take a container: another may.
type Refusal struct {
	Host nereid.Host
	Why  string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("host %s refuses the container: %s", r.Host, r.Why)
}

// Refused says why, to those who know no Refusal.
func (r *Refusal) Refused() string { return r.Why }

// Unwrap gives the class.
func (r *Refusal) Unwrap() error { return errdefs.ErrUnavailable }

// Unanswered says that a host was asked and did not answer: nobody knows what it did.
type Unanswered struct {
	Host  nereid.Host
	Cause error
}

func (u *Unanswered) Error() string { return u.Cause.Error() }

// Unwrap gives the cause.
func (u *Unanswered) Unwrap() error { return u.Cause }

// maxPlaceTries bounds how many hosts are asked for one container. Each refusal means that much changed within the
// milliseconds between a choice and its arrival; a fleet where that happens so often in a row is full.
const maxPlaceTries = 8

// createSomewhere places a container, reserves what it asks for and has it created there, here or on another host. A host
// that dies meanwhile is one that refuses.
func (c *Containers) createSomewhere(ctx context.Context, o Order) (container.CreateResponse, error) {
	var refused []snapshot.Refused
	for {
		r, err := c.request(ctx, &o.Request)
		if err != nil {
			return container.CreateResponse{}, err
		}
		r.Refused = refused
		host, err := c.place(ctx, r, o)
		if err != nil {
			return container.CreateResponse{}, err
		}
		resp, err := c.createOn(ctx, host, o)
		c.placement.settle(r.Account, o.ID)
		var no *Refusal
		if !errors.As(err, &no) || len(refused)+1 == maxPlaceTries {
			return resp, err
		}
		refused = append(refused, snapshot.Refused{Host: host, Why: no.Why})
		o.ID = nereid.NewContainerID() // the other may be void
	}
}

func (c *Containers) place(ctx context.Context, r *snapshot.Request, o Order) (nereid.Host, error) {
	_, span := trace.Start(ctx, "placement")
	defer span.End()
	return c.placement.reserve(r, o)
}

func (c *Containers) createOn(ctx context.Context, host nereid.Host, o Order) (container.CreateResponse, error) {
	if host == c.Host {
		return c.createReserved(ctx, o)
	}
	resp, err := c.Peers.CreateOn(ctx, host, o)
	var silent *Unanswered
	if !errors.As(err, &silent) || ctx.Err() != nil {
		return resp, err
	}
	made, voidErr := c.void(ctx, host, o.ID)
	switch {
	case voidErr != nil:
		return resp, err
	case made:
		return container.CreateResponse{ID: string(o.ID), Warnings: []string{}}, nil
	}
	return resp, &Refusal{Host: host, Why: "it was asked and did not answer"}
}

// void settles what became of a container that a host was asked to create and did not answer for: either it was made, or
// it will never be, whenever the host finds the request again.
func (c *Containers) void(ctx context.Context, host nereid.Host, id nereid.ContainerID) (made bool, err error) {
	a := nereid.AccountFrom(ctx)
	_, err = c.State.Commit(ctx, state.Create(&state.Void{Account: a, Container: id, Since: time.Now().UTC()}),
		state.Keep(&state.Container{Account: a, ID: id, Host: host}))
	if _, conflict := state.AsConflict(err); conflict {
		return true, nil
	}
	return false, err
}

// voided tells whether a transaction failed because its container was given up.
func voided(err error) bool {
	conflict, ok := state.AsConflict(err)
	if !ok {
		return false
	}
	_, void := conflict.Record.(*state.Void)
	return void
}

// CreateHere creates a container that another host placed here, for the account of the context, if this host has room
// for it. It refuses with a *Refusal. The request is its own from here on.
func (c *Containers) CreateHere(ctx context.Context, o Order) (container.CreateResponse, error) {
	r, err := c.request(ctx, &o.Request)
	if err != nil {
		return container.CreateResponse{}, err
	}
	if err := c.placement.reserveHere(r, o); err != nil {
		return container.CreateResponse{}, err
	}
	defer c.placement.settle(r.Account, o.ID)
	resp, err := c.createReserved(ctx, o)
	var elsewhere *volumeElsewhere
	if errors.As(err, &elsewhere) {
		return resp, &Refusal{Host: c.Host, Why: err.Error()}
	}
	return resp, err
}

// createReserved creates a container here, for which there is room.
func (c *Containers) createReserved(ctx context.Context, o Order) (container.CreateResponse, error) {
	ctx, span := trace.About(ctx, "create", string(o.ID))
	defer span.End()
	r, warnings, err := c.draft(ctx, o.ID, &o.Request)
	if err != nil {
		return container.CreateResponse{Warnings: warnings}, err
	}
	if err := c.create(ctx, r, &o.Request); err != nil {
		return container.CreateResponse{Warnings: warnings}, err
	}
	return container.CreateResponse{ID: string(r.ID), Warnings: warnings}, nil
}
