// Package container routes what the Engine API says about containers and their files.
package container

import (
	"context"
	"io"
	"iter"

	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Backend is what the container routes need. The context carries the account (nereid.AccountFrom). A ref is what the
// user wrote: id, name or unambiguous id prefix. Errors are errdefs classes with Docker's words; a verb that changes
// nothing (start of a started container) is errdefs.ErrNotModified.
type Backend interface {
	lifecycle
	control
	monitor
	streams
	files
}

type lifecycle interface {
	Create(ctx context.Context, req backend.ContainerCreateConfig) (container.CreateResponse, error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, opts container.StopOptions) error
	Restart(ctx context.Context, ref string, opts container.StopOptions) error
	Kill(ctx context.Context, ref, signal string) error
	Remove(ctx context.Context, ref string, opts backend.ContainerRmConfig) error
	Prune(ctx context.Context, f filters.Args) (*container.PruneReport, error)
	// Wait validates at once and returns a channel that gets exactly one answer, closed never read twice. The
	// condition "" means not-running. The answer comes when it holds or the context ends.
	Wait(ctx context.Context, ref string, cond container.WaitCondition) (<-chan container.WaitResponse, error)
}

type control interface {
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Rename(ctx context.Context, ref, name string) error
	Update(ctx context.Context, ref string, cfg container.UpdateConfig) (container.UpdateResponse, error)
	Resize(ctx context.Context, ref string, height, width uint32) error
}

type monitor interface {
	// List returns summaries that the caller may change.
	List(ctx context.Context, opts container.ListOptions) ([]*container.Summary, error)
	// ListJSON is List without sizes, as JSON of the newest API version.
	ListJSON(ctx context.Context, opts container.ListOptions) (io.WriterTo, error)
	// Inspect returns the container and the host it runs on; the caller may change both.
	Inspect(ctx context.Context, ref string, size bool) (*container.InspectResponse, *nereid.Node, error)
	Top(ctx context.Context, ref, psArgs string) (*container.TopResponse, error)
	// Stats yields samples: one when not streaming (with precpu unless oneShot), else one a second until the
	// context ends or the container stops for good.
	Stats(ctx context.Context, ref string, stream, oneShot bool) (iter.Seq2[*container.StatsResponse, error], error)
	// Changes lists the files that differ from the image.
	Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error)
}

type streams interface {
	// Attach validates, then calls cfg.GetStreams exactly once (that is where the handler hijacks), and returns when
	// the attachment ends. It tells GetStreams whether the streams are multiplexed (without a tty and with
	// cfg.MuxStreams), and frames the output itself when they are. Closing the reader leaves the output open; the
	// function given to GetStreams is called when the client has hung up. An error after it is told to the client on
	// stdout. The end of the context ends the attachment, not the container.
	Attach(ctx context.Context, ref string, cfg *backend.ContainerAttachConfig) error
	// Logs yields the messages the options ask for; tty tells that they are not to be multiplexed.
	Logs(ctx context.Context, ref string, opts container.LogsOptions) (msgs iter.Seq2[*backend.LogMessage, error], tty bool, err error)
}

type files interface {
	Export(ctx context.Context, ref string, out io.Writer) error
	ArchiveGet(ctx context.Context, ref, path string) (io.ReadCloser, *container.PathStat, error)
	ArchiveStat(ctx context.Context, ref, path string) (*container.PathStat, error)
	ArchivePut(ctx context.Context, ref, path string, noOverwriteDirNonDir, copyUIDGID bool, content io.Reader) error
	Commit(ctx context.Context, ref string, cfg *backend.CreateImageConfig) (string, error)
}
