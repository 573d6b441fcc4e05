package state

import "sync"

// bell wakes everybody who listens; ringing it is free while nobody does. Listen first, then look, then wait.
type bell struct {
	mu sync.Mutex
	ch chan struct{} // closed by ring; nil while nobody listens
}

func (b *bell) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
