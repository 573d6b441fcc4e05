package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "answer"})
	gauge.Set(42)
	lanes := Lanes(func() []Lane { return []Lane{{Kind: "start", Waiting: 5, Running: 4}} })
	go func() { done <- Serve(ctx, l, gauge, lanes) }()
	res, err := http.Get("http://" + l.Addr().String() + "/metrics")
	assert.NilError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	assert.NilError(t, err)
	assert.Assert(t, is.Contains(string(body), "answer 42"))
	assert.Assert(t, is.Contains(string(body), "go_goroutines"))
	assert.Assert(t, is.Contains(string(body), "go_gc_heap_live_bytes"))
	assert.Assert(t, is.Contains(string(body), `nereid_work_waiting{kind="start"} 5`))
	assert.Assert(t, is.Contains(string(body), `nereid_work_running{kind="start"} 4`))
	cancel()
	assert.NilError(t, <-done)
}
