package container

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/nereid-paas/nereid/api/answer"
	"github.com/nereid-paas/nereid/api/compat"
	"github.com/nereid-paas/nereid/api/request"
)

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func (h handlers) create(w http.ResponseWriter, r *http.Request) error {
	if err := request.Parse(r); err != nil {
		return err
	}
	if err := request.CheckJSON(r); err != nil {
		return err
	}
	req, err := decodeCreate(r.Body)
	if errors.Is(err, io.EOF) {
		return request.ErrEmptyBody
	}
	if err != nil {
		return err
	}
	v := compat.From(r.Context())
	warnings, err := req.Upgrade(v, h.cgroup2)
	if err != nil {
		return err
	}
	cfg := backend.ContainerCreateConfig{
		Name:                        r.Form.Get("name"),
		Config:                      req.Config,
		HostConfig:                  req.Host,
		NetworkingConfig:            req.Networking,
		DefaultReadOnlyNonRecursive: req.ReadOnlyNonRecursive,
	}
	if v >= 41 {
		if cfg.Platform, err = request.Platform(r.Form.Get("platform")); err != nil {
			return err
		}
	}
	resp, err := h.backend.Create(r.Context(), cfg)
	if err != nil {
		return err
	}
	// Never null, also where the backend has none.
	resp.Warnings = append(append([]string{}, resp.Warnings...), warnings...)
	return answer.JSON(w, http.StatusCreated, resp)
}

// decodeCreate reads the body of a create request and fills in what every later step takes for granted.
func decodeCreate(body io.Reader) (*compat.Create, error) {
	var req container.CreateRequest
	if err := request.Decode(body, &req); err != nil {
		return nil, err
	}
	if req.Config == nil {
		return nil, invalid("config cannot be empty in order to create a container")
	}
	c := &compat.Create{Config: req.Config, Host: req.HostConfig, Networking: req.NetworkingConfig}
	if c.Host == nil {
		c.Host = &container.HostConfig{}
	}
	if c.Networking == nil {
		c.Networking = &network.NetworkingConfig{}
	}
	if c.Networking.EndpointsConfig == nil {
		c.Networking.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	return c, normalize(c)
}

// normalize gives the default network its name and settles what may be asked for in several ways.
func normalize(c *compat.Create) error {
	if c.Config.Volumes == nil {
		c.Config.Volumes = map[string]struct{}{}
	}
	if !c.Host.Isolation.IsValid() {
		return invalid("invalid isolation (%s): linux only supports 'default'", c.Host.Isolation)
	}
	if c.Host.PidsLimit != nil && *c.Host.PidsLimit <= 0 {
		c.Host.PidsLimit = nil // nothing, 0 and -1 all mean no limit
	}
	if c.Host.NetworkMode == "" || c.Host.NetworkMode.IsDefault() {
		c.Host.NetworkMode = network.NetworkBridge
		eps := c.Networking.EndpointsConfig
		if ep, ok := eps[network.NetworkDefault]; ok {
			eps[network.NetworkBridge] = ep
			delete(eps, network.NetworkDefault)
		}
	}
	return nil
}
