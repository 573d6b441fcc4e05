// Package gossip is the rumour of the fleet: which hosts answer, and how full they are. It is a hint that ages within
// seconds, never truth, and never a reason to delete anything.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

// Config of a Gossip.
type Config struct {
	Host      nereid.Host // this host
	Listen    string      // ADDR:PORT, UDP and TCP
	Advertise string      // ADDR:PORT at which others reach it
	Key       []byte      // encrypts all of it, 16, 24 or 32 bytes
	// Capacity is how full this host is now. It is asked each second.
	Capacity func() Capacity
	// Others are ADDR:PORT of the fleet's other hosts, as far as known. It is asked while some of them are missed.
	Others func() map[nereid.Host]string
	Log    *zap.Logger
	// Transport replaces the network in tests; nil: Listen.
	Transport memberlist.NodeAwareTransport
	// Pace divides all times, for tests; 0: 1.
	Pace int
}

// Times of the rumour: a host that dies is given up within some two seconds, so that names of what ran there are gone
// within three.
const (
	// Asking often finds the dead soon; that a host has long to answer a suspicion spares one that is only busy.
	probeInterval = 250 * time.Millisecond
	probeTimeout  = 125 * time.Millisecond
	gossipEvery   = 100 * time.Millisecond
	// A host with three others to ask in its place is given up after suspicion × log10(hosts) × the interval.
	suspicion = 6
	// patience bounds how much slower a host asks that hears from nobody: its own network may be at fault, but its
	// users wait for an answer all the same.
	patience = 2
	// syncEvery is how often two hosts compare all they know.
	syncEvery = 15 * time.Second
	// graceTime is how long a host that was given up is suspect before it is unreachable.
	graceTime = 100 * time.Millisecond
	// tellEvery is how often a host says how full it is, if that changed, and tellAnyway if it did not.
	tellEvery  = time.Second
	tellAnyway = 20 * time.Second
	// retransmit × log10(hosts) is how often each host passes a message on: one in some hundred misses it, and learns it
	// when two hosts compare.
	retransmit = 5
	// passTo is how many hosts are told what is new each time, in packets of up to packetSize: memberlist's own numbers.
	passTo     = 3
	packetSize = 1300
	// seekEvery is how often hosts of the fleet that the rumour does not know are called.
	seekEvery = 3 * time.Second
	// seekAtOnce bounds how many are called each time: two that were called tell of all others.
	seekAtOnce = 8
	// leaveTime bounds the farewell.
	leaveTime = time.Second
	// inbox holds what came in until it is looked at; what overflows comes again.
	inbox = 1024
)

// Gossip is this host's part in the rumour. All methods may be called at once.
type Gossip struct {
	cfg Config
	log *zap.Logger

	news   chan news   // never closed
	bodies chan []byte // never closed
	queue  memberlist.TransmitLimitedQueue

	mu    sync.RWMutex
	hosts map[nereid.Host]*entry
	// members are copies of what memberlist knows of the other hosts alive: its own ones change under its lock.
	members map[string]*memberlist.Node

	told     Capacity
	toldAt   time.Time
	toldEver bool
}

// entry is what is known of one other host.
type entry struct {
	state    nereid.HostState
	since    time.Time
	gone     chan struct{} // closed while the state is one of the gone ones
	leaving  bool          // it said farewell
	capacity Capacity
}

// news is a change of a host's state as memberlist tells it.
type news struct {
	host  nereid.Host
	state nereid.HostState
}

// New makes a Gossip; Run starts it.
func New(cfg Config) *Gossip {
	cfg.Pace = max(cfg.Pace, 1)
	g := &Gossip{cfg: cfg, log: cfg.Log, news: make(chan news, inbox), bodies: make(chan []byte, inbox), hosts: map[nereid.Host]*entry{}, members: map[string]*memberlist.Node{}}
	g.queue = memberlist.TransmitLimitedQueue{NumNodes: g.alive, RetransmitMult: retransmit}
	return g
}

func (g *Gossip) alive() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.members) + 1
}

