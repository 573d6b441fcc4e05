package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxConfig bounds an image's configuration, which is stored whole in the catalogue, and its labels once more in each
// event: etcd takes requests of 1.5 MB, and JSON makes four bytes of three. Real ones have a few kB.
const maxConfig = 512 << 10

var (
	errLayersMismatch = errdefs.ErrInvalidArgument.WithMessage("layers from manifest don't match image configuration")
	errNoRootFS       = errors.New("invalid image JSON, no RootFS key")
)

// ImageConfig is an image configuration: the OCI image's, with the fields that Docker adds to it.
type ImageConfig struct {
	ocispec.Platform
	Created         *time.Time        `json:"created"`
	Author          string            `json:"author,omitempty"`
	Comment         string            `json:"comment,omitempty"`
	DockerVersion   string            `json:"docker_version,omitempty"`
	Container       string            `json:"container,omitempty"`
	ContainerConfig *container.Config `json:"container_config,omitempty"`
	Config          *container.Config `json:"config,omitempty"`
	RootFS          *ocispec.RootFS   `json:"rootfs"`
	History         []ocispec.History `json:"history,omitempty"`
}

// DecodeConfig reads an image configuration as its blob has it. Errors are InvalidArgument.
func DecodeConfig(raw []byte) (*ImageConfig, error) { return decodeConfig(raw) }

func decodeConfig(raw []byte) (*ImageConfig, error) {
	if len(raw) > maxConfig {
		return nil, fmt.Errorf("image configuration of %d bytes is over the limit of %d: %w", len(raw), maxConfig, errdefs.ErrInvalidArgument)
	}
	var c ImageConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, invalid(err)
	}
	if c.RootFS == nil {
		return nil, invalid(errNoRootFS)
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, invalid(fmt.Errorf("diff id %q: %w", d, err))
		}
	}
	filled := 0
	for _, h := range c.History {
		if !h.EmptyLayer {
			filled++
		}
	}
	if filled > len(c.RootFS.DiffIDs) {
		return nil, invalid(errors.New("too many non-empty layers in History section"))
	}
	return &c, nil
}

// invalid classes an error without changing its words.
func invalid(err error) error { return &classed{err, errdefs.ErrInvalidArgument} }

// classed is an error with a class that does not show in its text: the text is for people, and is Docker's.
type classed struct {
	error
	class error
}

func (c *classed) Unwrap() []error { return []error{c.error, c.class} }
