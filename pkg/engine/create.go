package engine

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/logs"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Create makes a container that can be started, on the host of the fleet that is best for it. When it fails nothing of
// the container is left.
//
// The request's configuration is its own from here on: it is completed and becomes the record's.
func (c *Containers) Create(ctx context.Context, req backend.ContainerCreateConfig) (container.CreateResponse, error) {
	if req.Config == nil {
		return container.CreateResponse{}, errInvalid("config cannot be empty in order to create a container")
	}
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	delete(req.Config.Labels, hostLabel) // derived: a client sends back what inspect gave it
	return c.createSomewhere(ctx, Order{ID: nereid.NewContainerID(), Request: req})
}

// draft checks a request and makes it the record of a container that is nowhere yet: all but its name and its mounts,
// which only the transaction can settle.
func (c *Containers) draft(ctx context.Context, id nereid.ContainerID, req *backend.ContainerCreateConfig) (*state.Container, []string, error) {
	cfg, hc := req.Config, req.HostConfig
	warnings, err := c.checkRequest(req)
	if err != nil {
		return nil, warnings, err
	}
	if cfg.Image == "" {
		return nil, warnings, errNoImage(cfg)
	}
	img, err := c.images.ResolvePlatform(ctx, cfg.Image, req.Platform)
	if err != nil {
		return nil, warnings, err
	}
	platform, err := c.images.Platform(img)
	if err != nil {
		return nil, warnings, err
	}
	if w := platformWarning(req.Platform, platform); w != "" {
		warnings = append(warnings, w)
	}
	setDefaults(hc)
	if err := c.nameShared(ctx, hc); err != nil {
		return nil, warnings, err
	}
	if err := c.networks.EnsureDefaults(ctx, nereid.AccountFrom(ctx)); err != nil {
		return nil, warnings, err
	}
	imageConfig, err := c.images.ContainerConfig(img)
	if err != nil {
		return nil, warnings, err
	}
	mergeImage(cfg, imageConfig)
	path, args, err := command(cfg)
	if err != nil {
		return nil, warnings, err
	}
	warnings = append(warnings, c.labelWarnings(cfg.Labels)...)
	if err := setLogDriver(hc); err != nil {
		return nil, warnings, err
	}
	if img, err = c.images.Bring(ctx, img); err != nil {
		return nil, warnings, err
	}
	if err := c.bringMounted(ctx, hc); err != nil {
		return nil, warnings, err
	}
	r := &state.Container{
		Account: nereid.AccountFrom(ctx), ID: id, Host: c.Host, Created: time.Now().UTC(),
		Image: cfg.Image, ImageID: img.ID, Platform: platform, Manifest: &img.Manifest,
		Path: path, Args: args, Config: cfg, HostConfig: hc, IDMap: c.remap(hc),
		State: state.RunState{Status: state.StatusCreated},
	}
	if hc.LogConfig.Type == defaultLogDriver {
		r.LogPath = c.logPath(keyOf(r))
	}
	if err := setHostname(r); err != nil {
		return nil, warnings, err
	}
	if err := c.checkLinks(ctx, r); err != nil {
		return nil, warnings, err
	}
	r.Networks, err = c.networks.Endpoints(r, req.NetworkingConfig)
	return r, warnings, err
}

// checkRequest refuses what cannot be, before anything is looked up.
func (c *Containers) checkRequest(req *backend.ContainerCreateConfig) ([]string, error) {
	if req.HostConfig.RestartPolicy.Name == "" {
		req.HostConfig.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if err := checkNetworkMode(req.Config, req.HostConfig); err != nil {
		return nil, err
	}
	v := c.verifier()
	err := v.verify(req.Config, req.HostConfig)
	if err == nil && req.Name != "" {
		_, err = checkName(req.Name)
	}
	if v.warnings == nil {
		v.warnings = []string{}
	}
	return v.warnings, err
}

// errNoImage refuses a container without an image. Docker makes one of an empty root file system when there is a
// command; nothing can run in it.
func errNoImage(cfg *container.Config) error {
	if len(cfg.Cmd) == 0 && len(cfg.Entrypoint) == 0 {
		return errInvalid("no command specified")
	}
	return errInvalid("no image specified: a container without an image is not supported")
}

// platformWarning says that an image nobody asked a platform of is for another one.
func platformWarning(asked *ocispec.Platform, has ocispec.Platform) string {
	if asked != nil || platforms.Default().Match(has) {
		return ""
	}
	return fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested",
		platforms.FormatAll(has), platforms.FormatAll(platforms.DefaultSpec()))
}

// nameShared replaces names of containers whose namespaces are shared by ids, so that a rename does not part them. The
// processes and the memory of one that is not there are refused; a network keeps the name the user gave it.
func (c *Containers) nameShared(ctx context.Context, hc *container.HostConfig) error {
	byID := func(ref string) (string, error) {
		r, err := c.find(ctx, ref)
		if err != nil {
			return "container:" + ref, err
		}
		return "container:" + string(r.ID), nil
	}
	if hc.PidMode.IsContainer() {
		mode, err := byID(hc.PidMode.Container())
		if err != nil {
			return asInvalid(err)
		}
		hc.PidMode = container.PidMode(mode)
	}
	if hc.IpcMode.IsContainer() {
		mode, err := byID(hc.IpcMode.Container())
		if err != nil {
			return asInvalid(err)
		}
		hc.IpcMode = container.IpcMode(mode)
	}
	if hc.NetworkMode.IsContainer() {
		mode, _ := byID(hc.NetworkMode.ConnectedContainer())
		hc.NetworkMode = container.NetworkMode(mode)
	}
	return nil
}

