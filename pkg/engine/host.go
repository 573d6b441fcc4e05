// Package engine holds the use cases, one type per resource: what the API's verbs mean for a fleet. It decides
// against the state and has the host's rooms (runtime, network, image, volume) do the work.
package engine

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/network"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/runtime"
)

// Runtime is what the container use cases need of this host's containers. All methods may be called at once; those
// on one container are ordered by the engine. Errors are errdefs classes.
type Runtime interface {
	tasks
	execs
	taskStreams
	rootfs
	measures
	abilities
}

type abilities interface {
	// Check refuses what this host cannot do for a container, in Docker's words with class errdefs.ErrInvalidArgument,
	// and warns of what it will not heed.
	Check(hc *container.HostConfig) (warnings []string, err error)
}

type tasks interface {
	// CreateTask makes the shim and the process up to the point where only its start is missing, and opens its
	// stdio. The spec's network namespace must exist; its links may follow until StartTask. The root file system
	// must be Prepared. A failure leaves nothing but the root file system.
	CreateTask(ctx context.Context, spec runtime.Spec) (pid int, err error)
	// StartTask lets the created process run. A failure (command not found …) carries runc's words; the caller then
	// calls DeleteTask.
	StartTask(ctx context.Context, key runtime.Key) error
	Kill(ctx context.Context, key runtime.Key, signal int) error
	Pause(ctx context.Context, key runtime.Key) error
	Resume(ctx context.Context, key runtime.Key) error
	Resize(ctx context.Context, key runtime.Key, height, width uint32) error
	// Update applies resource limits to a running container.
	Update(ctx context.Context, key runtime.Key, r container.Resources) error
	// DeleteTask removes what is left of an ended (or only created) task: shim, FIFOs, cgroup. Not found is no error.
	DeleteTask(ctx context.Context, key runtime.Key) error
	// Tasks are those that exist now, ended ones not yet deleted among them, as found or adopted at start.
	Tasks(ctx context.Context) (map[runtime.Key]runtime.Task, error)
	// Pids of all processes in the container.
	Pids(ctx context.Context, key runtime.Key) ([]int, error)
}

type execs interface {
	// Exec starts a process in a running container, attached to streams when they are not nil. It returns once the
	// process runs; its end comes through Handler.Exited. With streams, done is closed when they are drained or
	// detached from.
	Exec(ctx context.Context, key runtime.Key, p runtime.Process, s *runtime.Streams) (pid int, done <-chan error, err error)
	ExecResize(ctx context.Context, key runtime.Key, id nereid.ExecID, height, width uint32) error
	// ExecKill signals an exec'd process.
	ExecKill(ctx context.Context, key runtime.Key, id nereid.ExecID, signal int) error
}

type taskStreams interface {
	// Attach joins the container's live stdio and blocks until the container ends, the context ends, the client
	// detaches (ErrDetached) or its stdin ends (ErrStdinEnded). It may be called before CreateTask: ready is called once joined, and nothing the process
	// writes from its first byte on is missed. Output of a slow client holds the container back, as Docker's does.
	Attach(ctx context.Context, key runtime.Key, s runtime.Streams, ready func()) error
	// Logs reads a container's log, running or not, following it across rotation.
	Logs(ctx context.Context, key runtime.Key, cfg runtime.LogConfig, opts LogOptions) iter.Seq2[*backend.LogMessage, error]
}

// LogOptions of Runtime.Logs.
type LogOptions = runtime.LogOptions

type rootfs interface {
	// Prepare makes the container's writable root file system over its image, unpacking the image when this host
	// has not yet. Already there is no error.
	Prepare(ctx context.Context, spec runtime.Spec) error
	// Discard removes it. Not found is no error.
	Discard(ctx context.Context, key runtime.Key) error
	// Mount gives the root file system as a directory on the host until release is called, running or not.
	Mount(ctx context.Context, key runtime.Key) (dir string, release func() error, err error)
	// View gives it, read-only, with the users that the container itself sees, until release is called.
	View(ctx context.Context, key runtime.Key) (dir string, release func() error, err error)
	// PinImage keeps the unpacked layers of an image for a container until Discard. Done already is no error.
	PinImage(ctx context.Context, key runtime.Key, manifest ocispec.Descriptor) error
	// MountImage gives a pinned image, read-only, as a directory on the host until release is called.
	MountImage(ctx context.Context, key runtime.Key, manifest ocispec.Descriptor) (dir string, release func() error, err error)
	// Size of the writable layer, and of all of it, in bytes.
	Size(ctx context.Context, key runtime.Key) (rw, total int64, err error)
	// Changes against the image.
	Changes(ctx context.Context, key runtime.Key) ([]container.FilesystemChange, error)
}

