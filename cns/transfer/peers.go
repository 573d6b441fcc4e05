package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	// peerTimeout bounds a question to a secondary.
	peerTimeout = 2 * time.Second
	// gather is how long a change waits for others before secondaries are told: a start changes a zone some times in a row.
	gather = 50 * time.Millisecond
	// lookAgain is how often a secondary that is behind, and one that is not, is asked what it has.
	lookAgain, lookSeldom = time.Second, 30 * time.Second
	// tellAgain is when one that acknowledged word of a change and does not have it is told again: it may have asked while
	// we were not there.
	tellAgain = 5 * time.Second
	// maxBackoff is how seldom one that does not answer is told again.
	maxBackoff = time.Minute
)

// peers are the secondaries of all zones.
type peers struct {
	t    *Transfers
	mu   sync.Mutex
	all  map[peerID]*peer
	wake chan struct{} // a zone's settings may have changed; never closed
}

type peerID struct {
	apex string
	Secondary
}

// peer is one secondary of one zone.
type peer struct {
	peerID
	kicked chan struct{} // the zone changed; never closed
	cancel context.CancelFunc

	mu       sync.Mutex
	notified uint32 // serial it has acknowledged word of
	told     time.Time
	serial   uint32 // it has
	since    time.Time
	behind   time.Time // since when, zero when it is not
	err      error     // of the last question
}

func newPeers(t *Transfers) *peers {
	return &peers{t: t, all: map[peerID]*peer{}, wake: make(chan struct{}, 1)}
}

// kick tells the secondaries of a zone that it changed.
func (p *peers) kick(apex string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, peer := range p.all {
		if id.apex == apex {
			poke(peer.kicked)
		}
	}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run keeps a goroutine for each secondary this host tells of changes.
func (p *peers) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	w := p.t.cfg.View.Watch(state.KindZone)
	defer w.Close()
	for {
		p.arrange(ctx, &wg)
		if _, err := w.Next(ctx); err != nil {
			return
		}
	}
}

// arrange starts and ends goroutines as the settings of zones say.
func (p *peers) arrange(ctx context.Context, wg *sync.WaitGroup) {
	wanted := map[peerID]bool{}
	for _, z := range p.t.cfg.View.Zones() {
		if len(z.Notifiers) > 0 && !slices.Contains(z.Notifiers, p.t.cfg.Host) {
			continue
		}
		for _, s := range z.Secondaries {
			if parsed, err := ParseSecondary(s); err == nil {
				wanted[peerID{z.Apex, parsed}] = true
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, old := range p.all {
		if !wanted[id] {
			old.cancel()
			delete(p.all, id)
		}
	}
	for id := range wanted {
		if p.all[id] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		n := &peer{peerID: id, kicked: make(chan struct{}, 1), cancel: cancel}
		p.all[id] = n
		wg.Go(func() { n.run(ctx, p.t) })
	}
}

// run tells the secondary of changes and looks what it has.
func (p *peer) run(ctx context.Context, t *Transfers) {
	wait, backoff := time.Duration(0), lookAgain
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kicked:
			wait = gather
			timer.Reset(wait)
			continue
		case <-timer.C:
		}
		switch err := p.settle(ctx, t); {
		case err != nil:
			backoff = min(2*backoff, maxBackoff)
			wait = backoff
		case p.isBehind():
			wait, backoff = lookAgain, lookAgain
		default:
			wait, backoff = lookSeldom, lookAgain
		}
		timer.Reset(wait)
	}
}

// settle tells the secondary of the newest serial unless it knows, then asks for its own.
func (p *peer) settle(ctx context.Context, t *Transfers) error {
	_, z, h := t.current(p.apex)
	if z == nil || t.holdsBack(h) {
		return nil
	}
	p.mu.Lock()
	told := p.notified == z.Serial && (p.behind.IsZero() || time.Since(p.told) < tellAgain)
	p.mu.Unlock()
	var err error
	if !told {
		if err = p.notify(ctx, t, z.Serial); err == nil {
			p.mu.Lock()
			p.notified, p.told = z.Serial, time.Now()
			p.mu.Unlock()
		}
	}
	serial, askErr := p.ask(ctx, t)
	p.note(serial, z.Serial, errors.Join(err, askErr))
	return errors.Join(err, askErr)
}

// notify sends NOTIFY (RFC 1996) and waits for its acknowledgement.
func (p *peer) notify(ctx context.Context, t *Transfers, serial uint32) error {
	m := new(dns.Msg).SetNotify(p.apex)
	if _, z, _ := t.current(p.apex); z != nil {
		m.Answer = []dns.RR{soaRR(z)}
	}
	t.count.notifies.Add(1)
	r, err := p.exchange(ctx, t, m)
	if err != nil {
		return fmt.Errorf("NOTIFY: %w", err)
	}
	if r.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("NOTIFY: it answers %s", dns.RcodeToString[r.Rcode])
	}
	t.cfg.Log.Debug("secondary told of a change", zap.String("zone", p.apex), zap.Stringer("secondary", p.Addr), zap.Uint32("serial", serial))
	return nil
}

