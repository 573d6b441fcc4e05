package runtime

import (
	"fmt"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// resubscribeAfter is the pause after a broken subscription, of an existing containerd that restarts for example.
const resubscribeAfter = time.Second

// followEvents hears of what no Wait tells: OOMs, and the end of processes whose shim died. Until Close.
func (r *Runtime) followEvents() {
	for r.life.Err() == nil {
		ch, errs := r.client.EventService().Subscribe(r.life, `topic=="/tasks/oom"`, `topic=="/tasks/exit"`)
		r.consume(ch, errs)
		select {
		case <-r.life.Done():
		case <-time.After(resubscribeAfter):
		}
	}
}

func (r *Runtime) consume(ch <-chan *events.Envelope, errs <-chan error) {
	for {
		select {
		case e := <-ch:
			if err := r.onEvent(e); err != nil {
				r.log.Warn("event not understood", zap.Error(err))
			}
		case err := <-errs:
			if err != nil && r.life.Err() == nil {
				r.log.Warn("subscription to containerd's events broke", zap.Error(err))
			}
			return
		case <-r.life.Done():
			return
		}
	}
}

func (r *Runtime) onEvent(e *events.Envelope) error {
	if e == nil || e.Event == nil {
		return nil
	}
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		return fmt.Errorf("event %s: %w", e.Topic, err)
	}
	switch ev := v.(type) {
	case *eventsapi.TaskOOM:
		if t, err := r.task(eventKey(e, ev.ContainerID)); err == nil && t.ended() == nil {
			r.work.Go(func() { r.reportOOM(t) })
		}
	case *eventsapi.TaskExit:
		r.onExit(eventKey(e, ev.ContainerID), ev)
	}
	return nil
}

func eventKey(e *events.Envelope, id string) Key {
	return Key{Account: nereid.Account(e.Namespace), ID: nereid.ContainerID(id)}
}

// onExit keeps the end for a watcher that cannot ask the shim any more. The pid tells a container's runs apart.
func (r *Runtime) onExit(key Key, ev *eventsapi.TaskExit) {
	t, err := r.task(key)
	if err != nil || ev.ID != ev.ContainerID {
		return
	}
	t.mu.Lock()
	pid := t.pid
	t.mu.Unlock()
	if int(ev.Pid) != pid {
		return
	}
	select {
	case t.lost <- Exit{Key: key, Code: int(ev.ExitStatus), At: ev.ExitedAt.AsTime()}:
	default:
	}
}
