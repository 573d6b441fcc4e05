package stdio

import (
	"slices"
	"sync"
)

// maxBehind is how far a client may be behind before it holds the process back, as much as Docker allows.
const maxBehind = 1 << 20

// keepQueue is the size of queue that is kept for the next output; a larger one was grown by a rare flood.
const keepQueue = 64 << 10

// client is the queue of one attached client. The intakes put, Attach takes.
type client struct {
	wants [numStreams]bool
	wake  chan struct{} // holds one signal: there is something to take

	mu     sync.Mutex // guards what follows
	space  *sync.Cond // there is room again, or nobody needs any
	data   []byte
	runs   []run // of data, in order
	spare  []byte
	ended  [numStreams]bool
	gone   bool // takes no more
	hasty  bool // no bound: who puts must not wait
	failed error
}

// run is a length of data of one stream.
type run struct {
	stream stream
	end    int // offset in data
}

func newClient(wantsOut, wantsErr bool) *client {
	c := &client{wants: [numStreams]bool{streamOut: wantsOut, streamErr: wantsErr}, wake: make(chan struct{}, 1)}
	c.space = sync.NewCond(&c.mu)
	return c
}

// put queues a copy of data, waiting for room as long as the client is there.
func (c *client) put(s stream, data []byte) {
	if !c.wants[s] {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.data) >= maxBehind && !c.gone && !c.hasty {
		c.space.Wait()
	}
	if c.gone {
		return
	}
	c.data = append(c.data, data...)
	if n := len(c.runs); n > 0 && c.runs[n-1].stream == s {
		c.runs[n-1].end = len(c.data)
	} else {
		c.runs = append(c.runs, run{s, len(c.data)})
	}
	c.signal()
}

func (c *client) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take gives what is queued, valid until the next take. With nothing queued, over says that nothing will come, and
// err why if it is not the end of the streams.
func (c *client) take(runs []run) (data []byte, _ []run, over bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.data) == 0 {
		return nil, nil, c.overLocked(), c.failed
	}
	data, runs = c.data, append(runs[:0], c.runs...)
	c.data, c.runs = c.spare[:0], c.runs[:0]
	c.spare = nil
	if cap(data) <= keepQueue {
		c.spare = data
	}
	c.space.Broadcast()
	return data, runs, false, nil
}

func (c *client) overLocked() bool {
	if c.failed != nil {
		return true
	}
	sendsOnly := !slices.Contains(c.wants[:], true) // until the process ends, too
	for s, wanted := range c.wants {
		if (wanted || sendsOnly) && !c.ended[s] {
			return false
		}
	}
	return true
}

func (c *client) end(s stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended[s] = true
	c.signal()
}

// hurry takes the bound off the queue, and ends the client when it is to be left.
func (c *client) hurry(leave bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hasty = true
	if leave {
		c.failed = ErrStopped
	}
	c.space.Broadcast()
	c.signal()
}

// leave lets go of whoever waits for room.
func (c *client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.data, c.runs, c.spare = nil, nil, nil
	c.space.Broadcast()
}
