package engine

import (
	"sync"
	"time"

	"github.com/nereid-paas/nereid/runtime"
)

// liveState is what the owner knows of a container beside its record, and may forget when the daemon ends. The holder
// of the container's lock reads and writes it.
type liveState struct {
	backoff   time.Duration // before the restart that led to the present run; 0: the user started it
	cancelled bool          // a stop or kill told that the next end is meant
	stopping  bool          // a stop waits for the end, and wants its event with it
	renewing  bool          // a restart is between its stop and its start: --rm does not apply
	leaving   bool          // a move is between the end of its process and its new host
	alarm     *alarm        // of a restart that waits for its back-off
	abandoned chan struct{} // of a start that was not recorded: closed when its end is dealt with; else nil
	lost      bool          // Adopt found no process where one should run: the next end told is this run's
}

// settle lets the starts go on that wait for the end of an abandoned one.
func (l *liveState) settle() {
	if l.abandoned != nil {
		close(l.abandoned)
		l.abandoned = nil
	}
}

// liveTable holds the liveState of containers that have one. The zero value is ready.
type liveTable struct {
	mu  sync.Mutex
	all map[runtime.Key]*liveState
}

// of returns the container's liveState, made when missing. Call it with the container's lock held.
func (t *liveTable) of(key runtime.Key) *liveState {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[runtime.Key]*liveState{}
	}
	l := t.all[key]
	if l == nil {
		l = &liveState{}
		t.all[key] = l
	}
	return l
}

// forget drops what is known of a removed container.
func (t *liveTable) forget(key runtime.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, key)
}
