package keep_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/nereid-paas/nereid/runtime/stdio/keep"
)

// tasks is a shim's task service whose container writes and ends within Create.
type tasks struct {
	taskapi.TTRPCTaskService
	fail error
}

func (s tasks) Create(_ context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	for _, path := range []string{r.Stdout, r.Stderr} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		f.WriteString("last words")
		f.Close()
	}
	return &taskapi.CreateTaskResponse{}, s.fail
}

func (s tasks) Delete(context.Context, *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	return &taskapi.DeleteResponse{}, nil
}

// left is what the FIFO holds for a daemon that comes later.
func left(t *testing.T, path string) string {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	assert.NilError(t, err)
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	b, err := io.ReadAll(f)
	assert.NilError(t, err)
	return string(b)
}

func fifos(t *testing.T) (out, errs string) {
	t.Helper()
	dir := t.TempDir()
	out, errs = filepath.Join(dir, "out"), filepath.Join(dir, "err")
	assert.NilError(t, unix.Mkfifo(out, 0o600))
	assert.NilError(t, unix.Mkfifo(errs, 0o600))
	return out, errs
}

func TestOutputIsKeptUntilTheTaskIsDeleted(t *testing.T) {
	out, errs := fifos(t)
	s := keep.New(tasks{})
	_, err := s.Create(t.Context(), &taskapi.CreateTaskRequest{ID: "c", Stdout: out, Stderr: errs})
	assert.NilError(t, err)
	assert.Equal(t, left(t, out), "last words")
	_, err = s.Delete(t.Context(), &taskapi.DeleteRequest{ID: "c", ExecID: "an exec's"})
	assert.NilError(t, err)
	assert.Equal(t, left(t, errs), "last words")
}

func TestNothingIsKeptAfterwards(t *testing.T) {
	failed := errors.New("failed")
	for _, fail := range []error{nil, failed} {
		out, errs := fifos(t)
		s := keep.New(tasks{fail: fail})
		_, err := s.Create(t.Context(), &taskapi.CreateTaskRequest{ID: "c", Stdout: out, Stderr: errs})
		assert.Equal(t, err, fail)
		if fail == nil {
			_, err := s.Delete(t.Context(), &taskapi.DeleteRequest{ID: "c"})
			assert.NilError(t, err)
		}
		assert.Equal(t, left(t, out), "")
	}
}

func TestWhatIsNoFIFOIsLeftAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	assert.NilError(t, os.WriteFile(file, nil, 0o600))
	s := keep.New(tasks{})
	_, err := s.Create(t.Context(), &taskapi.CreateTaskRequest{ID: "c", Stdout: file, Stderr: file})
	assert.NilError(t, err)
}
