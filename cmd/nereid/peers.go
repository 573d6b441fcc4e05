package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"

	"github.com/nereid-paas/nereid/api/router/peer"
	"github.com/nereid-paas/nereid/pkg/engine"
	"github.com/nereid-paas/nereid/pkg/nereid"
	road "github.com/nereid-paas/nereid/pkg/peer"
)

// peers has other hosts do things for this one's use cases.
type peers struct{ to *road.Forwarder }

// CreateOn implements engine.Peers.
func (p peers) CreateOn(ctx context.Context, to nereid.Host, o engine.Order) (container.CreateResponse, error) {
	var resp container.CreateResponse
	body, err := json.Marshal(peer.Placed{ID: o.ID, Request: o.Request})
	if err != nil {
		return resp, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(to)+peer.CreatePath, bytes.NewReader(body))
	if err != nil {
		return resp, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := p.to.RoundTrip(req)
	var unreached *road.Unreached
	if errors.As(err, &unreached) {
		return resp, &engine.Refusal{Host: to, Why: unreached.Error()}
	}
	if err != nil {
		return resp, &engine.Unanswered{Host: to, Cause: err}
	}
	defer res.Body.Close()
	if no := refusedBy(res, to); no != nil {
		return resp, no
	}
	if res.StatusCode != http.StatusCreated {
		return resp, road.Refusal(res)
	}
	if err := json.NewDecoder(res.Body).Decode(&resp); err != nil {
		return resp, &engine.Unanswered{Host: to, Cause: fmt.Errorf("host %s: %w", to, err)}
	}
	return resp, nil
}

// refusedBy reads a refusal from an answer; nil: it is none.
func refusedBy(res *http.Response, of nereid.Host) error {
	why := res.Header.Get(peer.RefusedHeader)
	if why == "" {
		return nil
	}
	r := &engine.Refusal{Host: of}
	if json.Unmarshal([]byte(why), &r.Why) != nil {
		r.Why = why
	}
	return r
}

// PrepareOn implements engine.Peers.
func (p peers) PrepareOn(ctx context.Context, to nereid.Host, id nereid.ContainerID) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(to)+peer.PreparePath+string(id), http.NoBody)
	if err != nil {
		return err
	}
	res, err := p.to.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if no := refusedBy(res, to); no != nil {
		return no
	}
	if res.StatusCode >= http.StatusBadRequest {
		return road.Refusal(res)
	}
	return nil
}

// takes has the engine create what other hosts placed here.
type takes struct{ containers *engine.Containers }

// CreateHere implements peer.Containers.
func (t takes) CreateHere(ctx context.Context, id nereid.ContainerID, req backend.ContainerCreateConfig) (container.CreateResponse, error) {
	return t.containers.CreateHere(ctx, engine.Order{ID: id, Request: req})
}

// PrepareHere implements peer.Containers.
func (t takes) PrepareHere(ctx context.Context, id nereid.ContainerID) error {
	return t.containers.PrepareHere(ctx, id)
}

// Post implements engine.Elsewhere.
func (p peers) Post(ctx context.Context, to nereid.Host, path string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+string(to)+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := p.to.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return road.Refusal(res)
	}
	return nil
}
