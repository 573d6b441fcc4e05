package answer

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/docker/docker/pkg/jsonmessage"
)

// Stream is a body that reaches the client write by write. It may be written to by several goroutines.
type Stream struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	flush   *http.ResponseController
	started bool
}

// NewStream makes a Stream; the header goes out with the first write or Start.
func NewStream(w http.ResponseWriter) *Stream {
	return &Stream{w: w, flush: http.NewResponseController(w)}
}

// Start sends the header now. Calling it again does nothing new.
func (s *Stream) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	_ = s.flush.Flush()
}

// Write sends p at once.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	n, err := s.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, s.flush.Flush()
}

// Started tells whether the status is sent and errors must go into the stream.
func (s *Stream) Started() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// Progress runs an operation that writes JSON lines and reports its error where the client looks for it: as the answer
// when nothing was written yet, else as the stream's last line.
func Progress(w http.ResponseWriter, run func(out io.Writer) error) error {
	w.Header().Set("Content-Type", "application/json")
	s := NewStream(w)
	if err := run(s); err != nil {
		if !s.Started() {
			return err
		}
		_, _ = s.Write(ErrorLine(err))
	}
	return nil
}

// ErrorLine is an error as a line of a progress stream.
func ErrorLine(err error) []byte {
	line, _ := json.Marshal(&jsonmessage.JSONMessage{Error: &jsonmessage.JSONError{Message: err.Error()}, ErrorMessage: err.Error()})
	return append(line, "\r\n"...)
}

// StatusLine is a message as a line of a progress stream.
func StatusLine(format string, args ...any) []byte {
	line, _ := json.Marshal(&jsonmessage.JSONMessage{Status: fmt.Sprintf(format, args...)})
	return append(line, "\r\n"...)
}
