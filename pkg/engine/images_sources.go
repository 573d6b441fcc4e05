package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/peer"
	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	// firstWait is how long a host waits that found all others busy with giving a blob to somebody; it doubles up to
	// lastWait. A host more that has the image ends it.
	firstWait = 100 * time.Millisecond
	lastWait  = 500 * time.Millisecond
	// busyTime is how long one request waits for its turn: less than pkg/image bears to be sent nothing.
	busyTime = time.Minute
	// silence ends what a host is asked for that sends nothing: it may hang, or be dead without anybody knowing.
	silence = 15 * time.Second
	// trickle is too little for a host to send in trickleTime of waiting for it: a way that loses most packets, or a disk
	// that fails, would keep an image for hours from a host that another could give it to.
	trickle     = 64 << 10
	trickleTime = 2 * silence
	// A host that answered is asked again when it is cut off or not reached, every againEvery for lossTime: hosts under
	// load are taken for dead now and then, and come back in a moment. One that was cut off maxCuts times is not.
	againEvery = time.Second
	lossTime   = 10 * time.Second
	maxCuts    = 5
	// maxTold bounds the hosts asked for a blob that are not known to have it.
	maxTold = 16
)

// errNoSource says that no host is left to ask.
var errNoSource = errors.New("no host has it")

// sources leads requests for an image's content to the hosts of the fleet: to those that have it by the catalogue, and
// before them to those that such a host gave the same blob, so that a layer is passed on before the image is whole. It
// serves one bring, and goes without hosts that fail it.
type sources struct {
	images  *Images
	account nereid.Account
	id      nereid.ImageID

	silence, trickleTime time.Duration

	mu       sync.Mutex
	told     map[string][]nereid.Host // who was given a blob, by its path
	gave     map[string]nereid.Host   // who gave this host all of it, by its path
	answered map[nereid.Host]time.Time
	failed   map[nereid.Host]*failure
	failures int // of all hosts
}

// failure is how a host failed.
type failure struct {
	err   error
	final bool // it is not asked again
	cuts  int
	at    time.Time
}

func newSources(i *Images, img *state.Image) *sources {
	return &sources{
		images: i, account: img.Account, id: img.ID, silence: silence, trickleTime: trickleTime,
		told: map[string][]nereid.Host{}, gave: map[string]nereid.Host{},
		answered: map[nereid.Host]time.Time{}, failed: map[nereid.Host]*failure{},
	}
}

