package publish

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/pkg/state"
)

// renewEvery is how often a host looks whether signatures are due; nothing is lost when that is late by less than days.
const renewEvery = 10 * time.Minute

// renew moves the epoch of signed zones on. Every host tries, one is first, and all sign alike from its word.
func (p *Publisher) renew(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		for _, z := range p.store.View().Zones() {
			if now := sign.Epoch(time.Now()); z.DNSSEC && z.Epoch < now {
				p.renewZone(ctx, z, now)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Publisher) renewZone(ctx context.Context, z *state.Zone, epoch int64) {
	z = z.Clone()
	z.Epoch = epoch
	if _, err := p.store.Commit(ctx, state.Update(z)); err != nil && !errdefs.IsAborted(err) && ctx.Err() == nil {
		p.cfg.Log.Warn("signatures are not renewed; trying again", zap.String("zone", z.Apex), zap.Error(err))
	}
}
