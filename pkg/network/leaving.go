package network

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	// lookAfter is the time between looks at what is leaving.
	lookAfter = 100 * time.Millisecond
	// leaveWithin is how long a link may take to go with its namespace. It stays when something else holds that, such
	// as another container that shares it.
	leaveWithin = time.Second
)

// leaver is a container's link on the host.
type leaver struct {
	link    string
	inside  string // its name in the container, when it has no end on the host
	network nereid.NetworkID
	addr    netip.Addr
	since   time.Time // of its container's removal
}

// leaving looks after the links of removed containers. The kernel takes them away with their namespaces, many at a
// time; to ask for each by itself costs tens of milliseconds and holds up all other changes of links meanwhile.
type leaving struct {
	f      *Fabric
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	links    map[string]leaver // by link
	watching bool              // a goroutine does
}

func newLeaving(f *Fabric) *leaving {
	l := &leaving{f: f, links: map[string]leaver{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// add hands over links whose namespace has been given up.
func (l *leaving) add(links map[nereid.EndpointID]leaver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range links {
		if e.link == "" {
			continue
		}
		e.since = time.Now()
		l.links[e.link] = e
	}
	if len(l.links) > 0 && !l.watching {
		l.watching = l.runLocked(l.watch)
	}
}

// forget has the kernel forget conversations at UDP ports that were closed, in a moment: to find them it must look at
// all there are.
func (l *leaving) forget(ports []Published) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runLocked(func() { l.f.forgetUDP(slices.DeleteFunc(ports, l.f.open), nil) })
}

// runLocked reports false when the daemon ends.
func (l *leaving) runLocked(do func()) bool {
	if l.ctx.Err() != nil {
		return false
	}
	l.done.Go(do)
	return true
}

// watch ends when all have left.
func (l *leaving) watch() {
	for pause(l.ctx, lookAfter) {
		for _, e := range l.list() {
			l.look(e)
		}
		if l.quiet() {
			return
		}
	}
}

func (l *leaving) list() []leaver {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]leaver, 0, len(l.links))
	for _, e := range l.links {
		list = append(list, e)
	}
	return list
}

func (l *leaving) quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watching = len(l.links) > 0
	return !l.watching
}

// look deletes a link that is late.
func (l *leaving) look(e leaver) {
	if l.f.linkExists(e.link) {
		if time.Since(e.since) < leaveWithin {
			return
		}
		if err := l.f.deleteLink(e.link); err != nil {
			l.f.log.Error("a removed container's link remains", zap.Error(err))
		}
	}
	l.left(e.link)
}

func (l *leaving) left(link string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.links, link)
}

// evict deletes a link that still answers for the address of a new endpoint, as when a container with an address of
// its own starts again at once.
func (l *leaving) evict(ep *state.Endpoint) error {
	for _, e := range l.list() {
		if e.network != ep.Network || e.addr != ep.Address.Addr() {
			continue
		}
		if err := l.f.deleteLink(e.link); err != nil {
			return err
		}
		l.left(e.link)
	}
	return nil
}

// close stops looking, and deletes what has not left yet: nobody would look after it until the next Restore, which
// finds what there was no time for.
func (l *leaving) close() {
	l.mu.Lock()
	l.cancel() // nothing runs anew
	l.mu.Unlock()
	l.done.Wait()
	for end := time.Now().Add(leaveWithin); time.Now().Before(end); {
		list := l.list()
		if len(list) == 0 {
			return
		}
		list[0].since = time.Time{}
		l.look(list[0])
	}
}
