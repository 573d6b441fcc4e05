package image

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/nereid-paas/nereid/pkg/nereid"
)

const (
	// largeBlob is what a gigabit line carries before a host that was refused asks again: of less, waiting gains nothing.
	largeBlob = 8 << 20
	// maxGiven is how many hosts are given one large blob at a time. With one, the first of ten has passed it on before
	// the second would have had half of it: hosts that have it double each time, at the full width of their lines.
	maxGiven = 1
	// turnTime is how long one host can have a blob to itself: a slow one must not keep all others waiting.
	turnTime = 20 * time.Second
	// stillTime is how long one that takes nothing keeps its turn: it may be dead without anybody knowing.
	stillTime = 3 * time.Second
	// givenTime is how long it is remembered who was given a blob, and maxTold how many of them: who comes meanwhile is
	// told, and afterwards the catalogue says it.
	givenTime = time.Minute
	maxTold   = 8
)

// giving knows which large blobs are open for which hosts, and who was given them lately. The zero value is ready.
type giving struct {
	mu sync.Mutex
	of map[digest.Digest]*gifts
}

// gifts are those of one blob.
type gifts struct {
	open []*gift
	to   []nereid.Host // the last few, the newest last
	last time.Time     // when the newest began
}

// gift is a blob that is open for a host.
type gift struct {
	began time.Time
	moved atomic.Int64 // when it was read last, in nanoseconds since it began
}

// begin opens a blob for a host, to be ended with end. ok is false when others have their turn; they and who had it
// before are told then.
func (g *giving) begin(d digest.Digest, to nereid.Host, now time.Time) (_ *gift, told []nereid.Host, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetLocked(now)
	all := g.of[d]
	if all == nil {
		all = &gifts{}
	}
	turns := 0
	for _, o := range all.open {
		if o.hasTurn(now) {
			turns++
		}
	}
	if turns >= maxGiven {
		return nil, slices.DeleteFunc(slices.Clone(all.to), func(h nereid.Host) bool { return h == to }), false
	}
	if g.of == nil {
		g.of = map[digest.Digest]*gifts{}
	}
	g.of[d] = all
	n := &gift{began: now}
	all.open, all.last = append(all.open, n), now
	if to != "" && !slices.Contains(all.to, to) {
		all.to = append(all.to, to)
		all.to = all.to[max(0, len(all.to)-maxTold):]
	}
	return n, nil, true
}

func (o *gift) hasTurn(now time.Time) bool {
	since := now.Sub(o.began)
	return since < turnTime && since-time.Duration(o.moved.Load()) < stillTime
}

// forgetLocked forgets who was given what some time ago.
func (g *giving) forgetLocked(now time.Time) {
	for d, all := range g.of {
		if len(all.open) == 0 && now.Sub(all.last) >= givenTime {
			delete(g.of, d)
		}
	}
}

func (g *giving) end(d digest.Digest, o *gift) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if all := g.of[d]; all != nil {
		all.open = slices.DeleteFunc(all.open, func(other *gift) bool { return other == o })
	}
}

// BusyError says that a blob is given to as many as is good already.
type BusyError struct {
	Digest digest.Digest
	To     []nereid.Host // who has it by now or soon
}

func (e *BusyError) Error() string { return e.Digest.String() + " is being given to others" }

// GivenTo says so to those who know no BusyError, and to whom.
func (e *BusyError) GivenTo() []nereid.Host { return e.To }

// Unwrap gives the class.
func (e *BusyError) Unwrap() error { return errdefs.ErrResourceExhausted }

// given is content that notes when it is read.
type given struct {
	io.ReadSeeker
	gift *gift
}

// Read implements io.Reader.
func (g given) Read(b []byte) (int, error) {
	g.gift.moved.Store(int64(time.Since(g.gift.began)))
	return g.ReadSeeker.Read(b)
}

// counted ends a blob's gift with its closing.
type counted struct {
	close func() error
	end   func()
	once  sync.Once
}

// Close implements io.Closer. It may be called twice.
func (c *counted) Close() (err error) {
	c.once.Do(func() {
		c.end()
		err = c.close()
	})
	return err
}
