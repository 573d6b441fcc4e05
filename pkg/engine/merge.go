package engine

import (
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
)

// mergeImage completes what the user asked for with what the image says, as Docker does: the user's word goes first,
// maps and environments are joined by key. Neither side shares memory with the other afterwards.
func mergeImage(user, image *container.Config) {
	if image == nil {
		return
	}
	if user.User == "" {
		user.User = image.User
	}
	if user.WorkingDir == "" {
		user.WorkingDir = image.WorkingDir
	}
	if user.StopSignal == "" {
		user.StopSignal = image.StopSignal
	}
	user.ExposedPorts = joined[nat.PortSet](user.ExposedPorts, image.ExposedPorts)
	user.Labels = joined(user.Labels, image.Labels)
	if user.Labels == nil {
		user.Labels = map[string]string{} // never null
	}
	user.Volumes = joined(user.Volumes, image.Volumes)
	user.Env = joinEnv(user.Env, image.Env)
	mergeCommand(user, image)
	mergeHealth(user, image.Healthcheck)
}

// joined is a with what only b has. An empty a counts for nothing: b is what clients see then, null included.
func joined[M ~map[K]V, K comparable, V any](a, b M) M {
	if len(a) == 0 {
		return maps.Clone(b)
	}
	if len(b) == 0 {
		return a
	}
	all := maps.Clone(b)
	maps.Copy(all, a)
	return all
}

// joinEnv is the user's environment followed by the image's variables that the user did not name.
func joinEnv(user, image []string) []string {
	all := slices.Clone(user)
	for _, e := range image {
		k, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(user, func(u string) bool { uk, _, _ := strings.Cut(u, "="); return uk == k }) {
			all = append(all, e)
		}
	}
	return all
}

// mergeCommand takes the image's entrypoint and command. A user's entrypoint discards both: the image's command was
// made for the image's entrypoint.
func mergeCommand(user, image *container.Config) {
	if len(user.Entrypoint) > 0 {
		return
	}
	if len(user.Cmd) == 0 {
		user.Cmd = slices.Clone(image.Cmd)
	}
	if user.Entrypoint == nil {
		user.Entrypoint = slices.Clone(image.Entrypoint)
	}
}

func mergeHealth(user *container.Config, image *container.HealthConfig) {
	if image == nil {
		return
	}
	if user.Healthcheck == nil {
		h := *image
		user.Healthcheck = &h
		return
	}
	h := user.Healthcheck
	if len(h.Test) == 0 {
		h.Test = slices.Clone(image.Test)
	}
	h.Interval = orElse(h.Interval, image.Interval)
	h.Timeout = orElse(h.Timeout, image.Timeout)
	h.StartPeriod = orElse(h.StartPeriod, image.StartPeriod)
	h.StartInterval = orElse(h.StartInterval, image.StartInterval)
	h.Retries = orElse(h.Retries, image.Retries)
}

func orElse[T comparable](a, b T) T {
	var zero T
	if a == zero {
		return b
	}
	return a
}

// command is the process of a merged configuration: entrypoint and command joined.
func command(cfg *container.Config) (path string, args []string, err error) {
	if len(cfg.Entrypoint) == 1 && cfg.Entrypoint[0] == "" {
		cfg.Entrypoint = nil // how clients ask for no entrypoint
	}
	argv := slices.Concat(cfg.Entrypoint, cfg.Cmd)
	if len(argv) == 0 {
		return "", nil, errInvalid("no command specified")
	}
	return argv[0], argv[1:], nil
}
