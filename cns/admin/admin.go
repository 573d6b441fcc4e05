// Package admin is what operators ask and tell the name service.
package admin

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/record"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/cns/wire"
	"github.com/nereid-paas/nereid/cns/zone"
	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// Admin answers operators. All methods may be called at once.
type Admin struct {
	host      nereid.Host
	store     publish.Store
	publisher *publish.Publisher
	transfers *transfer.Transfers
	log       *zap.Logger
}

// New makes an Admin.
func New(host nereid.Host, store publish.Store, p *publish.Publisher, t *transfer.Transfers, log *zap.Logger) *Admin {
	return &Admin{host: host, store: store, publisher: p, transfers: t, log: log}
}

// apexOf reads the name of a zone.
func apexOf(name string) (string, error) {
	apex, err := record.FQDN(name)
	if err != nil {
		return "", invalid("zone %q: %v", name, err)
	}
	return apex, nil
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func noSuchZone(apex string) error {
	return errdefs.ErrNotFound.WithMessage("No such zone: " + strings.TrimSuffix(apex, "."))
}

// zones are those as of now; the state that has not been read yet is errdefs.ErrUnavailable.
func (a *Admin) zones() (*zone.Set, error) {
	set := a.publisher.Zones()
	if set == nil {
		return nil, errdefs.ErrUnavailable.WithMessage("the name service has not read the state yet")
	}
	return set, nil
}

// Zones are all, by apex.
func (a *Admin) Zones(context.Context) ([]nereid.CNSZone, error) {
	set, err := a.zones()
	if err != nil {
		return nil, err
	}
	all := []nereid.CNSZone{}
	for _, z := range set.Zones() {
		all = append(all, a.describe(set, z))
	}
	return all, nil
}

func (a *Admin) describe(set *zone.Set, z *zone.Authority) nereid.CNSZone {
	d := nereid.CNSZone{Apex: z.Apex, Kind: state.ZoneInner, Made: "settings", Serial: z.Serial, Names: set.Names(z.Apex), Signed: z.Signer != nil}
	settings, ok := a.store.View().Zone(z.Apex)
	if ok {
		d.Kind, d.Settings = settings.Kind, show(settings)
	}
	switch {
	case z.Apex == a.publisher.Apex():
		d.Made = "default"
	case !ok:
		d.Made, d.Kind = "networks", state.ZoneReverse
	}
	return d
}

// Dump writes a zone as a file that other name servers read (RFC 1035, section 5).
func (a *Admin) Dump(_ context.Context, name string, begin func() io.Writer) error {
	apex, err := apexOf(name)
	if err != nil {
		return err
	}
	set, err := a.zones()
	if err != nil {
		return err
	}
	if z, ok := set.Zone(apex); !ok || z.Apex != apex {
		return noSuchZone(apex)
	}
	w := begin()
	set.Each(apex, func(r record.Record) bool {
		_, err = fmt.Fprintln(w, wire.RR(r, r.Name))
		return err == nil
	})
	return err
}

// Explain says why a container, by name or id, has the names it has, or why a DNS name is there or not.
func (a *Admin) Explain(ctx context.Context, what string) (nereid.CNSExplanation, error) {
	if _, err := a.zones(); err != nil {
		return nereid.CNSExplanation{}, err
	}
	c, err := a.store.View().FindContainer(nereid.AccountFrom(ctx), what)
	switch {
	case err == nil:
		return nereid.CNSExplanation{Container: c.Name, Zones: a.publisher.ExplainContainer(c)}, nil
	case !strings.Contains(what, "."):
		return nereid.CNSExplanation{}, err
	}
	return a.publisher.ExplainName(what), nil
}

// lookTimeout bounds the questions to secondaries that status asks.
const lookTimeout = 2 * time.Second

// Status says how the name service of this host does, and what secondaries have.
func (a *Admin) Status(ctx context.Context) (nereid.CNSStatus, error) {
	zones, err := a.Zones(ctx)
	if err != nil {
		return nereid.CNSStatus{}, err
	}
	s := nereid.CNSStatus{
		Host: a.host, Revision: int64(a.publisher.Revision()), Took: a.publisher.Took(), Exact: a.publisher.Exact(),
		Hidden: []nereid.Host{}, Zones: zones, Transfers: a.transfers.Counts(),
	}
	for _, h := range a.store.View().Absences() {
		s.Hidden = append(s.Hidden, h.Host)
	}
	s.Secondaries = a.secondaries(ctx, zones)
	return s, nil
}

// secondaries asks all secondaries what they have.
func (a *Admin) secondaries(ctx context.Context, zones []nereid.CNSZone) []nereid.CNSSecondary {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	serials := map[string]uint32{}
	for _, z := range zones {
		serials[z.Apex] = z.Serial
	}
	known := map[string]transfer.Peer{}
	for _, p := range a.transfers.Peers() {
		known[p.Apex+p.Secondary.Addr.String()] = p
	}
	all := []nereid.CNSSecondary{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, z := range a.store.View().Zones() {
		for _, word := range z.Secondaries {
			parsed, err := transfer.ParseSecondary(word)
			if err != nil {
				continue
			}
			wg.Go(func() {
				s := a.look(ctx, z.Apex, parsed, serials[z.Apex], known[z.Apex+parsed.Addr.String()])
				mu.Lock()
				defer mu.Unlock()
				all = append(all, s)
			})
		}
	}
	wg.Wait()
	slices.SortFunc(all, func(a, b nereid.CNSSecondary) int {
		return strings.Compare(a.Apex+" "+a.Address, b.Apex+" "+b.Address)
	})
	return all
}

// look asks one secondary what it has.
func (a *Admin) look(ctx context.Context, apex string, s transfer.Secondary, ours uint32, known transfer.Peer) nereid.CNSSecondary {
	out := nereid.CNSSecondary{Apex: apex, Address: address(s.Addr)}
	serial, err := a.transfers.Look(ctx, apex, s)
	if err != nil {
		out.Error = err.Error()
		serial = known.Serial
	}
	out.Serial = serial
	if int32(ours-serial) > 0 || serial == 0 {
		since := known.Behind
		if since.IsZero() {
			since = time.Now()
		}
		out.Drift = max(time.Since(since).Seconds(), 0.001)
	}
	return out
}

// address is a name server's without the port that all have.
func address(a netip.AddrPort) string {
	if a.Port() == 53 {
		return a.Addr().String()
	}
	return a.String()
}