// State is how a host does; false when the rumour has never heard of it.
func (g *Gossip) State(h nereid.Host) (nereid.HostState, bool) {
	if h == g.cfg.Host {
		return nereid.HostAlive, true
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	e, ok := g.hosts[h]
	if !ok || e.state == "" { // somebody waits for its end, and it has not begun
		return "", false
	}
	return e.state, true
}

// Gone returns a channel that is closed once a host is unreachable or has left.
func (g *Gossip) Gone(h nereid.Host) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.entryLocked(h).gone
}

// Capacities are what hosts said last, this one and unreachable ones left out.
func (g *Gossip) Capacities() map[nereid.Host]Capacity {
	g.mu.RLock()
	defer g.mu.RUnlock()
	out := map[nereid.Host]Capacity{}
	for h, e := range g.hosts {
		if e.capacity.Version != 0 && e.state != "" && !e.state.Gone() {
			out[h] = e.capacity
		}
	}
	return out
}

func (g *Gossip) entryLocked(h nereid.Host) *entry {
	e := g.hosts[h]
	if e == nil {
		e = &entry{gone: make(chan struct{})}
		g.hosts[h] = e
	}
	return e
}

// Run takes part until the context ends, and says farewell.
func (g *Gossip) Run(ctx context.Context) error {
	cfg, err := g.config()
	if err != nil {
		return err
	}
	list, err := memberlist.Create(cfg)
	if err != nil {
		return fmt.Errorf("gossip on %s: %w", g.cfg.Listen, err)
	}
	defer func() { _ = list.Shutdown() }()
	var seek sync.WaitGroup
	seek.Go(func() { g.seek(ctx, list) })
	g.loop(ctx, list)
	seek.Wait()
	g.farewell(list)
	if err := list.Leave(g.time(leaveTime)); err != nil {
		g.log.Debug("farewell", zap.Error(err))
	}
	return nil
}

func (g *Gossip) time(d time.Duration) time.Duration { return d / time.Duration(g.cfg.Pace) }

func (g *Gossip) config() (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.Name = string(g.cfg.Host)
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult, c.SuspicionMaxTimeoutMult = g.time(probeInterval), g.time(probeTimeout), suspicion, 2
	c.AwarenessMaxMultiplier = patience
	c.GossipInterval, c.PushPullInterval = g.time(gossipEvery), g.time(syncEvery)
	c.SecretKey = g.cfg.Key
	c.Logger = zap.NewStdLog(g.log.WithOptions(zap.IncreaseLevel(zap.WarnLevel)))
	c.Delegate, c.Events = delegate{g}, delegate{g}
	if g.cfg.Transport != nil {
		c.Transport = g.cfg.Transport
		return c, nil
	}
	var err, err2 error
	c.BindAddr, c.BindPort, err = split(g.cfg.Listen)
	c.AdvertiseAddr, c.AdvertisePort, err2 = split(g.cfg.Advertise)
	return c, errors.Join(err, err2)
}

func split(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", addr, err)
	}
	if port, err = strconv.Atoi(p); err != nil {
		return "", 0, fmt.Errorf("gossip address %q: %w", addr, err)
	}
	if host == "" {
		host = "::"
		if !dualStack() {
			host = "0.0.0.0"
		}
	}
	return host, port, nil
}

// dualStack tells whether a socket can be opened for both families.
func dualStack() bool {
	l, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6unspecified})
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// loop is the one writer of what is known.
func (g *Gossip) loop(ctx context.Context, list *memberlist.Memberlist) {
	tick := time.NewTicker(g.time(tellEvery) / 4)
	defer tick.Stop()
	pass := time.NewTicker(g.time(gossipEvery))
	defer pass.Stop()
	grace := time.NewTimer(0)
	defer grace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-g.news:
			g.learn(n, time.Now())
			grace.Reset(0)
		case b := <-g.bodies:
			g.heard(b)
		case now := <-grace.C:
			if next := g.expire(now); next > 0 {
				grace.Reset(next)
			}
		case now := <-tick.C:
			g.tell(now)
		case <-pass.C:
			g.passOn(list)
		}
	}
}

