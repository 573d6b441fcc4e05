package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/nereid-paas/nereid/cns/admin"
	"github.com/nereid-paas/nereid/cns/publish"
	"github.com/nereid-paas/nereid/cns/record"
	cns "github.com/nereid-paas/nereid/cns/server"
	"github.com/nereid-paas/nereid/cns/transfer"
	"github.com/nereid-paas/nereid/pkg/engine"
	"github.com/nereid-paas/nereid/pkg/nereid"
)

// buildNames makes the name service and opens its addresses.
func (d *daemon) buildNames(ctx context.Context, o options) (err error) {
	log := d.log.Named("cns")
	d.zones, err = readZones(o.cnsConfig)
	if err != nil {
		return err
	}
	d.transfers = transfer.New(transfer.Config{
		Host: d.host, Dir: filepath.Join(o.dataRoot, "cns"), View: d.store.View(), Log: log,
		Exact: func() bool { return d.publisher.Exact() }, Raise: d.raiseSerial,
	})
	d.publisher, err = publish.New(d.store, publish.Config{
		Host: d.host, DC: o.dc, Zone: o.zone, Reach: reach{d.fleet.live}, Changed: d.transfers.Changed, Log: log,
	})
	if err != nil {
		return err
	}
	d.namesAdmin = admin.New(d.host, d.store, d.publisher, d.transfers, log)
	cfg, err := d.nameServer(o)
	if err != nil {
		return err
	}
	d.names = cns.New(d.publisher, cfg, log)
	err = d.names.Listen(ctx)
	if err != nil && !o.cnsAsked {
		log.Warn("the name service answers inside containers only: its default address is taken, choose one with --cns-listen", zap.Error(err))
		d.names = cns.New(d.publisher, cns.Config{}, log)
		return nil
	}
	return err
}

// nameServer is what the options say of answers to the network.
func (d *daemon) nameServer(o options) (cns.Config, error) {
	limits, err := o.limits()
	cfg := cns.Config{Listen: []string{o.cnsListen}, Transfers: d.transfers, Limits: limits, NSID: cmp.Or(o.cnsNSID, o.name)}
	if o.cnsNSID == "none" {
		cfg.NSID = ""
	}
	if o.cnsTLS != "" {
		cfg.ListenTLS = []string{o.cnsTLS}
		cfg.Certificate = &cns.Certificate{CertFile: cmp.Or(o.cnsCert, d.fleet.id.CertFile()), KeyFile: cmp.Or(o.cnsKey, d.fleet.id.KeyFile())}
	}
	return cfg, err
}

// limits are what one network of DNS clients gets.
func (o *options) limits() (cns.Limits, error) {
	l := cns.DefaultLimits()
	fields := map[string]*int{"responses": &l.Responses, "slip": &l.Slip, "queries": &l.Queries, "connections": &l.Connections}
	var errs []error
	for _, w := range o.cnsLimits {
		key, value, _ := strings.Cut(w, "=")
		n, err := strconv.Atoi(value)
		if fields[key] == nil || err != nil || n < 0 || n > 1_000_000 {
			errs = append(errs, fmt.Errorf("--cns-limits %q: not one of responses, slip, queries, connections, = and a number up to a million", w))
			continue
		}
		*fields[key] = n
	}
	if len(o.cnsUnlimited) > 0 {
		l.Exempt = nil
	}
	for _, c := range o.cnsUnlimited {
		p, err := transfer.ParseNetwork(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("--cns-unlimited: %w", err))
		}
		l.Exempt = append(l.Exempt, p)
	}
	return l, errors.Join(errs...)
}

// reach tells the name service what is heard of hosts.
type reach struct{ *engine.Liveness }

// Unreachable implements publish.Reachability. A host whose daemon was stopped is not: what it runs goes on.
func (r reach) Unreachable(h nereid.Host) bool { return r.State(h) == nereid.HostUnreachable }

// raiseTimeout bounds how long a zone waits for serials that were not given out yet.
const raiseTimeout = 30 * time.Second

// raiseSerial does not block: the zones wait for who calls it.
func (d *daemon) raiseSerial(apex string, given uint32) {
	d.raises.Go(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), raiseTimeout)
		defer cancel()
		if err := d.namesAdmin.Raise(ctx, apex, given); err != nil {
			d.log.Named("cns").Warn("serials not raised: the zone's secondaries keep what they have", zap.String("zone", apex), zap.Error(err))
		}
		return nil
	})
}

// zoneLine is a zone of the configuration file.
type zoneLine struct {
	name     string
	settings []string
}

// readZones reads the zones of a file, a line each: ZONE KEY=VALUE…, as nereid cns zone add takes them; # begins a
// comment. What the settings mean is checked when they are taken.
func readZones(path string) ([]zoneLine, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--cns-config: %w", err)
	}
	defer f.Close()
	var all []zoneLine
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		if _, err := record.FQDN(words[0]); err != nil {
			return nil, fmt.Errorf("--cns-config %s, line %d: %w", path, n, err)
		}
		all = append(all, zoneLine{words[0], words[1:]})
	}
	return all, lines.Err()
}

// ensureZones makes the zones of the configuration file, and gives those that are there the settings it names.
func (d *daemon) ensureZones(ctx context.Context) error {
	for _, z := range d.zones {
		if err := d.namesAdmin.Ensure(ctx, z.name, z.settings); err != nil {
			return fmt.Errorf("--cns-config: %w", err)
		}
	}
	return nil
}

// labelProblems says what is wrong with the labels that name a container.
func labelProblems(labels map[string]string) []string {
	var all []string
	for _, p := range record.CheckLabels(labels) {
		all = append(all, p.String())
	}
	return all
}
