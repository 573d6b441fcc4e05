package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/cns/sign"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/pkg/state"
)

// maxTries bounds how often a change that another overtook is tried again.
const maxTries = 8

// AddZone makes a zone with some settings. One that is there is errdefs.ErrAlreadyExists.
func (a *Admin) AddZone(ctx context.Context, name string, words []string) (warnings []string, err error) {
	apex, err := apexOf(name)
	if err != nil {
		return nil, err
	}
	set, err := a.zones()
	if err != nil {
		return nil, err
	}
	if z, ok := set.Zone(apex); ok && z.Apex == apex {
		if _, made := a.store.View().Zone(apex); made || apex == a.publisher.Apex() {
			return nil, errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("zone %s already exists", strings.TrimSuffix(apex, ".")))
		}
	}
	return a.change(ctx, apex, words, true)
}

// SetZone changes settings of a zone that is there, whatever made it.
func (a *Admin) SetZone(ctx context.Context, name string, words []string) (warnings []string, err error) {
	apex, err := apexOf(name)
	if err != nil {
		return nil, err
	}
	set, err := a.zones()
	if err != nil {
		return nil, err
	}
	if z, ok := set.Zone(apex); !ok || z.Apex != apex {
		return nil, noSuchZone(apex)
	}
	return a.change(ctx, apex, words, false)
}

// Ensure makes a zone or changes the settings named of the one that is there: what a configuration file says.
func (a *Admin) Ensure(ctx context.Context, name string, words []string) error {
	apex, err := apexOf(name)
	if err != nil {
		return err
	}
	warnings, err := a.change(ctx, apex, words, false)
	for _, w := range warnings {
		a.log.Warn("settings of a zone", zap.String("zone", apex), zap.String("warning", w))
	}
	return err
}

// change edits a zone's record, made now if there is none.
func (a *Admin) change(ctx context.Context, apex string, words []string, fresh bool) ([]string, error) {
	for try := 1; ; try++ {
		z := &state.Zone{Apex: apex, Kind: kindOf(apex), Created: time.Now().UTC()}
		if have, ok := a.store.View().Zone(apex); ok && fresh {
			return nil, errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("zone %s already exists", strings.TrimSuffix(apex, ".")))
		} else if ok {
			z = have.Clone()
		}
		before := show(z)
		if err := apply(z, words); err != nil {
			return nil, invalid("zone %s: %v", strings.TrimSuffix(apex, "."), err)
		}
		if err := a.check(z); err != nil {
			return nil, invalid("zone %s: %v", strings.TrimSuffix(apex, "."), err)
		}
		if z.Rev != 0 && slices.Equal(before, show(z)) {
			return a.warnings(z), nil
		}
		ops, err := a.keyOps(z)
		if err != nil {
			return nil, err
		}
		_, err = a.store.Commit(ctx, append(ops, state.Update(z))...)
		if err == nil {
			return a.warnings(z), nil
		}
		if !errdefs.IsAborted(err) || try == maxTries {
			return nil, err
		}
	}
}

func kindOf(apex string) string {
	if strings.HasSuffix(apex, ".arpa.") {
		return state.ZoneReverse
	}
	return state.ZoneInner
}

// keyOps make a key for a zone that is to be signed and has none.
func (a *Admin) keyOps(z *state.Zone) ([]state.Op, error) {
	if !z.DNSSEC || len(a.store.View().ZoneKeys(z.Apex)) > 0 {
		return nil, nil
	}
	op, err := newKey(z.Apex)
	if err != nil {
		return nil, err
	}
	z.Epoch = sign.Epoch(time.Now())
	return []state.Op{op}, nil
}

func newKey(apex string) (state.Op, error) {
	k, private, err := sign.Generate()
	if err != nil {
		return state.Op{}, err
	}
	return state.Create(&state.ZoneKey{Apex: apex, Tag: k.Tag(), Algorithm: sign.Algorithm, Created: time.Now().UTC(), Private: private}), nil
}

