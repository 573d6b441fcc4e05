package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	zoneSerialDesc  = prometheus.NewDesc("nereid_dns_zone_serial", "Serial of a zone.", []string{"zone"}, nil)
	zoneNamesDesc   = prometheus.NewDesc("nereid_dns_zone_names", "Names with records in a zone.", []string{"zone"}, nil)
	changeDesc      = prometheus.NewDesc("nereid_dns_change_seconds", "Time that the last change of the state took to come into the zones.", nil, nil)
	exactDesc       = prometheus.NewDesc("nereid_dns_exact", "1 while the zones are those of the state, so that they may be transferred.", nil, nil)
	transfersDesc   = prometheus.NewDesc("nereid_dns_transfers_total", "Transfers by what they came to, and NOTIFY messages.", []string{"kind"}, nil)
	secondaryDesc   = prometheus.NewDesc("nereid_dns_secondary_serial", "Serial that a secondary has, 0 while it is not known.", []string{"zone", "secondary"}, nil)
	transferLagDesc = prometheus.NewDesc("nereid_dns_transfer_lag_seconds", "Time for which a secondary has lacked changes.", []string{"zone", "secondary"}, nil)
)

// Describe implements prometheus.Collector.
func (a *Admin) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{zoneSerialDesc, zoneNamesDesc, changeDesc, exactDesc, transfersDesc, secondaryDesc, transferLagDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (a *Admin) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if set := a.publisher.Zones(); set != nil {
		for _, z := range set.Zones() {
			gauge(zoneSerialDesc, float64(z.Serial), z.Apex)
			gauge(zoneNamesDesc, float64(set.Names(z.Apex)), z.Apex)
		}
	}
	gauge(changeDesc, a.publisher.Took().Seconds())
	exact := 0.0
	if a.publisher.Exact() {
		exact = 1
	}
	gauge(exactDesc, exact)
	for kind, n := range a.transfers.Counts() {
		ch <- prometheus.MustNewConstMetric(transfersDesc, prometheus.CounterValue, float64(n), kind)
	}
	for _, p := range a.transfers.Peers() {
		lag := 0.0
		if !p.Behind.IsZero() {
			lag = time.Since(p.Behind).Seconds()
		}
		gauge(secondaryDesc, float64(p.Serial), p.Apex, address(p.Secondary.Addr))
		gauge(transferLagDesc, lag, p.Apex, address(p.Secondary.Addr))
	}
}
