package gossip

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// capacityVersion of the message. Fields may be added; one that means something else takes a new version, which older
// hosts pass over.
const capacityVersion = 1

// maxCapacity bounds one host's message: several fit a packet. Labels are left out above it; the state has them.
const maxCapacity = 1000

// Capacity is how full a host says it is.
type Capacity struct {
	Version    int               `json:"v"`
	Host       nereid.Host       `json:"h"`
	Sent       int64             `json:"t"` // nanoseconds on the host's clock: newer wins
	CPUs       int               `json:"c,omitempty"`
	Memory     int64             `json:"m,omitempty"`  // bytes
	UsedCPUs   int64             `json:"uc,omitempty"` // reserved, in billionths
	UsedMemory int64             `json:"um,omitempty"` // reserved, in bytes
	Containers int               `json:"n,omitempty"`
	Running    int               `json:"r,omitempty"`
	Ports      int               `json:"p,omitempty"` // host ports in use
	Draining   bool              `json:"d,omitempty"`
	Leaving    bool              `json:"x,omitempty"` // says farewell
	Software   string            `json:"s,omitempty"` // nereid's version
	Labels     map[string]string `json:"l,omitempty"`
}

// same tells whether there is nothing new to say.
func (c Capacity) same(o Capacity) bool {
	return c.CPUs == o.CPUs && c.Memory == o.Memory && c.UsedCPUs == o.UsedCPUs && c.UsedMemory == o.UsedMemory &&
		c.Containers == o.Containers && c.Running == o.Running && c.Ports == o.Ports && c.Draining == o.Draining
}

func (c Capacity) encode() []byte {
	raw, err := json.Marshal(c)
	if err == nil && len(raw) > maxCapacity {
		c.Labels = nil
		raw, err = json.Marshal(c)
	}
	if err != nil {
		return nil // numbers and strings always encode
	}
	return raw
}

// message is a capacity on its way; a newer one of the same host replaces it.
type message struct {
	host nereid.Host
	body []byte
}

func (m message) Invalidates(b memberlist.Broadcast) bool {
	o, ok := b.(message)
	return ok && o.host == m.host
}
func (m message) Name() string    { return string(m.host) }
func (m message) Message() []byte { return m.body }
func (m message) Finished()       {}

// tell says how full this host is, when that changed or some time has passed.
func (g *Gossip) tell(now time.Time) {
	if g.cfg.Capacity == nil {
		return
	}
	c := g.cfg.Capacity()
	since := now.Sub(g.toldAt)
	if g.toldEver && (since < g.time(tellEvery) || (c.same(g.told) && since < g.time(tellAnyway))) {
		return
	}
	c.Version, c.Host, c.Sent = capacityVersion, g.cfg.Host, now.UnixNano()
	g.mu.Lock()
	g.told, g.toldAt, g.toldEver = c, now, true
	g.mu.Unlock()
	g.queue.QueueBroadcast(message{g.cfg.Host, c.encode()})
}

// passOn sends what is new to some hosts. It has packets of its own: memberlist puts such messages into the room that its
// own ones leave, and where a thousand hosts begin at once those leave none for half a minute.
func (g *Gossip) passOn(list *memberlist.Memberlist) {
	if g.queue.NumQueued() == 0 {
		return
	}
	others := g.others()
	for range min(passTo, len(others)) {
		msgs := g.queue.GetBroadcasts(len(","), packetSize)
		if len(msgs) == 0 {
			return
		}
		i := rand.IntN(len(others))
		body := slices.Concat([]byte("["), bytes.Join(msgs, []byte(",")), []byte("]"))
		_ = list.SendBestEffort(others[i], body) // others pass it on, too
		others = slices.Delete(others, i, i+1)
	}
}

// heard takes in one message, or all that another host knows, and passes news on.
func (g *Gossip) heard(body []byte) {
	if len(body) == 0 {
		return
	}
	var all []Capacity
	if body[0] == '[' {
		if err := json.Unmarshal(body, &all); err != nil {
			g.log.Debug("a message of the rumour cannot be read", zap.Error(err))
			return
		}
	} else {
		var c Capacity
		if err := json.Unmarshal(body, &c); err != nil {
			g.log.Debug("a message of the rumour cannot be read", zap.Error(err))
			return
		}
		all = []Capacity{c}
	}
	for _, c := range all {
		if g.note(c) {
			g.queue.QueueBroadcast(message{c.Host, c.encode()})
		}
	}
}

// note keeps what is newer than what is known.
func (g *Gossip) note(c Capacity) (isNew bool) {
	if c.Version != capacityVersion || c.Host == "" || c.Host == g.cfg.Host {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.entryLocked(c.Host) // its message may come before the news that it is there
	if c.Sent <= e.capacity.Sent {
		return false
	}
	e.capacity, e.leaving = c, c.Leaving
	if c.Leaving && e.state == nereid.HostSuspect {
		e.become(nereid.HostLeft, time.Now())
	}
	return true
}

// everything is what this host knows of all, for one that compares.
func (g *Gossip) everything() []byte {
	g.mu.RLock()
	all := make([]Capacity, 0, len(g.hosts)+1)
	if g.toldEver {
		all = append(all, g.told)
	}
	for _, e := range g.hosts {
		if e.capacity.Version != 0 && !e.state.Gone() {
			all = append(all, e.capacity)
		}
	}
	g.mu.RUnlock()
	raw, err := json.Marshal(all)
	if err != nil {
		return nil // numbers and strings always encode
	}
	return raw
}
