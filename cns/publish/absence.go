package publish

import (
	"context"
	"maps"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

const (
	// commitTimeout bounds how long the state may take for word of a host's absence before this host hides it alone: a
	// host's death is to show within seconds, and the rumour took most of them.
	commitTimeout = time.Second
	// retryEvery is how often word that the state did not take is given to it again.
	retryEvery = 2 * time.Second
)

// hide makes the state say which hosts cannot be reached, so that every host hides the same and serials mean the same
// everywhere. What was seen to change counts, never what is: a host that starts and knows nobody yet accuses nobody.
func (p *Publisher) hide(ctx context.Context) {
	t := tally{seen: map[nereid.Host]bool{}, pending: map[nereid.Host]bool{}}
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	p.welcome(ctx)
	for {
		changed := p.cfg.Reach.Changed()
		t.look(p.cfg.Host, p.store.View(), p.cfg.Reach)
		p.report(ctx, &t)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-retry.C:
		}
	}
}

// welcome takes back what was said of this host: it is here.
func (p *Publisher) welcome(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if _, err := p.store.Commit(ctx, state.Delete(&state.Absence{Host: p.cfg.Host})); err != nil && ctx.Err() == nil {
		p.cfg.Log.Warn("this host is still taken for absent", zap.Error(err))
	}
}

// tally is what this host saw of the others.
type tally struct {
	seen    map[nereid.Host]bool // reachable, when last looked at
	pending map[nereid.Host]bool // changes the state has not been told of: true for reachable
}

// look notes who came and went since the last look.
func (t *tally) look(self nereid.Host, view *state.View, reach Reachability) {
	names, absent := map[nereid.Host]bool{}, map[nereid.Host]bool{}
	for _, h := range view.Hosts() {
		names[h.Name] = true
	}
	for _, a := range view.Absences() {
		names[a.Host], absent[a.Host] = true, true
	}
	for h := range t.seen {
		names[h] = true
	}
	delete(names, self)
	for h := range names {
		now := reach.Reachable(h)
		before, known := t.seen[h]
		if known && before != now || !known && now && absent[h] {
			t.pending[h] = now
		}
		if known || now {
			t.seen[h] = now
		}
	}
}

// report tells the state what changed; what it does not take, this host believes alone until it does.
func (p *Publisher) report(ctx context.Context, t *tally) {
	for h, reachable := range maps.Clone(t.pending) {
		if err := p.say(ctx, h, reachable); err == nil {
			delete(t.pending, h)
		} else if ctx.Err() == nil {
			p.cfg.Log.Warn("the state does not take word of a host; hidden or shown by this host alone", zap.String("host", string(h)),
				zap.Bool("reachable", reachable), zap.Error(err))
		}
	}
	alone := map[nereid.Host]bool{}
	for h, reachable := range t.pending {
		if !reachable {
			alone[h] = true
		}
	}
	if len(alone) > 0 || p.doubted.Load() {
		p.doubt(alone)
	}
}

func (p *Publisher) say(ctx context.Context, h nereid.Host, reachable bool) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	word := &state.Absence{Host: h, Since: time.Now().UTC(), By: p.cfg.Host}
	if reachable {
		_, err := p.commit(ctx, state.Delete(word))
		return err
	}
	_, err := p.commit(ctx, state.Create(word))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// commit is the store's, given up when the context ends: the store sees a transaction to its end, which here is too
// long to wait for.
func (p *Publisher) commit(ctx context.Context, op state.Op) (state.Revision, error) {
	type outcome struct {
		rev state.Revision
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		rev, err := p.store.Commit(ctx, op)
		done <- outcome{rev, err}
	}()
	select {
	case o := <-done:
		return o.rev, o.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
