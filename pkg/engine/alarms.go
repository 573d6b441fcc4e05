package engine

import (
	"context"
	"sync"
	"time"
)

// alarms run functions later, each once and in a goroutine of its own, until stop. The zero value is ready.
type alarms struct {
	mu      sync.Mutex
	waiting map[*alarm]struct{}
	stopped bool
	running sync.WaitGroup
}

// alarm is one function to be run.
type alarm struct {
	of    *alarms
	timer *time.Timer
	do    func(context.Context)
}

// after runs do when d has passed, unless the alarm is cancelled or the alarms are stopped first. Nothing is run after
// stop.
func (a *alarms) after(d time.Duration, do func(context.Context)) *alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	al := &alarm{of: a, do: do}
	if a.stopped {
		return al
	}
	if a.waiting == nil {
		a.waiting = map[*alarm]struct{}{}
	}
	a.waiting[al] = struct{}{}
	al.timer = time.AfterFunc(d, al.ring)
	return al
}

func (al *alarm) ring() {
	al.of.mu.Lock()
	if !al.takeLocked() {
		al.of.mu.Unlock()
		return
	}
	al.of.running.Add(1)
	al.of.mu.Unlock()
	defer al.of.running.Done()
	al.do(context.Background())
}

// cancel keeps the function from being run, and tells whether it did: false when it has begun.
func (al *alarm) cancel() bool {
	if al == nil {
		return false
	}
	al.of.mu.Lock()
	defer al.of.mu.Unlock()
	if al.timer != nil {
		al.timer.Stop()
	}
	return al.takeLocked()
}

// takeLocked takes the alarm from those waiting: whoever gets true decides over it.
func (al *alarm) takeLocked() bool {
	_, ok := al.of.waiting[al]
	delete(al.of.waiting, al)
	return ok
}

// stop cancels what waits and returns when what runs has returned.
func (a *alarms) stop() {
	a.mu.Lock()
	a.stopped = true
	for al := range a.waiting {
		al.timer.Stop()
		delete(a.waiting, al)
	}
	a.mu.Unlock()
	a.running.Wait()
}
