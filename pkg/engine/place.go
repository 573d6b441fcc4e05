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
	// it had there, and a *Refusal where it was one there, or where the host was not reached at all. Of class
	// errdefs.ErrUnavailable, and no Refusal, is a request that went out and had no answer.
	CreateOn(ctx context.Context, to nereid.Host, o Order) (container.CreateResponse, error)
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

const (
	// maxPlaceTries bounds how many hosts are asked for one container. Each refusal means that much changed within the
	// milliseconds between a choice and its arrival; a fleet where that happens so often in a row is full.
	maxPlaceTries = 8
	// doubtTime is how long a container is waited for whose host was asked and did not answer: if its record comes, it
	// was made.
	doubtTime = 3 * time.Second
)

// createSomewhere places a container, reserves what it asks for and has it created there, here or on another host.
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
	var no *Refusal
	if err == nil || errors.As(err, &no) || !errdefs.IsUnavailable(err) {
		return resp, err
	}
	if made, ok := c.appears(ctx, o.ID); ok {
		return container.CreateResponse{ID: string(made.ID), Warnings: []string{}}, nil
	}
	return resp, err
}

// appears waits a little for the record of a container that may have been made.
func (c *Containers) appears(ctx context.Context, id nereid.ContainerID) (*state.Container, bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), doubtTime)
	defer cancel()
	r, err := c.State.View().WaitContainer(ctx, nereid.AccountFrom(ctx), id, func(r *state.Container) bool { return r != nil })
	return r, err == nil
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
	if err := c.create(ctx, r, o.Request.Name); err != nil {
		return container.CreateResponse{Warnings: warnings}, err
	}
	return container.CreateResponse{ID: string(r.ID), Warnings: warnings}, nil
}