type measures interface {
	// Stats is one sample, without Name, ID and precpu; Networks are filled from the netns of the pid.
	Stats(ctx context.Context, key runtime.Key) (*container.StatsResponse, error)
}

// VolumeStore is what the use cases need of this host's volumes.
type VolumeStore interface {
	// Check tells whether this host can give a volume these options.
	Check(opts map[string]string) error
	// Path makes the volume's directory when it is not there, with the device of its options mounted, and returns it.
	Path(ctx context.Context, v *state.Volume) (string, error)
	// Part gives what lies at a path within a volume's directory as a path of its own, which no container that writes
	// to the volume can lead elsewhere, until release is called.
	Part(dir, sub string) (path string, release func(), err error)
	// CopyUp copies what the image has at a directory of the mounted root file system into an empty volume, or into
	// the directory sub of one, ownership, modes, times and xattrs included. What has content is left alone.
	CopyUp(ctx context.Context, v *state.Volume, rootfs, at, sub string) error
	// Unmount takes the device of a volume off its directory. Not mounted is no error.
	Unmount(ctx context.Context, v *state.Volume) error
	// Mounted lists the volumes whose devices are mounted, by account and name alone.
	Mounted(ctx context.Context) ([]*state.Volume, error)
	// Doom notes on the disk that a volume is about to be taken out of the state, Spare takes that back, and Doomed
	// lists the volumes with such a note, by account and name alone.
	Doom(ctx context.Context, v *state.Volume) error
	Spare(ctx context.Context, v *state.Volume) error
	Doomed(ctx context.Context) ([]*state.Volume, error)
	// Delete removes the volume's data. Not there is no error.
	Delete(ctx context.Context, v *state.Volume) error
	// Usage in bytes.
	Usage(ctx context.Context, v *state.Volume) (int64, error)
}

// Network is what the use cases need of this host's part of the fabric. All methods are idempotent.
type Network interface {
	// NewSandbox makes the container's network namespace with a running loopback and its resolver, and returns its path.
	NewSandbox(ctx context.Context, id nereid.ContainerID, opts network.SandboxOptions) (path string, err error)
	// Attach makes the container's links those of the endpoints given (bridges made where missing), with addresses,
	// routes and MACs from the endpoints, in one netlink round; network.Ways have the default routes.
	Attach(ctx context.Context, id nereid.ContainerID, to []network.Attachment) error
	// Publish makes the container's open host ports those given, in one nftables batch. A port that another process of this host holds is an error
	// with Docker's words ("failed to bind host port for 0.0.0.0:80:10.1.2.3:80/tcp: address already in use").
	Publish(ctx context.Context, id nereid.ContainerID, ports []network.Published) error
	// Remove undoes all of the above for a container. Not there is no error.
	Remove(ctx context.Context, id nereid.ContainerID) error
	// RemoveNetwork takes a network's bridge and rules off this host. Nothing may be attached.
	RemoveNetwork(ctx context.Context, n *state.Network) error
	// SetRemotes has a network on this host reach these endpoints of other hosts, and no others.
	SetRemotes(ctx context.Context, n *state.Network, remotes []network.Remote) error
	// SetHosts says at which addresses the other hosts of the fleet are reached.
	SetHosts(ctx context.Context, others []netip.Addr) error
	// Probe tries the way to another host of those by packets of the fabric.
	Probe(ctx context.Context, host netip.Addr) (network.Way, error)
	// SetMesh makes the ports of other hosts' containers that this host answers on those given.
	SetMesh(ctx context.Context, ports []network.MeshPort) error
	// Restore makes what is there equal to what should be after a restart: namespaces, links and rules of no container
	// named are removed, those of the named are kept as they are, resolvers and listeners opened again.
	Restore(ctx context.Context, running []network.Restored) error
}

// hostTimeout bounds every operation on the host: no request may hang for ever.
const hostTimeout = 2 * time.Minute
