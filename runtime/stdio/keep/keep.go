// Package keep is the shim's part in losing no output: it keeps the FIFOs of a container in being until its task is
// deleted.
//
// Containerd's shim holds a container's output FIFOs while it copies to them, and closes them when the container has
// ended. While no daemon is there that is the last anybody has of them, and what they hold, up to 64 KiB each, is
// gone. So the shim opens a reader of its own, which it never reads from; it does not delay the end of the output,
// which comes with the last writer.
package keep

import (
	"context"
	"sync"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

// Service is a task service that keeps the output FIFOs of its containers. Exec'd processes have no log: theirs are
// for clients, who are gone when the daemon is.
type Service struct {
	taskapi.TTRPCTaskService

	mu   sync.Mutex
	kept map[string][]int // file descriptors, by container
}

// New wraps a task service.
func New(s taskapi.TTRPCTaskService) *Service {
	return &Service{TTRPCTaskService: s, kept: map[string][]int{}}
}

// RegisterTTRPC offers the service on the shim's socket.
func (s *Service) RegisterTTRPC(server *ttrpc.Server) error {
	taskapi.RegisterTTRPCTaskService(server, s)
	return nil
}

// Create keeps the FIFOs and creates the task.
func (s *Service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (_ *taskapi.CreateTaskResponse, retErr error) {
	s.keep(r.ID, r.Stdout, r.Stderr)
	defer func() {
		if retErr != nil {
			s.release(r.ID)
		}
	}()
	return s.TTRPCTaskService.Create(ctx, r)
}

// Delete deletes the task, and the FIFOs are no more kept, or only a process exec'd in it.
func (s *Service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	resp, err := s.TTRPCTaskService.Delete(ctx, r)
	if err == nil && r.ExecID == "" {
		s.release(r.ID)
	}
	return resp, err
}

// keep opens what are FIFOs of the paths. One that cannot be opened is not kept; the task service says what is wrong
// with it.
func (s *Service) keep(id string, paths ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range paths {
		if fd, ok := openFifo(path); ok {
			s.kept[id] = append(s.kept[id], fd)
		}
	}
}

func openFifo(path string) (fd int, ok bool) {
	if path == "" {
		return -1, false
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

func (s *Service) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.kept[id] {
		unix.Close(fd)
	}
	delete(s.kept, id)
}