// check says everything that is wrong with a zone's settings as a whole.
func (a *Admin) check(z *state.Zone) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if (z.Kind == state.ZoneReverse) != strings.HasSuffix(z.Apex, ".arpa.") {
		bad("kind=%s: reverse zones, and no others, end in in-addr.arpa or ip6.arpa", z.Kind)
	}
	if z.Apex == a.publisher.Apex() && z.Kind != state.ZoneInner {
		bad("kind=%s: the default zone is inner", z.Kind)
	}
	if len(z.Networks) > 0 && z.Kind != state.ZoneInner {
		bad("networks: an %s zone lists no networks", z.Kind)
	}
	if z.HiddenPrimary && len(z.Servers) == 0 {
		bad("hidden-primary: servers must name those that answer in the place of the hosts")
	}
	for _, other := range a.forward() {
		if z.Kind != state.ZoneReverse && z.Apex != other && (inside(z.Apex, other) || inside(other, z.Apex)) {
			bad("one zone must not lie within another: %s", strings.TrimSuffix(other, "."))
		}
	}
	keys := slices.Clone(z.Keys)
	for _, s := range z.Secondaries {
		if p, err := transfer.ParseSecondary(s); err == nil && p.Key != "" {
			keys = append(keys, p.Key)
		}
	}
	for _, k := range keys {
		if _, ok := a.store.View().TSIG(k); !ok {
			bad("there is no TSIG key %q; nereid cns tsig add makes one", strings.TrimSuffix(k, "."))
		}
	}
	return errors.Join(errs...)
}

// forward are the apexes of the zones that are not reverse.
func (a *Admin) forward() []string {
	all := []string{a.publisher.Apex()}
	for _, z := range a.store.View().Zones() {
		if z.Kind != state.ZoneReverse {
			all = append(all, z.Apex)
		}
	}
	return all
}

func inside(name, apex string) bool { return strings.HasSuffix(name, "."+apex) }

// warnings are what is odd with settings all the same.
func (a *Admin) warnings(z *state.Zone) []string {
	all := []string{}
	for _, n := range z.Networks {
		_, name, qualified := strings.Cut(n, "/")
		if !qualified {
			name = n
		}
		if !slices.ContainsFunc(a.store.View().AllNetworks(), func(r *state.Network) bool { return r.Name == name }) {
			all = append(all, fmt.Sprintf("there is no network %q yet", n))
		}
	}
	for _, h := range z.Notifiers {
		if _, ok := a.store.View().Host(h); !ok {
			all = append(all, fmt.Sprintf("there is no host %q now", h))
		}
	}
	return all
}

// RemoveZone removes a zone that operators made, with its keys; of another, the settings they gave it.
func (a *Admin) RemoveZone(ctx context.Context, name string) error {
	apex, err := apexOf(name)
	if err != nil {
		return err
	}
	z, ok := a.store.View().Zone(apex)
	if !ok {
		if apex == a.publisher.Apex() || a.publisher.Reverse(apex) {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("zone %s has no settings; the command line or a network makes it", strings.TrimSuffix(apex, ".")))
		}
		return noSuchZone(apex)
	}
	ops := []state.Op{state.Delete(z)}
	for _, k := range a.store.View().ZoneKeys(apex) {
		ops = append(ops, state.Delete(k))
	}
	_, err = a.store.Commit(ctx, ops...)
	return err
}

// raiseRetry is how often raising a serial is tried again: the state may just be coming up.
const raiseRetry = time.Second

// Raise makes a zone's serials higher than one that was given out. It blocks until the state has it or the context ends.
func (a *Admin) Raise(ctx context.Context, apex string, given uint32) error {
	retry := time.NewTicker(raiseRetry)
	defer retry.Stop()
	for {
		err := a.raise(ctx, apex, given)
		if err == nil || !errdefs.IsUnavailable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-retry.C:
		}
	}
}

func (a *Admin) raise(ctx context.Context, apex string, given uint32) error {
	for try := 1; ; try++ {
		set, err := a.zones()
		if err != nil {
			return err
		}
		at, ok := set.Zone(apex)
		if !ok || at.Apex != apex || int32(at.Serial-given) > 0 {
			return nil
		}
		z := &state.Zone{Apex: apex, Kind: kindOf(apex), Created: time.Now().UTC()}
		if have, ok := a.store.View().Zone(apex); ok {
			z = have.Clone()
		}
		z.SerialBase += given - at.Serial
		_, err = a.store.Commit(ctx, state.Update(z))
		if err == nil || !errdefs.IsAborted(err) || try == maxTries {
			return err
		}
	}
}
