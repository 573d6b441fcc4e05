package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/image"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// Commit makes an image of what a container changed over its own, and returns its id. Changes are Dockerfile
// instructions. A container that runs is paused meanwhile when that is asked. When it fails, or the client goes, nothing is
// left of the image.
func (c *Containers) Commit(ctx context.Context, ref string, cfg *backend.CreateImageConfig) (string, error) {
	r, err := c.find(ctx, ref)
	if err != nil {
		return "", err
	}
	if err := committable(r); err != nil {
		return "", err
	}
	conf, err := commitConfig(r, cfg)
	if err != nil {
		return "", err
	}
	if cfg.Pause {
		defer c.freeze(ctx, r)()
	}
	root, release, err := c.Runtime.View(ctx, keyOf(r))
	if err != nil {
		if gone := c.stillCommittable(r); gone != nil {
			return "", gone
		}
		return "", err
	}
	defer func() {
		if err := release(); err != nil {
			c.logger(keyOf(r)).Error("root file system not released after a commit", zap.Error(err))
		}
	}()
	id, err := c.images.CommitContainer(ctx, CommitImage{
		Container: r, RootFS: root, Config: conf, Author: cfg.Author, Comment: cfg.Comment, Tag: cfg.Tag,
		Still: func() error { return c.stillCommittable(r) },
		Tell: func(id nereid.ImageID) *state.Event {
			attrs := map[string]string{"comment": cfg.Comment, "imageID": string(id), "imageRef": ""}
			if cfg.Tag != nil {
				attrs["imageRef"] = reference.FamiliarString(cfg.Tag)
			}
			return containerEvent(r, events.ActionCommit, attrs)
		},
	})
	return string(id), err
}

// committable tells why no image can be made of a container.
func committable(r *state.Container) error {
	switch r.State.Status {
	case state.StatusDead:
		return errConflict("You cannot commit container %s which is Dead", r.ID)
	case state.StatusRemoving:
		return errConflict("You cannot commit container %s which is being removed", r.ID)
	}
	return nil
}

// stillCommittable is committable once more, when its files have been read: those of a container that is being removed
// were going meanwhile.
func (c *Containers) stillCommittable(r *state.Container) error {
	now, ok := c.State.View().Container(r.Account, r.ID)
	if !ok {
		return errNoSuchContainer(string(r.ID))
	}
	return committable(now)
}

// commitConfig is the configuration of the image: what the request says, or the container's, with the changes applied
// and completed by the container's. What is a matter of one container is left out.
func commitConfig(r *state.Container, cfg *backend.CreateImageConfig) (*container.Config, error) {
	base := cfg.Config
	if base == nil {
		base = r.Config
	}
	conf, err := image.ApplyChanges(base, cfg.Changes)
	if err != nil {
		return nil, err
	}
	mergeImage(conf, r.Config)
	return &container.Config{
		User: conf.User, ExposedPorts: conf.ExposedPorts, Env: conf.Env, Cmd: conf.Cmd, Healthcheck: conf.Healthcheck,
		ArgsEscaped: conf.ArgsEscaped, Volumes: conf.Volumes, WorkingDir: conf.WorkingDir, Entrypoint: conf.Entrypoint,
		OnBuild: conf.OnBuild, Labels: conf.Labels, StopSignal: conf.StopSignal, Shell: conf.Shell,
	}, nil
}

// freezeMark is the file that tells a later daemon that a container is paused for a commit only.
const freezeMark = "commit-pause"

// freeze pauses a container that runs until the function it returns is called. Like Docker it goes on when that fails, as
// it does for one that does not run.
func (c *Containers) freeze(ctx context.Context, r *state.Container) (thaw func()) {
	if r.State.Status != state.StatusRunning {
		return func() {}
	}
	key := keyOf(r)
	ctx = context.WithoutCancel(ctx)
	if err := os.WriteFile(c.freezePath(key), nil, 0o600); err != nil {
		c.logger(key).Warn("container not paused for its commit", zap.Error(err))
		return func() {}
	}
	unmark := func() {
		if err := os.Remove(c.freezePath(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.logger(key).Warn("mark of a commit not removed", zap.Error(err))
		}
	}
	if err := c.Pause(ctx, string(r.ID)); err != nil {
		unmark()
		c.logger(key).Debug("container not paused for its commit", zap.Error(err))
		return func() {}
	}
	return func() {
		if err := c.Unpause(ctx, string(r.ID)); err != nil {
			c.logger(key).Debug("container not unpaused after its commit", zap.Error(err)) // it may have ended
		}
		unmark()
	}
}

func (c *Containers) freezePath(key runtime.Key) string { return filepath.Join(c.dir(key), freezeMark) }

// thawAdopted lets a container run again that a daemon which died paused for a commit.
func (c *Containers) thawAdopted(ctx context.Context, r *state.Container, task runtime.Task) runtime.Task {
	key := keyOf(r)
	if _, err := os.Stat(c.freezePath(key)); err != nil {
		return task
	}
	if task.Status == runtime.StatusPaused {
		if err := c.Runtime.Resume(ctx, key); err != nil {
			c.logger(key).Error("container paused for a commit not unpaused", zap.Error(err))
			return task
		}
		task.Status = runtime.StatusRunning
	}
	if err := os.Remove(c.freezePath(key)); err != nil {
		c.logger(key).Warn("mark of a commit not removed", zap.Error(err))
	}
	return task
}
