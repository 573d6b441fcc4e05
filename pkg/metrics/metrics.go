// Package metrics serves what operators watch, in Prometheus' form.
package metrics

import (
	"context"
	"errors"
	"net"
	"net/http"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nereid-paas/nereid/pkg/nereid"
	"github.com/nereid-paas/nereid/pkg/state"
)

// live is what the last collection found to be in use, beside what Go's collector shows by itself.
var live = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}

// stopTimeout bounds how long a stop waits for a scrape under way.
const stopTimeout = 2 * time.Second

// Serve answers GET /metrics on the listener until the context ends. It closes the listener.
func Serve(ctx context.Context, l net.Listener, cs ...prometheus.Collector) error {
	reg := prometheus.NewRegistry()
	cs = append(cs, collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(live)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, c := range cs {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		_ = srv.Shutdown(bound)
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Lane is how busy one kind of bounded work is.
type Lane struct {
	Kind             string
	Waiting, Running int
}

// Lanes tells how much of each kind of work waits and goes on.
type Lanes func() []Lane

var (
	waitingDesc = prometheus.NewDesc("nereid_work_waiting", "Operations that wait for their turn, by kind.", []string{"kind"}, nil)
	runningDesc = prometheus.NewDesc("nereid_work_running", "Operations under way of kinds that have bounds, by kind.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (Lanes) Describe(ch chan<- *prometheus.Desc) { ch <- waitingDesc; ch <- runningDesc }

// Collect implements prometheus.Collector.
func (l Lanes) Collect(ch chan<- prometheus.Metric) {
	for _, lane := range l() {
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(lane.Waiting), lane.Kind)
		ch <- prometheus.MustNewConstMetric(runningDesc, prometheus.GaugeValue, float64(lane.Running), lane.Kind)
	}
}

// Containers counts a host's containers by status, from the view.
type Containers struct {
	View *state.View
	Host nereid.Host
}

var containersDesc = prometheus.NewDesc("nereid_containers", "Containers of this host by status.", []string{"status"}, nil)

// Describe implements prometheus.Collector.
func (Containers) Describe(ch chan<- *prometheus.Desc) { ch <- containersDesc }

// Collect implements prometheus.Collector.
func (c Containers) Collect(ch chan<- prometheus.Metric) {
	counts := map[string]int{
		state.StatusCreated: 0, state.StatusRunning: 0, state.StatusPaused: 0, state.StatusRestarting: 0,
		state.StatusRemoving: 0, state.StatusExited: 0, state.StatusDead: 0,
	}
	for _, r := range c.View.ContainersOn(c.Host) {
		counts[r.State.Status]++
	}
	for status, n := range counts {
		ch <- prometheus.MustNewConstMetric(containersDesc, prometheus.GaugeValue, float64(n), status)
	}
}
