package stdio

import (
	"slices"
	"sync"
)

// stream is an output of the process.
type stream int

const (
	streamOut stream = iota
	streamErr
	numStreams
)

// hub hands output to the clients that are attached.
type hub struct {
	mu      sync.Mutex // guards what follows; not held while a client is waited for
	clients []*client  // replaced, never edited: a broadcast under way goes on with those it began with
	live    int        // outputs that have not ended
	ended   [numStreams]bool
	hasty   bool // clients must not hold back the process any more
	stopped bool // by Detach
}

func newHub() *hub { return &hub{ended: [numStreams]bool{true, true}} }

// expect says how many outputs there are.
func (h *hub) expect(n int) {
	h.live = n
	for i := range n {
		h.ended[i] = false
	}
}

// join adds a client: it gets all that is broadcast from now on.
func (h *hub) join(c *client) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return ErrStopped
	}
	for s, ended := range h.ended {
		if ended {
			c.end(stream(s))
		}
	}
	if h.hasty {
		c.hurry(false)
	}
	h.clients = append(slices.Clip(h.clients), c)
	return nil
}

func (h *hub) leave(c *client) {
	c.leave()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients = slices.DeleteFunc(slices.Clone(h.clients), func(o *client) bool { return o == c })
}

func (h *hub) snapshot() []*client {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clients
}

// broadcast gives every client a copy. It blocks while one of them is too far behind.
func (h *hub) broadcast(s stream, data []byte) {
	for _, c := range h.snapshot() {
		c.put(s, data)
	}
}

// end says that a stream has ended, and tells whether it was the last one.
func (h *hub) end(s stream) (last bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended[s] = true
	for _, c := range h.clients {
		c.end(s)
	}
	h.live--
	return h.live == 0
}

// stop lets no client hold back the process any more. When all is left for a later daemon, clients end with
// ErrStopped; else they end as the streams do.
func (h *hub) stop(leave bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hasty, h.stopped = true, leave
	for _, c := range h.clients {
		c.hurry(leave)
	}
}