// defaultLogDriver is Docker's.
const defaultLogDriver = "json-file"

func setLogDriver(hc *container.HostConfig) error {
	if hc.LogConfig.Type == "" {
		hc.LogConfig.Type = defaultLogDriver
	}
	if hc.LogConfig.Config == nil {
		hc.LogConfig.Config = map[string]string{}
	}
	return asInvalid(logs.Validate(hc.LogConfig.Type, hc.LogConfig.Config))
}

// setHostname names a container that was not given a name of its own by its id, or by the host where it shares that.
func setHostname(r *state.Container) error {
	if r.Config.Hostname != "" {
		return nil
	}
	r.Config.Hostname = r.ID.Short()
	if r.HostConfig.NetworkMode.IsHost() {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		r.Config.Hostname = name
	}
	return nil
}

// create brings a draft into being: its directory and root file system on the host, then one transaction, then the
// content of its volumes. Nobody else can touch the container before that is done.
func (c *Containers) create(ctx context.Context, r *state.Container, req *backend.ContainerCreateConfig) (retErr error) {
	unlock, err := c.locks.lock(ctx, keyOf(r))
	if err != nil {
		return err
	}
	defer unlock()
	if req.Name != "" {
		if err := c.nameFree(r, req.Name); err != nil {
			return err
		}
	}
	ctx, cancel := work(ctx) // the point of no return: what has begun is finished or undone
	defer cancel()
	defer func() {
		if retErr != nil {
			c.uncreate(ctx, r)
		}
	}()
	if err := os.MkdirAll(c.dir(keyOf(r)), 0o710); err != nil {
		return err
	}
	if err := c.Runtime.Prepare(ctx, c.baseSpec(r)); err != nil {
		return err
	}
	if err := c.enter(ctx, r, req); err != nil {
		return err
	}
	return c.fillVolumes(ctx, r)
}

// nameFree is an early answer to the common mistake; the transaction decides.
func (c *Containers) nameFree(r *state.Container, name string) error {
	bare, err := checkName(name)
	if err != nil {
		return err
	}
	if holder, ok := c.State.View().Name(r.Account, bare); ok {
		return errNameTaken(bare, holder.Container)
	}
	return nil
}

// enter stores the container with its name and volumes in one transaction. A name nobody asked for is invented again
// when it is taken; volumes that change meanwhile are looked up again.
func (c *Containers) enter(ctx context.Context, r *state.Container, req *backend.ContainerCreateConfig) error {
	name := req.Name
	invented := 0
	for try := 1; ; try++ {
		if name == "" {
			r.Name = c.inventName(r.ID, invented)
		} else {
			r.Name, _ = checkName(name)
		}
		mounts, ops, err := c.volumes.Resolve(ctx, r.Account, r.HostConfig, r.Config.Volumes, req.DefaultReadOnlyNonRecursive)
		if err != nil {
			return err
		}
		if r.Mounts, err = c.withImages(ctx, mounts); err != nil {
			return err
		}
		ops = append(ops, state.Keep(&state.Void{Account: r.Account, Container: r.ID}),
			state.Create(&state.Name{Account: r.Account, Name: r.Name, Container: r.ID}),
			state.Create(r), tell(r, events.ActionCreate))
		_, err = c.State.Commit(ctx, ops...)
		if err == nil {
			return nil
		}
		if voided(err) {
			return errConflict("container %s was given up by the host that asked for it", r.ID)
		}
		named := nameConflict(err, r.Name)
		taken := errdefs.IsConflict(named)
		switch {
		case taken && name != "":
			return named
		case taken:
			invented++
		case !overtaken(err):
			return err
		}
		if try == maxTransitTries {
			return err
		}
	}
}

// fillVolumes makes the container's volumes and copies what the image has at their places, and pins the images it has
// mounted. It may run again.
func (c *Containers) fillVolumes(ctx context.Context, r *state.Container) error {
	for _, m := range r.Mounts {
		if m.Image != nil {
			if err := c.Runtime.PinImage(ctx, keyOf(r), *m.Image); err != nil {
				return err
			}
		}
	}
	return c.volumes.Prepare(ctx, r, func(ctx context.Context) (string, func() error, error) {
		return c.Runtime.View(ctx, keyOf(r))
	})
}

// uncreate removes what a failed create has made. The container's lock is held.
func (c *Containers) uncreate(ctx context.Context, r *state.Container) {
	ctx, cancel := work(ctx)
	defer cancel()
	var err error
	if stored, ok := c.State.View().Container(r.Account, r.ID); ok {
		err = c.discard(ctx, stored, true)
	} else {
		err = c.discardHost(ctx, keyOf(r))
	}
	if err != nil {
		c.logger(keyOf(r)).Error("remains of a failed create not removed", zap.Error(err))
	}
}