// farewell tells all that this host goes by its own will.
func (g *Gossip) farewell(list *memberlist.Memberlist) {
	body := Capacity{Version: capacityVersion, Host: g.cfg.Host, Sent: time.Now().UnixNano(), Leaving: true}.encode()
	for _, n := range g.others() {
		_ = list.SendBestEffort(n, body) // who misses it finds this host unreachable
	}
}

// others are the other hosts alive.
func (g *Gossip) others() []*memberlist.Node {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Collect(maps.Values(g.members))
}

// learn notes what became of a host.
func (g *Gossip) learn(n news, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.entryLocked(n.host)
	was := e.state
	switch {
	case n.state == nereid.HostAlive:
		e.leaving = false
	case e.leaving:
		n.state = nereid.HostLeft
	}
	e.become(n.state, now)
	if was != e.state {
		g.log.Info("host", zap.String("host", string(n.host)), zap.String("state", string(e.state)))
	}
}

// become changes the state, and with it what Gone says.
func (e *entry) become(s nereid.HostState, now time.Time) {
	if s == e.state {
		return
	}
	was := e.state.Gone()
	e.state, e.since = s, now
	switch {
	case s.Gone() && !was:
		close(e.gone)
	case !s.Gone() && was:
		e.gone = make(chan struct{})
	}
}

// expire makes suspects of some time unreachable, and returns how long the next one has; 0: there is none.
func (g *Gossip) expire(now time.Time) (next time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for h, e := range g.hosts {
		if e.state != nereid.HostSuspect {
			continue
		}
		if left := e.since.Add(g.time(graceTime)).Sub(now); left > 0 {
			if next == 0 || left < next {
				next = left
			}
			continue
		}
		e.become(nereid.HostUnreachable, now)
		g.log.Info("host", zap.String("host", string(h)), zap.String("state", string(e.state)))
	}
	return next
}

// seek calls hosts of the fleet that the rumour has lost, or never had: two halves of a fleet forget each other after a
// while, and somebody must begin again.
func (g *Gossip) seek(ctx context.Context, list *memberlist.Memberlist) {
	tick := time.NewTicker(g.time(seekEvery))
	defer tick.Stop()
	for {
		called := 0
		for h, addr := range g.cfg.Others() { // in no order
			if s, ok := g.State(h); (ok && s == nereid.HostAlive) || addr == "" || h == g.cfg.Host || ctx.Err() != nil {
				continue
			}
			if called++; called > seekAtOnce {
				break
			}
			if _, err := list.Join([]string{string(h) + "/" + addr}); err != nil {
				g.log.Debug("a host does not answer the rumour", zap.String("host", string(h)), zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// delegate is what memberlist calls, some of it under its locks: it copies and hands over, and never blocks.
type delegate struct{ g *Gossip }

func (d delegate) NodeMeta(int) []byte { return nil }

func (d delegate) NotifyMsg(b []byte) {
	select {
	case d.g.bodies <- slices.Clone(b):
	default: // it comes again
	}
}

// GetBroadcasts leaves memberlist's packets to its own messages: see passOn.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

func (d delegate) LocalState(bool) []byte { return d.g.everything() }

func (d delegate) MergeRemoteState(b []byte, _ bool) { d.NotifyMsg(b) }

func (d delegate) NotifyJoin(n *memberlist.Node) { d.notify(n, nereid.HostAlive) }

// NotifyLeave is told of hosts that died and of those that left, which it does not tell apart: see farewell.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.notify(n, nereid.HostSuspect) }

func (d delegate) NotifyUpdate(*memberlist.Node) {}

// notify hands a change over. The queue holds more than there are hosts to change at once; what would not fit is
// learned in place, which only the loop's readers wait for.
func (d delegate) notify(n *memberlist.Node, s nereid.HostState) {
	if n.Name == string(d.g.cfg.Host) {
		return
	}
	member := *n
	d.g.mu.Lock()
	if s == nereid.HostAlive {
		d.g.members[n.Name] = &member
	} else {
		delete(d.g.members, n.Name)
	}
	d.g.mu.Unlock()
	what := news{nereid.Host(n.Name), s}
	select {
	case d.g.news <- what:
	default:
		d.g.learn(what, time.Now())
	}
}