// RoundTrip implements http.RoundTripper. The answer is 429 when the hosts that have it were busy for a while.
func (s *sources) RoundTrip(r *http.Request) (*http.Response, error) {
	s.gaveInVain(r.URL.Path)
	ctx, cancel := context.WithTimeout(r.Context(), busyTime)
	defer cancel()
	for pause := firstWait; ; pause = min(2*pause, lastWait) {
		img, ok := s.images.State.View().Image(s.account, s.id)
		if !ok {
			return nil, errNoSource
		}
		resp, busy := s.askAll(r, img)
		switch {
		case resp != nil:
			return resp, nil
		case r.Context().Err() != nil:
			return nil, context.Cause(r.Context())
		case !busy:
			return nil, errNoSource
		case ctx.Err() != nil:
			return &http.Response{StatusCode: http.StatusTooManyRequests, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
		}
		s.images.waitForHosts(ctx, img, pause/2+rand.N(pause))
	}
}

// askAll asks one host after another. When it has no answer, busy tells whether there will be one soon.
func (s *sources) askAll(r *http.Request, img *state.Image) (_ *http.Response, busy bool) {
	asked := map[nereid.Host]bool{s.images.Host: true}
	for {
		h, soon := s.next(r.URL.Path, img, asked)
		if h == "" || r.Context().Err() != nil {
			return nil, busy || soon
		}
		asked[h] = true
		resp, err := s.ask(r, h)
		if err != nil {
			if r.Context().Err() == nil {
				s.fail(h, err, unreached)
			}
			continue
		}
		switch {
		case resp.StatusCode < http.StatusBadRequest, resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
			return resp, false
		case resp.StatusCode == http.StatusTooManyRequests:
			busy = true
			s.hear(r.URL.Path, resp.Header.Get(nereid.GivenHeader))
		case resp.StatusCode == http.StatusNotFound && !slices.Contains(img.Hosts, h): // it does not have it yet
		default:
			s.fail(h, peer.Refusal(resp), refused)
		}
		_ = resp.Body.Close()
	}
}

// next chooses one of the hosts that were not asked yet, by chance, and those that failed last. When it is none, soon tells
// whether there may be one in a moment.
func (s *sources) next(path string, img *state.Image, asked map[nereid.Host]bool) (_ nereid.Host, soon bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed []nereid.Host
	for _, hosts := range [][]nereid.Host{s.told[path], img.Hosts} {
		var may []nereid.Host
		for _, h := range hosts {
			if asked[h] {
				continue
			}
			switch now, later := s.mayLocked(h, time.Now()); {
			case now && s.failed[h] != nil:
				failed = append(failed, h)
			case now:
				may = append(may, h)
			case later:
				soon = true
			}
		}
		if len(may) > 0 {
			return may[rand.IntN(len(may))], false
		}
	}
	if len(failed) > 0 {
		return failed[rand.IntN(len(failed))], false
	}
	return "", soon
}

// mayLocked tells whether a host may be asked now, or in a moment.
func (s *sources) mayLocked(h nereid.Host, t time.Time) (now, later bool) {
	f, here := s.failed[h], t.Sub(s.answered[h]) < lossTime
	switch {
	case f != nil && (f.final || !here):
		return false, false
	case f != nil && t.Sub(f.at) < againEvery, s.images.Fleet.State(h).Gone():
		return false, here
	}
	return true, false
}

// ask asks one host, which must answer, and go on to.
func (s *sources) ask(r *http.Request, h nereid.Host) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	out := r.Clone(ctx)
	out.URL.Host = string(h)
	out.Header.Set(nereid.AskerHeader, string(s.images.Host))
	silent := time.AfterFunc(s.silence, func() { cancel(fmt.Errorf("it sent nothing for %s", s.silence)) })
	resp, err := s.images.Road.RoundTrip(out)
	silent.Stop()
	if err != nil {
		defer cancel(nil)
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	s.mu.Lock()
	s.answered[h] = time.Now()
	s.mu.Unlock()
	resp.Body = &sourceBody{ReadCloser: resp.Body, from: s, host: h, request: r, silent: silent, cancel: cancel}
	return resp, nil
}

// sourceBody is what a host sends.
type sourceBody struct {
	io.ReadCloser
	from    *sources
	host    nereid.Host
	request *http.Request
	silent  *time.Timer
	cancel  context.CancelCauseFunc

	waited time.Duration // for the last bytes that were counted
	got    int
}

// Read implements io.Reader.
func (b *sourceBody) Read(p []byte) (int, error) {
	began := time.Now()
	b.silent.Reset(b.from.silence)
	n, err := b.ReadCloser.Read(p)
	b.silent.Stop()
	if err == nil {
		err = b.trickles(n, time.Since(began))
	}
	switch {
	case errors.Is(err, io.EOF):
		b.from.whole(b.request.URL.Path, b.host)
	case err != nil && b.request.Context().Err() == nil:
		b.from.fail(b.host, err, cut)
	}
	return n, err
}

// trickles counts what came, and how long it was waited for. It is an error when that is too little.
func (b *sourceBody) trickles(n int, waited time.Duration) error {
	b.got, b.waited = b.got+n, b.waited+waited
	switch {
	case b.got >= trickle:
		b.got, b.waited = 0, 0
	case b.waited >= b.from.trickleTime:
		return fmt.Errorf("it sent %d bytes in %s", b.got, b.waited.Round(time.Second))
	}
	return nil
}

// Close implements io.Closer.
func (b *sourceBody) Close() error {
	b.silent.Stop()
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// hear notes who was given a blob.
func (s *sources) hear(path, hosts string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told[path]
	for name := range strings.SplitSeq(hosts, ",") {
		if h := nereid.Host(name); h != "" && !slices.Contains(told, h) {
			told = append(told, h)
		}
	}
	s.told[path] = told[max(0, len(told)-maxTold):]
}

// whole notes who gave all of something.
func (s *sources) whole(path string, h nereid.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gave[path] = h
}

// gaveInVain is called for what is asked for: who gave it before gave something else.
func (s *sources) gaveInVain(path string) {
	s.mu.Lock()
	h, ok := s.gave[path]
	delete(s.gave, path)
	s.mu.Unlock()
	if ok {
		s.fail(h, errors.New("what it gave cannot be used"), refused)
	}
}

// How a host failed.
type how int

const (
	refused   how = iota // it has nothing for us
	unreached            // and may have been a moment before
	cut                  // while it gave
)

func (s *sources) fail(h nereid.Host, err error, why how) {
	s.images.Log.Warn("an image could not be taken from a host", zap.String("image", string(s.id)), zap.String("host", string(h)), zap.Error(err))
	s.mu.Lock()
	defer s.mu.Unlock()
	f, now := s.failed[h], time.Now()
	if f == nil {
		f = &failure{}
		s.failed[h] = f
	}
	if why == cut && now.Sub(f.at) >= againEvery { // what breaks off at the same time is one cut
		f.cuts++
	}
	f.err, f.at = err, now
	f.final = f.final || why == refused || why == unreached && s.answered[h].IsZero() || f.cuts > maxCuts
	s.failures++
}

// setbacks is how often hosts failed.
func (s *sources) setbacks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failures
}

// err says which hosts failed, and how; nil: none.
func (s *sources) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, h := range slices.Sorted(maps.Keys(s.failed)) {
		errs = append(errs, fmt.Errorf("from host %s: %w", h, s.failed[h].err))
	}
	return errors.Join(errs...)
}

// waitForHosts waits for a time, or until one more host has an image.
func (i *Images) waitForHosts(ctx context.Context, img *state.Image, pause time.Duration) {
	w := i.State.View().Watch(state.KindImage)
	defer w.Close()
	if now, ok := i.State.View().Image(img.Account, img.ID); !ok || len(now.Hosts) > len(img.Hosts) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			return // the time is over
		}
		for _, c := range changes {
			if r, ok := c.New.(*state.Image); !ok || r.ID == img.ID {
				return
			}
		}
	}
}
