package runtime

import (
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/runtime/spec"
)

// Key names one container.
type Key struct {
	Account nereid.Account
	ID      nereid.ContainerID
}

// Spec says everything about one container that the runtime must know. It is whole at Start: nothing is read from
// elsewhere.
type Spec struct {
	Key
	Path       string
	Args       []string
	Config     *container.Config
	HostConfig *container.HostConfig
	Image      ocispec.Descriptor // manifest in the account's content store; its snapshot is the rootfs's parent
	Hostname   string
	LinkEnv    []string // variables that tell of linked containers
	Mounts     []Mount
	Netns      string // path; empty: the host's
	// IDMap is that of a container in a user namespace, which owns the network namespace at Netns.
	IDMap nereid.IDMap
	// PID, IPC of other containers that are joined, resolved by the engine; 0: none.
	JoinPID, JoinIPC, JoinUTS int
	Labels                    map[string]string
	Log                       LogConfig
	// What follows is for logs only. Name has its slash; ImageName is the reference as the user wrote it.
	Name, ImageName, ImageID string
	Created                  time.Time
}

// Mount is one mount of a container, its source already there.
type Mount = spec.Mount

// LogConfig says where the output goes.
type LogConfig struct {
	Driver  string
	Path    string // of the file that can be read here
	Options map[string]string
}

// Exit tells that the process of a container, or one exec'd in it, ended.
type Exit struct {
	Key
	ExecID    nereid.ExecID // empty for the container's own process
	Code      int           // as Docker: 0..255, 128+n for signals
	At        time.Time
	OOMKilled bool
}

// SpecError is a failure to make of a Spec what runc wants, before anything is run. Its words are Docker's.
type SpecError struct{ Err error }

func (e *SpecError) Error() string { return e.Err.Error() }

func (e *SpecError) Unwrap() error { return e.Err }

// Streams of a client attached to a container or exec. Nil ones are not wanted.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer // with a tty only Stdout
	Tty            bool
	DetachKeys     []byte
	// CloseStdin closes the process's stdin when Stdin ends (StdinOnce or exec).
	CloseStdin bool
}

// Process is what to exec.
type Process struct {
	ExecID      nereid.ExecID
	Args        []string
	Env         []string // added to the container's
	Dir         string
	User        string
	Tty         bool
	Privileged  bool
	Stdin       bool    // keep a stdin
	ConsoleSize [2]uint // height, width
}

// The values of Task.Status.
const (
	StatusCreated = "created"
	StatusRunning = "running"
	StatusPaused  = "paused"
	StatusStopped = "stopped"
)

// Task is what is known of a container's process.
type Task struct {
	Pid    int
	Status string // created, running, paused, stopped
	Exit   *Exit  // when stopped
}

// LogOptions select messages of a log.
type LogOptions struct {
	Since, Until   time.Time
	Tail           int // lines from the end; negative: all
	Follow         bool
	Stdout, Stderr bool
	Details        bool
}
