package engine

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Events yields, in fleet order, the account's events that pass the filters: those since a time, then those to come
// until a time. Without since it starts now (with until alone, at the oldest that is kept); without until it goes on
// for as long as the context; an until in the past ends at once. What happens between the call and the first read is
// not lost, and a slow reader costs nothing. The sequence is read once, by one goroutine.
func (s *System) Events(ctx context.Context, since, until time.Time, f filters.Args) (iter.Seq2[events.Message, error], error) {
	if !until.IsZero() && until.Before(since) {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("`since` time (%d.%09d) cannot be after `until` time (%d.%09d)",
			since.Unix(), since.Nanosecond(), until.Unix(), until.Nanosecond()))
	}
	r := &eventReader{
		view:   s.State.View(),
		cursor: s.eventCursor(since, until),
		keep:   eventFilter{account: nereid.AccountFrom(ctx), until: until, args: f}.include,
		until:  until,
	}
	return func(yield func(events.Message, error) bool) {
		s.listeners.Add(1)
		defer s.listeners.Add(-1)
		if err := r.read(ctx, yield); err != nil {
			yield(events.Message{}, err)
		}
	}, nil
}

// eventCursor stands before the first event asked for.
func (s *System) eventCursor(since, until time.Time) *state.EventCursor {
	view := s.State.View()
	switch {
	case !since.IsZero() && since.Before(time.Now()):
		return view.Events(0, since.UnixNano())
	case since.IsZero() && !until.IsZero():
		return view.Events(0, 0)
	default:
		return view.Events(view.Revision(), 0)
	}
}

// eventReader reads the events for one client.
type eventReader struct {
	view   *state.View
	cursor *state.EventCursor
	keep   func(*state.Event) bool
	until  time.Time
}

// read yields until the reader has enough, the time is up or the context ends, none of which is an error.
func (r *eventReader) read(ctx context.Context, yield func(events.Message, error) bool) error {
	if !r.yield(r.cursor.Ready(), yield) {
		return nil
	}
	if !r.until.IsZero() {
		if !r.until.After(time.Now()) {
			return nil
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.until)
		defer cancel()
	}
	for {
		batch, err := r.cursor.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !r.yield(batch, yield) {
			return nil
		}
	}
}

// yield passes on what the client asked for and tells whether it wants more.
func (r *eventReader) yield(batch []*state.Event, yield func(events.Message, error) bool) bool {
	fleet := manyHosts(r.view)
	for _, e := range batch {
		if !r.keep(e) {
			continue
		}
		m := e.Message
		if fleet {
			m.Actor.Attributes = hostedAttributes(e)
		}
		if !yield(m, nil) {
			return false
		}
	}
	return true
}

// hostedAttributes are an event's attributes, and the host it happened on. The map is the caller's.
func hostedAttributes(e *state.Event) map[string]string {
	attrs := map[string]string{hostLabel: string(e.Host)}
	maps.Copy(attrs, e.Message.Actor.Attributes)
	return attrs
}

// eventFilter decides what of the fleet's events one client sees.
type eventFilter struct {
	account nereid.Account
	until   time.Time
	args    filters.Args
}

func (f eventFilter) include(e *state.Event) bool {
	if e.Account != f.account || !f.until.IsZero() && e.Message.TimeNano > f.until.UnixNano() {
		return false
	}
	m := &e.Message
	return f.action(m.Action) &&
		f.args.ExactMatch("type", string(m.Type)) &&
		f.args.ExactMatch("scope", m.Scope) &&
		f.node(e) &&
		f.actors(m) &&
		f.image(m) &&
		f.label(e)
}

// label matches labels, among which the host is where one is asked for.
func (f eventFilter) label(e *state.Event) bool {
	asked := f.args.Get("label")
	if len(asked) == 0 {
		return true
	}
	attrs := e.Message.Actor.Attributes
	if slices.ContainsFunc(asked, func(l string) bool { return strings.HasPrefix(l, hostLabel) }) {
		attrs = hostedAttributes(e)
	}
	return f.args.MatchKVList("label", attrs)
}

// action matches the filter "event". Actions that carry details after a colon are found by their bare name too.
func (f eventFilter) action(a events.Action) bool {
	if !f.args.Contains("event") {
		return true
	}
	for _, bare := range []events.Action{events.ActionHealthStatus, events.ActionExecCreate, events.ActionExecStart} {
		if slices.Contains(f.args.Get("event"), string(bare)) {
			return f.args.FuzzyMatch("event", string(a))
		}
	}
	return f.args.ExactMatch("event", string(a))
}

// node matches the host an event happened on.
func (f eventFilter) node(e *state.Event) bool {
	return f.args.ExactMatch("node", string(e.Host))
}

// actors matches the filters that name what an event is about, by id or name, each its beginning at least. As with
// Docker they look at any event's actor, whatever its type.
func (f eventFilter) actors(m *events.Message) bool {
	types := []events.Type{
		events.DaemonEventType, events.ContainerEventType, events.PluginEventType, events.VolumeEventType,
		events.NetworkEventType, events.ServiceEventType, events.SecretEventType, events.ConfigEventType,
	}
	for _, t := range types {
		if !f.args.FuzzyMatch(string(t), m.Actor.ID) && !f.args.FuzzyMatch(string(t), m.Actor.Attributes["name"]) {
			return false
		}
	}
	return true
}

// image matches an image's own events and those of containers made from it, with and without its tag.
func (f eventFilter) image(m *events.Message) bool {
	if !f.args.Contains("image") {
		return true
	}
	name := m.Actor.Attributes["image"]
	if m.Type == events.ImageEventType {
		name = m.Actor.Attributes["name"]
	}
	asked := func(ref string) bool { return f.args.ExactMatch("image", ref) }
	return asked(m.Actor.ID) || asked(name) || asked(withoutTag(m.Actor.ID)) || asked(withoutTag(name))
}

func withoutTag(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarName(named)
}