// ask is the serial the secondary has.
func (p *peer) ask(ctx context.Context, t *Transfers) (uint32, error) {
	m := new(dns.Msg).SetQuestion(p.apex, dns.TypeSOA)
	m.RecursionDesired = false
	r, err := p.exchange(ctx, t, m)
	if err != nil {
		return 0, err
	}
	for _, rr := range r.Answer {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa.Serial, nil
		}
	}
	return 0, fmt.Errorf("it has no such zone: %s", dns.RcodeToString[r.Rcode])
}

func (p *peer) exchange(ctx context.Context, t *Transfers, m *dns.Msg) (*dns.Msg, error) {
	c := &dns.Client{Net: "udp", Timeout: peerTimeout, TsigProvider: t}
	if p.Key != "" {
		k, ok := t.cfg.View.TSIG(p.Key)
		if !ok {
			return nil, fmt.Errorf("there is no TSIG key %q", p.Key)
		}
		m.SetTsig(k.Name, k.Algorithm, fudge, time.Now().Unix())
	}
	r, _, err := c.ExchangeContext(ctx, m, p.Addr.String())
	return r, err
}

// note remembers what the secondary has beside what it should have.
func (p *peer) note(serial, ours uint32, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	if serial != 0 && serial != p.serial {
		p.serial, p.since = serial, time.Now()
	}
	switch {
	case int32(p.serial-ours) >= 0 && p.serial != 0:
		p.behind = time.Time{}
	case p.behind.IsZero():
		p.behind = time.Now()
	}
}

func (p *peer) isBehind() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.behind.IsZero()
}

// Peer is what is known of one secondary of one zone.
type Peer struct {
	Apex      string
	Secondary Secondary
	Serial    uint32    // 0: not known
	Behind    time.Time // since when it lacks changes, zero when it does not
	Err       error     // why nothing newer is known
}

// Peers are the secondaries that this host tells of changes, by zone and address.
func (t *Transfers) Peers() []Peer {
	t.peers.mu.Lock()
	defer t.peers.mu.Unlock()
	var all []Peer
	for id, p := range t.peers.all {
		p.mu.Lock()
		all = append(all, Peer{Apex: id.apex, Secondary: id.Secondary, Serial: p.serial, Behind: p.behind, Err: p.err})
		p.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Apex, b.Apex), a.Secondary.Addr.Compare(b.Secondary.Addr))
	})
	return all
}

// Look asks a secondary now what it has.
func (t *Transfers) Look(ctx context.Context, apex string, s Secondary) (uint32, error) {
	return (&peer{peerID: peerID{apex, s}}).ask(ctx, t)
}

// counters count transfers by what they came to.
type counters struct{ full, incremental, current, refused, notifies atomic.Uint64 }

// Counts are how many transfers there were, by what they came to, and how often secondaries were told of changes.
func (t *Transfers) Counts() map[string]uint64 {
	return map[string]uint64{
		"full": t.count.full.Load(), "incremental": t.count.incremental.Load(), "current": t.count.current.Load(),
		"refused": t.count.refused.Load(), "notify": t.count.notifies.Load(),
	}
}
