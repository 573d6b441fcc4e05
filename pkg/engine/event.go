package engine

import (
	"maps"

	"github.com/docker/docker/api/types/events"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// containerEvent composes what a container's owner tells of it: the container's labels, its image and name,
// and the attributes given, which the labels cannot hide. The store sets the time when the event is emitted.
func containerEvent(c *state.Container, action events.Action, attrs map[string]string) *state.Event {
	all := map[string]string{}
	if c.Config != nil {
		maps.Copy(all, c.Config.Labels)
	}
	maps.Copy(all, attrs)
	if c.Image != "" {
		all["image"] = c.Image
	}
	all["name"] = c.Name
	e := newEvent(c.Account, c.Host, events.ContainerEventType, string(c.ID), action, all)
	e.Message.ID = e.Message.Actor.ID
	e.Message.Status = string(action)
	e.Message.From = c.Image
	return e
}

// imageEvent composes an event of an image; name is the reference as people write it, or the id when there is none.
func imageEvent(a nereid.Account, h nereid.Host, id, name string, action events.Action, labels map[string]string) *state.Event {
	all := map[string]string{}
	maps.Copy(all, labels)
	if name != "" {
		all["name"] = name
	}
	e := newEvent(a, h, events.ImageEventType, id, action, all)
	e.Message.ID = id
	e.Message.Status = string(action)
	return e
}

// networkEvent composes an event of a network.
func networkEvent(h nereid.Host, n *state.Network, action events.Action, attrs map[string]string) *state.Event {
	all := map[string]string{}
	maps.Copy(all, attrs)
	all["name"] = n.Name
	all["type"] = n.Driver
	return newEvent(n.Account, h, events.NetworkEventType, string(n.ID), action, all)
}

// volumeEvent composes an event of a volume.
func volumeEvent(a nereid.Account, h nereid.Host, name string, action events.Action, attrs map[string]string) *state.Event {
	all := map[string]string{}
	maps.Copy(all, attrs)
	return newEvent(a, h, events.VolumeEventType, name, action, all)
}

// pruneEvent composes the event that ends a prune of things of one type: it has no actor, only what was reclaimed.
func pruneEvent(a nereid.Account, h nereid.Host, t events.Type, attrs map[string]string) *state.Event {
	all := map[string]string{}
	maps.Copy(all, attrs)
	e := newEvent(a, h, t, "", events.ActionPrune, all)
	if t == events.ContainerEventType || t == events.ImageEventType {
		e.Message.Status = string(events.ActionPrune)
	}
	return e
}

// newEvent makes an event that owns attrs.
func newEvent(a nereid.Account, h nereid.Host, t events.Type, id string, action events.Action, attrs map[string]string) *state.Event {
	return &state.Event{
		Account: a,
		Host:    h,
		Message: events.Message{
			Type:   t,
			Action: action,
			Actor:  events.Actor{ID: id, Attributes: attrs},
			Scope:  "local",
		},
	}
}
