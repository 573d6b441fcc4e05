package engine

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
	"github.com/nereid-paas/nereid/scheduler"
	"github.com/nereid-paas/nereid/scheduler/snapshot"
)

// statesAge is how old what is rumoured may be when a container is placed: rumours take longer to arrive.
const statesAge = 250 * time.Millisecond

// placement is this host's picture of the fleet for the scheduler, with what is reserved for containers under way. It
// follows the state's view, and is made at the first question. All methods may be called at once.
type placement struct {
	host  nereid.Host
	view  *state.View
	live  *Liveness
	alone bool // no other host can be asked

	mu      sync.Mutex
	fleet   *snapshot.Snapshot // nil before the first question
	watcher *state.Watcher
	// underway are the reservations that have no record yet.
	underway map[nereid.ContainerID]struct{}
	asked    time.Time // how hosts do
}

func newPlacement(d Deps) *placement {
	return &placement{host: d.Host, view: d.State.View(), live: d.Fleet, alone: d.Peers == nil, underway: map[nereid.ContainerID]struct{}{}}
}

// close ends the watching.
func (p *placement) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watcher != nil {
		p.watcher.Close()
	}
	p.watcher, p.fleet = nil, nil
}

// reserve chooses a host and counts the container there. No host that fits is errdefs.ErrResourceExhausted with the
// reasons.
func (p *placement) reserve(r *snapshot.Request, o Order) (nereid.Host, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catchUpLocked()
	d := scheduler.Place(p.fleet, r, rand.Uint64())
	if d.Host == "" {
		return "", errdefs.ErrResourceExhausted.WithMessage(d.Reason())
	}
	p.countLocked(r, o, d.Host)
	return d.Host, nil
}

// reserveHere counts a container on this host, or refuses it with a *Refusal.
func (p *placement) reserveHere(r *snapshot.Request, o Order) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catchUpLocked()
	if why := scheduler.Check(p.fleet, r, p.host); why != "" {
		return &Refusal{Host: p.host, Why: why}
	}
	p.countLocked(r, o, p.host)
	return nil
}

func (p *placement) countLocked(r *snapshot.Request, o Order, on nereid.Host) {
	p.underway[o.ID] = struct{}{}
	p.fleet.PutContainer(snapshot.Container{
		Account: r.Account, ID: o.ID, Host: on, Name: o.Request.Name, Service: r.Service,
		Labels: o.Request.Config.Labels, Ports: r.Ports, Resources: r.Resources, Holds: true,
	})
}

// settle ends a reservation: the container's record stands for it now, or there is none.
func (p *placement) settle(a nereid.Account, id nereid.ContainerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.underway, id)
	if p.fleet == nil {
		return
	}
	p.catchUpLocked()
	if r, ok := p.view.Container(a, id); ok {
		p.fleet.PutContainer(placedContainer(r))
		return
	}
	p.fleet.RemoveContainer(a, id)
}

// catchUpLocked brings in what changed since the last question.
func (p *placement) catchUpLocked() {
	if p.fleet == nil {
		p.beginLocked()
	}
	changes, _ := p.watcher.Poll()
	for _, c := range changes {
		p.learnLocked(c)
	}
	if _, ok := p.fleet.Find(p.host); !ok { // its record is being written
		p.fleet.PutHost(snapshot.Host{Name: p.host})
	}
	if now := time.Now(); now.Sub(p.asked) >= statesAge {
		p.asked = now
		for slot := range p.fleet.Known().All() {
			p.listenLocked(p.fleet.Host(slot).Name)
		}
	}
}

// beginLocked makes the picture from all that is there.
func (p *placement) beginLocked() {
	p.watcher = p.view.Watch(state.KindHost, state.KindMember, state.KindContainer, state.KindImage, state.KindTag)
	p.fleet = snapshot.New()
	for _, h := range p.view.Hosts() {
		p.learnHostLocked(h.Name)
	}
	for _, m := range p.view.Members() {
		p.learnHostLocked(m.Name)
	}
	accounts := map[nereid.Account]struct{}{nereid.Admin: {}}
	for _, a := range p.view.Accounts() {
		accounts[a.Name] = struct{}{}
	}
	for a := range accounts {
		for _, r := range p.view.Containers(a) {
			p.fleet.PutContainer(placedContainer(r))
		}
		for _, i := range p.view.Images(a) {
			p.fleet.PutImage(placedImage(p.view, i))
		}
	}
}

func (p *placement) learnLocked(c state.Change) {
	record := c.New
	if record == nil {
		record = c.Old
	}
	gone := c.New == nil
	switch r := record.(type) {
	case *state.Host:
		p.learnHostLocked(r.Name)
	case *state.Member:
		p.learnHostLocked(r.Name)
	case *state.Container:
		p.learnContainerLocked(r, gone)
	case *state.Image:
		p.learnImageLocked(r.Account, r.ID)
	case *state.Tag:
		p.learnImageLocked(r.Account, r.Image)
		if old, ok := c.Old.(*state.Tag); ok {
			p.learnImageLocked(old.Account, old.Image)
		}
	}
}

// learnHostLocked looks a host up as it is now: one that has lost its lease is of the fleet still.
func (p *placement) learnHostLocked(h nereid.Host) {
	if p.alone && h != p.host {
		return
	}
	facts, ok := p.view.Host(h)
	if m, member := p.view.Member(h); !ok && member {
		facts, ok = &m.Facts, m.Facts.Name != "" // which it says when it starts for the first time
	}
	if !ok {
		p.fleet.RemoveHost(h)
		return
	}
	p.fleet.PutHost(placedHost(facts))
	p.listenLocked(h)
}

func (p *placement) learnContainerLocked(r *state.Container, gone bool) {
	switch _, underway := p.underway[r.ID]; {
	case !gone:
		p.fleet.PutContainer(placedContainer(r))
	case !underway: // of one that is, settle has the last word
		p.fleet.RemoveContainer(r.Account, r.ID)
	}
}

// learnImageLocked looks an image up as it is now: its names are records of their own.
func (p *placement) learnImageLocked(a nereid.Account, id nereid.ImageID) {
	if img, ok := p.view.Image(a, id); ok {
		p.fleet.PutImage(placedImage(p.view, img))
		return
	}
	p.fleet.RemoveImage(a, id)
}

// listenLocked asks how a host does. Of this one there is no doubt.
func (p *placement) listenLocked(h nereid.Host) {
	health := snapshot.Alive
	switch s := p.live.State(h); {
	case h == p.host:
	case s.Gone():
		health = snapshot.Unreachable
	case s == nereid.HostSuspect:
		health = snapshot.Suspect
	}
	p.fleet.SetHealth(h, health)
}
